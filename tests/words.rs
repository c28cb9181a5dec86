//! The user's own words: four recipes with only a base and a number of steps set, `synapse-merge --method ties
//! --trim 0.8`, and `synapse-train serve outputs/synapse-3b`. The hub's datasets are files in an offline cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::{
    serving::Server,
    support::{Root, expect, repository, stderr, stdout},
};

/// Where a file of a dataset lies in the cache that the hub crate and Python's huggingface_hub share.
pub(crate) fn cached(root: &Root, id: &str, revision: &str, file: &str) -> PathBuf {
    let folder = root.join("hf/hub").join(format!("datasets--{}", id.replace('/', "--")));
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), revision).unwrap();
    let path = folder.join("snapshots").join(revision).join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn parquet(path: &Path, columns: &[(&str, Vec<String>)]) {
    let arrays = columns
        .iter()
        .map(|(name, values)| (*name, Arc::new(StringArray::from(values.clone())) as ArrayRef));
    let batch = RecordBatch::try_from_iter(arrays).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// `count` different sentences.
fn texts(count: usize, what: &str) -> Vec<String> {
    (0..count)
        .map(|i| format!("{what} number {i}: how much is {i} plus {}?", i + 2))
        .collect()
}

/// Revisions of data/registry.yaml: dataset id → commit, where one is pinned.
fn revision(id: &str) -> String {
    let text = std::fs::read_to_string(repository().join("data/registry.yaml")).unwrap();
    let after = text
        .split(&format!("id: {id}"))
        .nth(1)
        .unwrap_or_else(|| panic!("{id} is not in the registry"));
    let entry = after.split("\n\n").next().unwrap();
    let line = entry.lines().find_map(|line| {
        line.trim()
            .strip_prefix("revision:")
            .map(|text| text.split('#').next().unwrap().trim().trim_matches('"').to_owned())
    });
    line.unwrap_or_else(|| "0123456789012345678901234567890123456789".to_owned())
}

fn fill_cache(root: &Root) {
    let place = |id: &str, file: &str| cached(root, id, &revision(id), file);
    let rows = 300;
    let answers: Vec<String> = (0..20).map(|i| format!("#### {i}")).collect();
    let questions = [("question", texts(20, "test")), ("answer", answers)];
    parquet(&place("openai/gsm8k", "main/test-00000-of-00001.parquet"), &questions);
    for (id, file) in [
        ("openai/gsm8k", "main/train-00000-of-00001.parquet"),
        (
            "microsoft/orca-math-word-problems-200k",
            "data/train-00000-of-00001.parquet",
        ),
    ] {
        let answers = (0..rows)
            .map(|i| format!("{i} + {} = {}\n#### {}", i + 2, 2 * i + 2, 2 * i + 2))
            .collect();
        parquet(&place(id, file), &[("question", texts(rows, id)), ("answer", answers)]);
    }
    for shard in 0..2 {
        let file = format!("data/train-0000{shard}-of-00114-abcdef0123456789.parquet");
        parquet(
            &place("open-web-math/open-web-math", &file),
            &[
                ("url", texts(rows, "u")),
                ("text", texts(rows, &format!("shard {shard} page"))),
                ("date", texts(rows, "d")),
                ("metadata", texts(rows, "m")),
            ],
        );
    }
    let alpaca = |what: &str, input: bool| {
        let row = |i: usize| {
            let asked = if what == "general" {
                "describe the old town on hill"
            } else {
                "write a function that adds to its argument"
            };
            let mut row = serde_json::json!({"instruction": format!("{what} task {i}: {asked} {i}"), "output": format!("def f(x):\n    return x + {i}  # {what}")});
            if input {
                row["input"] = "".into();
            }
            row
        };
        serde_json::to_string(&(0..rows).map(row).collect::<Vec<_>>()).unwrap()
    };
    std::fs::write(
        place("sahil2801/CodeAlpaca-20k", "code_alpaca_20k.json"),
        alpaca("code", true),
    )
    .unwrap();
    std::fs::write(
        place("nickrosh/Evol-Instruct-Code-80k-v1", "EvolInstruct-Code-80k.json"),
        alpaca("evolved", false),
    )
    .unwrap();
    std::fs::write(
        place("yahma/alpaca-cleaned", "alpaca_data_cleaned.json"),
        alpaca("general", true),
    )
    .unwrap();
    let python = [
        ("instruction", texts(rows, "python")),
        ("input", vec![String::new(); rows]),
        ("output", texts(rows, "x =")),
        ("prompt", texts(rows, "p")),
    ];
    parquet(
        &place(
            "iamtarun/python_code_instructions_18k_alpaca",
            "data/train-00000-of-00001-8b6e212f3e1ece96.parquet",
        ),
        &python,
    );
    let orca: String = (0..rows)
        .map(|i| format!("{{\"conversations\": [{{\"from\": \"human\", \"value\": \"Question {i}?\", \"weight\": 0}}, {{\"from\": \"gpt\", \"value\": \"Answer {i}.\", \"weight\": 1}}]}}\n"))
        .collect();
    std::fs::write(
        place("Open-Orca/SlimOrca", "oo-labeled_correct.gpt4.sharegpt.jsonl"),
        orca,
    )
    .unwrap();
}

#[test]
fn four_recipes_a_merge_and_a_served_model() {
    let root = Root::new();
    fill_cache(&root);
    let base = format!("base={}", Root::base().display());
    for name in ["math", "code", "general", "coordinator"] {
        let recipe = format!("recipes/{name}.yaml");
        let mut arguments = vec!["run", &recipe, "--set", &base, "--set", "train.max_steps=3"];
        if name == "math" {
            // the benchmark's own test split is asked, two questions of it
            arguments.extend(["--set", "evaluate.limit=2", "--set", "evaluate.max_new_tokens=8"]);
        } else {
            arguments.extend(["--until", "train"]);
        }
        let output = root.ok(&arguments);
        assert_eq!(stdout(&output).contains("gsm8k"), name == "math", "{}", stdout(&output));
        assert!(
            root.join(&format!("outputs/{name}/adapter_model.safetensors"))
                .is_file()
        );
    }
    let output = expect(root.merge(&["--method", "ties", "--trim", "0.8"]).output().unwrap(), 0);
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert!(said.contains("keep 20 %"), "{said}");
    let server = Server::start(&root, &["outputs/synapse-3b"]);
    let body = r#"{"model": "synapse-3b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}"#;
    let (status, answer) = server.request("POST", "/v1/chat/completions", body);
    assert!(status == 200 && answer.contains("\"assistant\""), "{answer}");
}
