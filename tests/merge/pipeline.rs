//! `synapse-merge --method ties --trim 0.8` and nothing else: the specialists of pipelines/synapse-3b.yaml.

use std::fs;

use super::support::Workplace;

const WORDS: [&str; 4] = ["--method", "ties", "--trim", "0.8"];
const NAMES: [&str; 4] = ["math", "code", "general", "coordinator"];

/// A checkout whose four recipes have run: their outputs are the fixtures' adapters.
fn trained() -> Workplace {
    let workplace = Workplace::with(&["base", "math", "code", "general", "coordinator"]);
    fs::create_dir(workplace.path("outputs")).unwrap();
    workplace.write("recipes/rows.jsonl", "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n");
    for name in NAMES {
        fs::rename(workplace.path(name), workplace.path(&format!("outputs/{name}"))).unwrap();
        workplace.write(
            &format!("recipes/{name}.yaml"),
            &format!("name: {name}\nbase: ../base\ndata:\n  - {{ dataset: rows.jsonl, samples: all }}\noutput: outputs/{name}\n"),
        );
    }
    workplace.write(
        "pipelines/synapse-3b.yaml",
        "name: synapse-3b
recipes: [../recipes/math.yaml, ../recipes/code.yaml, ../recipes/general.yaml, ../recipes/coordinator.yaml]
merge: { method: ties, trim: 0.5, sign: frequency, lambda: 1.0, weights: { math: 1.0, code: 0.5, general: 1.0, coordinator: 1.0 } }
gate: { max_regress: 0.02, on: held-out-loss, action: refuse }
export: { dtype: bf16, shard_size: 5GB, gguf: [q8_0] }
output: outputs/synapse-3b
",
    );
    workplace
}

#[test]
fn the_users_own_words() {
    let workplace = trained();
    let ran = workplace.run(&WORDS).exits(0);
    assert_eq!(ran.stdout(), "outputs/synapse-3b\n");
    ran.says("pipelines/synapse-3b.yaml: 4 specialists")
        .says("math: outputs/math (weight 1)")
        .says("code: outputs/code (weight 0.5)")
        .says("base: base")
        .says("trim 0.8: zero the smallest 80 %, keep 20 %");
    let first = workplace.hashes("outputs/synapse-3b");
    let recipe = workplace.read("outputs/synapse-3b/merge.yaml");
    assert!(
        recipe.contains("base_model: \"base\"") && recipe.contains("\"base+outputs/math\""),
        "{recipe}"
    );
    workplace.run(&["outputs/synapse-3b/merge.yaml"]).exits(0);
    assert_eq!(workplace.hashes("outputs/synapse-3b"), first);
    // Other folders in outputs/ are no part of it, and another pipeline is another merge.
    fs::create_dir(workplace.path("outputs/extra")).unwrap();
    workplace.run(&WORDS).exits(0);
    assert_eq!(workplace.hashes("outputs/synapse-3b"), first);
    fs::copy(
        workplace.path("pipelines/synapse-3b.yaml"),
        workplace.path("pipelines/two.yaml"),
    )
    .unwrap();
    workplace.edit("pipelines/two.yaml", "outputs/synapse-3b", "outputs/two");
    workplace.edit(
        "pipelines/two.yaml",
        ", ../recipes/general.yaml, ../recipes/coordinator.yaml",
        "",
    );
    workplace.edit("pipelines/two.yaml", ", general: 1.0, coordinator: 1.0", "");
    workplace
        .run(&["--pipeline", "pipelines/two.yaml"])
        .exits(0)
        .says("trim 0.5")
        .says("2 inputs");
}

#[test]
fn lists_every_missing_adapter() {
    let workplace = trained();
    for name in ["code", "coordinator"] {
        fs::remove_dir_all(workplace.path(&format!("outputs/{name}"))).unwrap();
    }
    let ran = workplace.run(&WORDS).exits(2);
    assert!(ran.stdout().is_empty());
    ran.says("code: no adapter in outputs/code; train it with `synapse-train run recipes/code.yaml`")
        .says("coordinator: no adapter in outputs/coordinator");
    assert!(!workplace.path("outputs/synapse-3b").exists());
}

#[test]
fn lists_bases_that_disagree() {
    let workplace = trained();
    workplace.edit(
        "outputs/general/adapter_config.json",
        "\"base_model_name_or_path\": \"base\"",
        "\"base_model_name_or_path\": \"org/other\"",
    );
    let ran = workplace.run(&WORDS).exits(2);
    ran.says("trained on different bases")
        .says("general: org/other (outputs/general)")
        .says("math: base (outputs/math)");
    assert!(!workplace.path("outputs/synapse-3b").exists());
}

#[test]
fn a_bad_pipeline_is_a_bad_request() {
    let workplace = trained();
    workplace.edit("pipelines/synapse-3b.yaml", "trim: 0.5", "trim: 1.5");
    workplace.run(&WORDS).exits(2).says("pipelines/synapse-3b.yaml:3");
    workplace
        .run(&["--pipeline", "recipes/math.yaml"])
        .exits(2)
        .says("is a recipe; --pipeline takes a pipeline");
    Workplace::empty()
        .run(&WORDS)
        .exits(2)
        .says("pipelines/synapse-3b.yaml is not here");
}

#[test]
fn a_pipeline_names_any_method_and_its_parameters() {
    let workplace = trained();
    workplace.edit(
        "pipelines/synapse-3b.yaml",
        "method: ties, trim: 0.5",
        "method: della, trim: 0.5, parameters: { epsilon: 0.3 }, seed: 7",
    );
    workplace.run(&[]).exits(0).says("della: 4 inputs").says("epsilon: 0.3");
    let recipe = workplace.read("outputs/synapse-3b/merge.yaml");
    assert!(
        recipe.contains("epsilon: 0.3") && recipe.contains("seed: 7"),
        "{recipe}"
    );
    workplace.run(&["verify", "outputs/synapse-3b"]).exits(0);
    workplace.edit("pipelines/synapse-3b.yaml", "epsilon", "gamma");
    workplace
        .run(&[])
        .exits(2)
        .says("merge.parameters.gamma")
        .says("della has no parameter `gamma`");
}
