//! Columns of every kind of file: nested values as `datasets` writes them, columns that come late, compressed files.
//! tests/fixtures/make_fixtures.py made the files and what `datasets` 5.2.0 and transformers 5.24.0 make of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use synapse_data::{SourceFile, read_records};
use synapse_recipe::{LossOn, Samples, TrainPlan};

use crate::support::{data_plan, run, run_without_system, source, sums, train_plan};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("expected.json")).unwrap()).unwrap()
}

const FILES: [&str; 7] = [
    "calls.jsonl",
    "calls-structs.parquet",
    "calls-json-columns.parquet",
    "calls-json-elements.parquet",
    "calls-json-nested.parquet",
    "calls-logical.parquet",
    "calls-json.arrow",
];

#[test]
fn tool_calls_are_the_same_in_every_kind_of_file() {
    let expected = expected();
    assert_eq!(expected["rows"], expected["structs"]);
    for name in FILES {
        let records = read_records(&SourceFile::local(&fixture(name)).unwrap()).unwrap();
        let rows: Vec<Value> = records.into_iter().map(|(_, row)| row.into()).collect();
        assert_eq!(Value::from(rows), expected["rows"], "{name}");
    }
}

#[test]
fn tool_calls_train_the_text_that_transformers_renders() {
    let mut expected: Vec<String> = serde_json::from_value(expected()["texts"].clone()).unwrap();
    expected.sort();
    let train = TrainPlan {
        max_seq_len: 4096,
        loss_on: LossOn::All,
        ..train_plan()
    };
    for name in FILES {
        let plan = data_plan(vec![source(&fixture(name), Samples::All)], 0);
        let prepared = run_without_system(&plan, &train).unwrap();
        let mut texts = prepared.texts("train.arrow");
        texts.sort();
        assert_eq!(texts, expected, "{name}");
    }
}

#[test]
fn a_broken_call_of_the_history_reads_as_in_transformers() {
    let plan = data_plan(vec![source(&fixture("broken.jsonl"), Samples::All)], 0);
    let train = TrainPlan {
        max_seq_len: 1024,
        ..train_plan()
    };
    let prepared = run_without_system(&plan, &train).unwrap();
    assert_eq!(prepared.texts("train.arrow"), [expected()["broken"].as_str().unwrap()]);
}

#[test]
fn a_column_that_comes_late_is_used_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let rows = [
        json!({"instruction": "Add", "input": "1 2", "output": "3"}),
        json!({"instruction": "Say", "input": null, "output": "hi"}),
        json!({"instruction": "Go", "output": "ok"}),
        json!({"instruction": "h", "input": "", "output": "o", "history": [["a", "b"]], "system_prompt": "S"}),
    ];
    std::fs::write(&path, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let prepared = run(&data_plan(vec![source(&path, Samples::All)], 0), &train_plan()).unwrap();
    assert_eq!(prepared.manifest.sources[0].unused_columns, ["history"]);
    let report = prepared.manifest.to_string();
    assert!(report.contains("not read  columns history\n"), "{report}");
    let texts = prepared.texts("train.arrow");
    assert_eq!(
        texts.iter().filter(|text| text.contains("system\nS<|im_end|>")).count(),
        1,
        "{texts:?}"
    );
    // A recipe may map it too.
    let mut mapped = source(&path, Samples::All);
    mapped.map = [("input".to_owned(), "history".to_owned())].into();
    let error = run(&data_plan(vec![mapped], 0), &train_plan())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "rows.jsonl:4: `input` is a list where text was expected");
}

#[test]
fn keys_of_turns_that_nothing_reads_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let row = |extra: Value| {
        let mut answer = json!({"role": "assistant", "content": "a"});
        answer
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"messages": [{"role": "user", "content": extra.to_string()}, answer]}).to_string()
    };
    let rows = [
        row(json!({})),
        row(json!({"reasoning_content": "because", "refusal": null})),
    ];
    std::fs::write(&path, rows.join("\n")).unwrap();
    let prepared = run(&data_plan(vec![source(&path, Samples::All)], 0), &train_plan()).unwrap();
    assert_eq!(
        prepared.manifest.sources[0].unused_columns,
        ["messages[].reasoning_content"]
    );
}

#[test]
fn compressed_rows_give_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let plain = sums(folder.path(), "rows", 40);
    let text = std::fs::read(&plain).unwrap();
    let hash = |path: &Path| {
        let prepared = run(&data_plan(vec![source(path, Samples::All)], 4), &train_plan()).unwrap();
        (prepared.manifest.train.sha256, prepared.manifest.held_out.sha256)
    };
    let expected = hash(&plain);
    let zst = folder.path().join("rows.jsonl.zst");
    std::fs::write(&zst, zstd::stream::encode_all(&text[..], 3).unwrap()).unwrap();
    assert_eq!(hash(&zst), expected);
}
