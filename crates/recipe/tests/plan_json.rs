//! Plans as JSON. Stages are fingerprinted by this text, so a run folder of before resumes only while keys, their
//! order and the values stay as they are.
#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::path::Path;

/// The plan of a shipped file as JSON, with paths that start at the repository's root.
fn plan_json(file: &str, overrides: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let plan = synapse_recipe::load(&root.join(file), &overrides).unwrap();
    let text = serde_json::to_string_pretty(&plan).unwrap();
    text.replace(&format!("{}/", root.display()), "")
}

macro_rules! snapshot {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($text);
        })
    };
}

#[test]
fn plan_of_a_pipeline() {
    let overrides = [
        "merge.method=breadcrumbs_ties",
        "merge.sign=total",
        "merge.trim=0.75",
        "merge.parameters.gamma=0.01",
        "merge.seed=7",
        "export.dtype=f16",
        "export.gguf=[q8_0, bf16]",
        "gate.action=stamp",
    ];
    snapshot!(plan_json("pipelines/quickstart.yaml", &overrides));
}

#[test]
fn plan_of_a_recipe() {
    let file = |suite: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().unwrap();
        format!(
            "evaluate.files.{suite}={}/data/nano/train/coordinator.jsonl",
            root.display()
        )
    };
    let (gsm8k, custom) = (file("gsm8k"), file("custom"));
    let overrides = [
        "evaluate.suites=[held-out-loss, gsm8k, code-tests, custom]",
        "evaluate.prompting=raw",
        &gsm8k,
        &custom,
        "filters.decontaminate=true",
        "train.recompute=false",
    ];
    snapshot!(plan_json("recipes/math.yaml", &overrides));
}
