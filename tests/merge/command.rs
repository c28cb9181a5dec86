//! `synapse-merge` as a user runs it: exit codes, what it says, what it leaves.

use synapse_checkpoint::ModelFolder;

use super::support::Workplace;

const ALL: [&str; 5] = ["base", "math", "code", "general", "coordinator"];
const FOUR: [&str; 8] = [
    "--adapter",
    "math",
    "--adapter",
    "code",
    "--adapter",
    "general",
    "--adapter",
    "coordinator",
];

fn with<'a>(inputs: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    inputs.iter().chain(more).copied().collect()
}

#[test]
fn merges_adapters_onto_the_base_they_name() {
    let workplace = Workplace::with(&ALL);
    let ran = workplace
        .run(&with(&FOUR, &["--method", "ties", "--trim", "0.8", "--out", "merged"]))
        .exits(0);
    assert_eq!(ran.stdout(), "merged\n");
    ran.says("trim 0.8: zero the smallest 80 %, keep 20 %")
        .says("sign frequency, a tie merges nothing")
        .says("14 tensors merged, 12 copied");
    let merged = ModelFolder::open(&workplace.path("merged")).unwrap();
    let base = ModelFolder::open(&workplace.path("base")).unwrap();
    assert_ne!(
        merged.read_f32("model.layers.0.mlp.up_proj.weight").unwrap(),
        base.read_f32("model.layers.0.mlp.up_proj.weight").unwrap()
    );
    assert_eq!(
        merged.read_f32("model.norm.weight").unwrap(),
        base.read_f32("model.norm.weight").unwrap()
    );
    for companion in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        assert_eq!(
            workplace.read(&format!("merged/{companion}")),
            workplace.read(&format!("base/{companion}"))
        );
    }
    let entries = ["base", "code", "coordinator", "general", "math", "merged"];
    assert_eq!(workplace.entries(), entries, "nothing half-written is left");
}

#[test]
fn a_merge_yaml_makes_the_same_bytes() {
    let workplace = Workplace::with(&ALL);
    let odd = [
        "--adapter",
        "m=math@0.3",
        "--adapter",
        "code@1.7",
        "--adapter",
        "general",
        "--trim",
        "0.37",
        "--sign",
        "total",
    ];
    workplace
        .run(&with(
            &odd,
            &["--lambda", "0.9", "--out", "merged", "--out-shard-size", "2KB"],
        ))
        .exits(0);
    let first = workplace.hashes("merged");
    assert!(first.contains("model-00001-of-0000"), "{first}");
    // In place, elsewhere, and from another folder's copy.
    workplace.run(&["merged/merge.yaml"]).exits(0).says("replacing merged");
    assert_eq!(workplace.hashes("merged"), first);
    workplace.run(&["merged/merge.yaml", "--out", "again"]).exits(0);
    assert_eq!(workplace.hashes("again"), first);
    // A retrained adapter is another merge.
    std::fs::copy(
        workplace.path("coordinator/adapter_config.json"),
        workplace.path("spare"),
    )
    .unwrap();
    workplace.edit(
        "math/adapter_config.json",
        "\"lora_dropout\": 0.05",
        "\"lora_dropout\": 0.1",
    );
    let ran = workplace.run(&["merged/merge.yaml"]).exits(1);
    ran.says("math: contents have changed since the recipe was written: expected sha256");
    assert_eq!(workplace.hashes("merged"), first, "a failed merge leaves the old one");
}

#[test]
fn every_method_reruns_from_its_merge_yaml() {
    let workplace = Workplace::with(&["base", "math", "code", "full-a", "full-b"]);
    let merges: [&[&str]; 5] = [
        &["--method", "linear", "--adapter", "math@2", "--adapter", "code"],
        &[
            "--method", "linear", "--model", "full-a", "--model", "full-b@3", "--dtype", "bf16",
        ],
        &["--method", "linear", "--model", "full-a", "--base", "base"],
        &[
            "--method",
            "task_arithmetic",
            "--base",
            "base",
            "--adapter",
            "math@-0.5",
            "--model",
            "full-b@0.4",
            "--lambda",
            "0.7",
        ],
        &[
            "--density",
            "0.3",
            "--base",
            "base",
            "--model",
            "full-a",
            "--model",
            "full-b",
            "--adapter",
            "code",
            "--zero-sign",
            "positive",
        ],
    ];
    for (index, merge) in merges.iter().enumerate() {
        let out = format!("out-{index}");
        workplace.run(&with(merge, &["--out", &out])).exits(0);
        let first = workplace.hashes(&out);
        workplace
            .run(&[&format!("{out}/merge.yaml"), "--out", "again"])
            .exits(0);
        assert_eq!(
            workplace.hashes("again"),
            first,
            "{merge:?}\n{}",
            workplace.read(&format!("{out}/merge.yaml"))
        );
    }
}

#[test]
fn threads_change_nothing() {
    let workplace = Workplace::with(&ALL);
    for threads in ["1", "2", "3"] {
        workplace
            .run_with(&with(&FOUR, &["--out", threads]), &[("RAYON_NUM_THREADS", threads)])
            .exits(0);
        assert_eq!(workplace.hashes(threads), workplace.hashes("1"));
    }
}

#[test]
fn the_report_goes_to_stdout_on_request() {
    let workplace = Workplace::with(&ALL);
    let ran = workplace.run(&with(&FOUR, &["--out", "merged", "--json"])).exits(0);
    assert_eq!(ran.stdout(), workplace.read("merged/merge_report.json"));
    let report: serde_json::Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(
        report["inputs"][3],
        serde_json::json!({"name": "coordinator", "weight": 1.0, "trim": "0.8"})
    );
}

#[test]
fn an_output_dtype_is_declared() {
    let workplace = Workplace::with(&["base", "math"]);
    workplace
        .run(&["--adapter", "math", "--out", "merged", "--dtype", "f32"])
        .exits(0);
    assert!(
        workplace
            .read("merged/config.json")
            .contains("\"torch_dtype\": \"float32\"")
    );
    assert!(workplace.read("merged/merge.yaml").contains("out_dtype: float32"));
}

#[test]
fn refuses_bad_requests_with_exit_2() {
    let workplace = Workplace::with(&ALL);
    let bad: [(&[&str], &str); 14] = [
        (
            &["--adapter", "math", "--trim", "1.5", "--out", "o"],
            "trim 1.5 must be at least 0 and below 1",
        ),
        (&["--adapter", "math", "--trim", "-0.1", "--out", "o"], "-0.1"),
        (
            &["--adapter", "math", "--density", "0", "--out", "o"],
            "density 0 must be above 0",
        ),
        (
            &["--adapter", "math", "--method", "slrp", "--out", "o"],
            "did you mean `slerp`?",
        ),
        (&["--adapter", "math"], "no output folder; pass --out DIR"),
        (&["--adapter", "nothing", "--out", "o"], "holds no adapter_config.json"),
        (
            &["--adapter", "math", "--adapter", "x=base", "--out", "o"],
            "x: base: holds no adapter_config.json",
        ),
        (
            &["--adapter", "math", "--adapter", "math", "--out", "o"],
            "two inputs are called `math`",
        ),
        (
            &["--adapter", "math", "--base", "missing", "--out", "o"],
            "missing does not exist",
        ),
        (&["--adapter", "math", "--out", "base"], "would replace the input base"),
        (&["--adapter", "math", "--out", "."], "would replace the input"),
        (
            &["--adapter", "math", "--method", "linear", "--trim", "0.5", "--out", "o"],
            "linear has no --trim",
        ),
        (
            &["--adapter", "math@0", "--method", "linear", "--out", "o"],
            "the weights sum to 0",
        ),
        (&["--adapter", "math@-1", "--out", "o"], "set normalize to false"),
    ];
    for (arguments, message) in bad {
        let ran = workplace.run(arguments).exits(2).says(message);
        assert!(!ran.stderr().contains("panicked") && ran.stdout().is_empty());
        assert_eq!(
            workplace.entries(),
            ["base", "code", "coordinator", "general", "math"],
            "{arguments:?}"
        );
    }
}

#[test]
fn lists_bases_that_disagree() {
    let workplace = Workplace::with(&ALL);
    workplace.edit(
        "code/adapter_config.json",
        "\"base_model_name_or_path\": \"base\"",
        "\"base_model_name_or_path\": \"other/model\"",
    );
    let ran = workplace.run(&with(&FOUR, &["--out", "merged"])).exits(2);
    ran.says("trained on different bases")
        .says("code: other/model (code)")
        .says("math: base (math)");
    // The same folder in other words is the same base; --base settles the rest.
    workplace.edit("code/adapter_config.json", "other/model", "./math/../base");
    workplace.run(&with(&FOUR, &["--out", "merged"])).exits(0);
}

#[test]
fn a_base_on_the_hub_is_not_fetched_when_offline() {
    let workplace = Workplace::with(&ALL);
    workplace.edit(
        "math/adapter_config.json",
        "\"base_model_name_or_path\": \"base\"",
        "\"base_model_name_or_path\": \"some/model\"",
    );
    workplace
        .run(&["--adapter", "math", "--out", "merged"])
        .exits(2)
        .says("some/model");
    workplace
        .run(&["--adapter", "math", "--base", "base", "--out", "merged"])
        .exits(0);
}

#[test]
fn a_cached_base_is_found_offline_and_called_by_its_id() {
    let workplace = Workplace::with(&["base", "math"]);
    let snapshot = "hub-cache/hub/models--some--model/snapshots/0123456789abcdef0123456789abcdef01234567";
    std::fs::create_dir_all(workplace.path(snapshot)).unwrap();
    std::fs::remove_dir(workplace.path(snapshot)).unwrap();
    std::fs::rename(workplace.path("base"), workplace.path(snapshot)).unwrap();
    workplace.write(
        "hub-cache/hub/models--some--model/refs/main",
        "0123456789abcdef0123456789abcdef01234567",
    );
    workplace.edit(
        "math/adapter_config.json",
        "\"base_model_name_or_path\": \"base\"",
        "\"base_model_name_or_path\": \"some/model\"",
    );
    workplace.run(&["--adapter", "math", "--out", "merged"]).exits(0);
    let recipe = workplace.read("merged/merge.yaml");
    assert!(
        recipe.contains("base_model: \"some/model\"") && !recipe.contains("hub-cache"),
        "{recipe}"
    );
    let first = workplace.hashes("merged");
    workplace.run(&["merged/merge.yaml"]).exits(0);
    assert_eq!(workplace.hashes("merged"), first);
}

#[test]
fn names_what_does_not_fit_the_base() {
    let workplace = Workplace::with(&["base", "math", "full-a"]);
    workplace.edit(
        "base/config.json",
        "\"num_hidden_layers\": 2",
        "\"num_hidden_layers\": 3",
    );
    workplace
        .run(&["--adapter", "math", "--out", "o"])
        .exits(2)
        .says("model.layers.2.");
    workplace.edit(
        "base/config.json",
        "\"num_hidden_layers\": 3",
        "\"num_hidden_layers\": 2",
    );
    workplace.edit(
        "full-a/config.json",
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": false",
    );
    workplace
        .run(&["--model", "full-a", "--base", "base", "--out", "o"])
        .exits(2)
        .says("lm_head.weight");
}

#[test]
fn a_truncated_file_is_named() {
    let workplace = Workplace::with(&ALL);
    for file in ["code/adapter_model.safetensors", "base/model.safetensors"] {
        let bytes = std::fs::read(workplace.path(file)).unwrap();
        std::fs::write(workplace.path(file), &bytes[..bytes.len() - 7]).unwrap();
        let ran = workplace
            .run(&with(&FOUR, &["--out", "merged"]))
            .exits(2)
            .says(file)
            .says("truncated");
        assert!(!ran.stderr().contains("panicked"));
        assert_eq!(workplace.entries(), ["base", "code", "coordinator", "general", "math"]);
        std::fs::write(workplace.path(file), bytes).unwrap();
    }
}

#[test]
fn not_a_number_is_found_and_named() {
    let workplace = Workplace::with(&ALL);
    let file = workplace.path("code/adapter_model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let ran = workplace.run(&with(&FOUR, &["--out", "merged"])).exits(1);
    ran.says("code: model.layers.1.").says("non-finite");
    workplace
        .run(&["--adapter", "code", "--method", "linear", "--out", "merged"])
        .exits(1)
        .says("not finite as BF16");
    assert_eq!(workplace.entries(), ["base", "code", "coordinator", "general", "math"]);
}

#[test]
fn does_not_replace_what_is_no_merge() {
    let workplace = Workplace::with(&["base", "math"]);
    workplace.write("thesis/chapter.txt", "years of work");
    workplace
        .run(&["--adapter", "math", "--out", "thesis"])
        .exits(2)
        .says("is not a merge");
    assert_eq!(workplace.read("thesis/chapter.txt"), "years of work");
    std::fs::create_dir(workplace.path("empty")).unwrap();
    workplace.run(&["--adapter", "math", "--out", "empty"]).exits(0);
}
