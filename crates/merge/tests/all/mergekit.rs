//! mergekit's YAML: read with mergekit's meaning, refused or warned about by name where it differs.

use crate::support::Workplace;

#[test]
fn means_what_mergekit_means() {
    let workplace = Workplace::with(&["base", "math", "code"]);
    workplace.write(
        "ties.yml",
        "models:
  - model: base
    # no parameters necessary for base model
  - model: base+math
    parameters: {density: 0.5, weight: 0.5}
  - model: base+code
    parameters: {density: 0.2, weight: 1}
merge_method: ties
base_model: base
parameters: {normalize: true, int8_mask: true}
dtype: bfloat16
",
    );
    let ran = workplace.run(&["ties.yml", "--out", "merged"]).exits(0);
    ran.says("sign total, a draw goes to the positive side")
        .says("the arithmetic is f32")
        .says("math: trim 0.5")
        .says("code: trim 0.8");
    // The same by flags, where one trim is for all.
    workplace.edit("ties.yml", "density: 0.5", "density: 0.2");
    workplace.run(&["ties.yml", "--out", "by-file"]).exits(0);
    let flags = [
        "--adapter",
        "math@0.5",
        "--adapter",
        "code",
        "--sign",
        "total",
        "--zero-sign",
        "positive",
        "--out",
        "by-flags",
    ];
    workplace.run(&flags).exits(0);
    let weights = |folder: &str| std::fs::read(workplace.path(folder).join("model.safetensors")).unwrap();
    assert_eq!(weights("by-file"), weights("by-flags"));
    assert_ne!(weights("by-file"), weights("merged"));
}

#[test]
fn linear_needs_no_base() {
    let workplace = Workplace::with(&["base", "full-a", "full-b"]);
    let models =
        "models:\n  - {model: full-a, parameters: {weight: 1.0}}\n  - {model: full-b, parameters: {weight: 0.5}}\n";
    workplace.write("linear.yml", &format!("merge_method: linear\n{models}dtype: float32\n"));
    workplace.run(&["linear.yml", "--out", "merged"]).exits(0);
    workplace.write(
        "linear.yml",
        &format!("merge_method: linear\nbase_model: base\n{models}"),
    );
    workplace
        .run(&["linear.yml", "--out", "merged"])
        .exits(2)
        .says("counts as one more model");
    workplace.write("ties.yml", &format!("merge_method: ties\n{models}"));
    workplace
        .run(&["ties.yml", "--out", "merged"])
        .exits(2)
        .says("`base_model` is missing");
}

#[test]
fn misspelt_keys_are_named_with_the_nearest() {
    let workplace = Workplace::with(&["base", "math"]);
    workplace.write(
        "typo.yml",
        "merge_method: ties\nbase_model: base\nmodels:\n  - {model: base+math, parameters: {densty: 0.5, wieght: 1}}\n",
    );
    let ran = workplace.run(&["typo.yml", "--out", "merged"]).exits(0);
    ran.says("unknown key `models[0].parameters.densty` is ignored, as mergekit does; did you mean `density`?")
        .says("did you mean `weight`?")
        .says("keeps every entry");
}

#[test]
fn what_would_change_the_result_is_refused() {
    let workplace = Workplace::with(&["base", "math"]);
    let good = "merge_method: ties\nbase_model: base\nmodels:\n  - {model: base+math, parameters: {weight: 1}}\n";
    let bad = [
        (
            "merge_method: ties",
            "merge_method: tise",
            "unknown merge method `tise`",
        ),
        (
            "merge_method: ties",
            "merge_method: ties\ntokenizer: {source: base, tokens: {x: {source: base}}}",
            "`tokenizer.tokens` is not supported",
        ),
        ("models:", "slices:", "`slices[0].sources` is missing"),
        (
            "weight: 1",
            "weight: much",
            "`models[0].parameters.weight` must be a number, found `much`",
        ),
        ("weight: 1", "density: 1.5", "density 1.5 must be above 0"),
        ("base+math", "math+math", "adapters must share the base"),
        ("base+math", "base+nothing", "holds no adapter_config.json"),
        ("models:", "models: [", "not readable as YAML"),
        ("merge_method: ties\n", "", "`merge_method` is missing"),
    ];
    for (from, to, message) in bad {
        workplace.write("bad.yml", &good.replace(from, to));
        workplace.run(&["bad.yml", "--out", "merged"]).exits(2).says(message);
        assert_eq!(workplace.entries(), ["bad.yml", "base", "math"]);
    }
    workplace
        .run(&["missing.yml", "--out", "merged"])
        .exits(2)
        .says("missing.yml");
}
