//! mergekit's YAML: read with mergekit's meaning, refused or warned about by name where it differs.

use super::models::{self, SMALL, read};
use super::support::Workplace;

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
    ran.says("sign total, a tie goes to the positive side")
        .says("the arithmetic is always f32")
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
fn misspelled_keys_are_named_with_the_nearest() {
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

/// A base and two models around it, three layers each.
fn three_layers() -> Workplace {
    let workplace = Workplace::empty();
    models::write(&workplace.path("base"), SMALL, 1, None);
    models::write(&workplace.path("a"), SMALL, 2, Some((&workplace.path("base"), 0.02)));
    models::write(&workplace.path("b"), SMALL, 3, Some((&workplace.path("base"), 0.02)));
    workplace
}

#[test]
fn layers_are_stacked() {
    let workplace = three_layers();
    workplace.write(
        "stack.yml",
        "merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources:
      - model: b
        layer_range: [1, 3]
        parameters: {scale: [{filter: o_proj, value: 0.0}, {value: 1.0}]}
dtype: float32
",
    );
    workplace.run(&["stack.yml", "--out", "out"]).exits(0);
    let (a, b, out) = (
        read(&workplace.path("a")),
        read(&workplace.path("b")),
        read(&workplace.path("out")),
    );
    let up = |layer: usize| format!("model.layers.{layer}.mlp.up_proj.weight");
    for (layer, (model, from)) in [(&a, 0), (&a, 1), (&b, 1), (&b, 2)].into_iter().enumerate() {
        assert_eq!(out[&up(layer)], model[&up(from)], "layer {layer}");
    }
    assert!(
        out["model.layers.3.self_attn.o_proj.weight"]
            .iter()
            .all(|value| *value == 0.0)
    );
    assert_eq!(out["model.embed_tokens.weight"], a["model.embed_tokens.weight"]);
    assert_eq!(out["model.norm.weight"], b["model.norm.weight"]);
    assert!(workplace.read("out/config.json").contains("\"num_hidden_layers\": 4"));
    let first = workplace.hashes("out");
    workplace.run(&["out/merge.yaml", "--out", "again"]).exits(0);
    assert_eq!(workplace.hashes("again"), first, "{}", workplace.read("out/merge.yaml"));
    workplace.edit("stack.yml", "[1, 3]", "[1, 4]");
    workplace
        .run(&["stack.yml", "--out", "x"])
        .exits(2)
        .says("takes layers 1 to 4 of b, which has 3");
}

#[test]
fn gradients_run_over_the_layers() {
    let workplace = three_layers();
    let yaml = "modules:
  default:
    slices:
      - sources:
          - {model: base, layer_range: [0, 3]}
          - {model: a, layer_range: [0, 3]}
merge_method: nearswap
base_model: base
parameters:
  t: [{filter: self_attn, value: [0, 1000]}, {value: 0}]
dtype: float32
";
    workplace.write("near.yml", yaml);
    workplace.run(&["near.yml", "--out", "out"]).exits(0);
    let (base, a, out) = (
        read(&workplace.path("base")),
        read(&workplace.path("a")),
        read(&workplace.path("out")),
    );
    for name in base.keys() {
        // t is 0 in the first layer and wherever the filter does not reach, and large enough in the others.
        let swapped = name.contains("self_attn") && !name.contains("layers.0.");
        assert_eq!(
            out[name],
            if swapped { a[name].clone() } else { base[name].clone() },
            "{name}"
        );
    }
    // Weights and densities may be gradients too, and a merge.yaml keeps them.
    workplace.write(
        "ties.yml",
        "merge_method: dare_ties
base_model: base
models:
  - {model: a, parameters: {weight: [0.1, 0.9], density: [{filter: mlp, value: 0.3}, {value: 0.7}]}}
  - {model: b, parameters: {weight: 0.5}}
parameters: {density: 0.5, rescale: false}
dtype: float32
",
    );
    workplace.run(&["ties.yml", "--out", "out"]).exits(0);
    let first = workplace.hashes("out");
    workplace.run(&["out/merge.yaml", "--out", "again"]).exits(0);
    assert_eq!(workplace.hashes("again"), first, "{}", workplace.read("out/merge.yaml"));
}

#[test]
fn another_vocabulary_is_refused_by_name() {
    let workplace = three_layers();
    let tokenizer = |tokens: &str| format!("{{\"model\": {{\"vocab\": {{{tokens}}}}}, \"added_tokens\": []}}");
    for name in ["base", "a", "b"] {
        workplace.write(&format!("{name}/tokenizer.json"), &tokenizer("\"x\": 0, \"y\": 1"));
    }
    let yaml = "merge_method: ties
base_model: base
models: [{model: a, parameters: {weight: 1, density: 0.5}}, {model: b, parameters: {weight: 1, density: 0.5}}]
tokenizer: {source: union}
chat_template: chatml
";
    workplace.write("union.yml", yaml);
    workplace.run(&["union.yml", "--out", "out"]).exits(0);
    assert!(workplace.read("out/chat_template.jinja").contains("<|im_start|>"));
    workplace.write("b/tokenizer.json", &tokenizer("\"x\": 0, \"z\": 1"));
    workplace
        .run(&["union.yml", "--out", "out"])
        .exits(2)
        .says("id 1 is `y` in the base and `z` in b")
        .says("tokenizer_source `union` cannot join them");
    workplace.edit("union.yml", "chatml", "llama3");
    workplace
        .run(&["union.yml", "--out", "out"])
        .exits(2)
        .says("chat_template `llama3`");
}

/// Rows are taken by token: a model's row of a token that it numbers otherwise, and the base's row of one that it lacks. What
/// mergekit 0.1.5 makes of the same file agrees to the last bit but one; it also drops the rows behind the last token.
#[test]
fn the_bases_vocabulary_joins_others_by_token() {
    let workplace = three_layers();
    let mut tokens: Vec<String> = (0..30).map(|id| char::from(b'A' + id).to_string()).collect();
    let tokenizer = |tokens: &[String]| {
        let vocabulary: serde_json::Map<_, _> = tokens
            .iter()
            .zip(0..)
            .map(|(token, id)| (token.clone(), id.into()))
            .collect();
        serde_json::json!({"model": {"vocab": vocabulary}, "added_tokens": []}).to_string()
    };
    workplace.write("base/tokenizer.json", &tokenizer(&tokens));
    workplace.write("b/tokenizer.json", &tokenizer(&tokens));
    tokens.swap(3, 7);
    tokens[29] = "new".to_owned();
    workplace.write("a/tokenizer.json", &tokenizer(&tokens));
    let yaml = "merge_method: task_arithmetic
base_model: base
models: [{model: a, parameters: {weight: 0.5}}, {model: b, parameters: {weight: 0.25}}]
";
    workplace.write("plain.yml", yaml);
    workplace
        .run(&["plain.yml", "--out", "out"])
        .exits(2)
        .says("id 3 is `D` in the base and `H` in a, id 7 is `H` in the base and `D` in a, id 29 is `^` in the base and `new` in a;")
        .says("write `tokenizer_source: base` in a merge file");
    workplace.write("base.yml", &format!("{yaml}tokenizer_source: base\n"));
    workplace
        .run(&["base.yml", "--out", "out"])
        .exits(0)
        .says("a: its tokenizer differs from the base's, which the output has: id 3 is `D`");
    let of = |name: &str| models::read(&workplace.path(name))["model.embed_tokens.weight"].clone();
    let (base, a, b, out) = (of("base"), of("a"), of("b"), of("out"));
    for row in 0..32 {
        let of_a = match row {
            3 => &a[7 * 16..8 * 16],
            7 => &a[3 * 16..4 * 16],
            29 => &base[29 * 16..30 * 16],
            _ => &a[row * 16..(row + 1) * 16],
        };
        for (column, of_a) in of_a.iter().enumerate() {
            let at = row * 16 + column;
            let expected = base[at] + 0.5 * (of_a - base[at]) + 0.25 * (b[at] - base[at]);
            assert!(
                (out[at] - expected).abs() < 1e-7,
                "row {row}: {} instead of {expected}",
                out[at]
            );
        }
    }
    let first = workplace.hashes("out");
    workplace.run(&["out/merge.yaml"]).exits(0);
    assert_eq!(workplace.hashes("out"), first);
    // Flags of added tokens change no row, but how the output's tokenizer reads text.
    for (name, special) in [("base", true), ("a", false), ("b", true)] {
        let text = serde_json::json!({"model": {"vocab": {"A": 0}}, "added_tokens": [{"id": 1, "content": "<x>", "special": special}]});
        workplace.write(&format!("{name}/tokenizer.json"), &text.to_string());
    }
    workplace.run(&["plain.yml", "--out", "flags"]).exits(0).says(
        "a: its tokenizer differs from the base's, which the output has: `<x>` is `special` in the base and not in a",
    );
    workplace.write("a/tokenizer.json", "{");
    workplace
        .run(&["base.yml", "--out", "unread"])
        .exits(2)
        .says("a: tokenizer_source takes rows by token, but");
}

/// The report and the card say of a gradient what it is.
#[test]
fn a_gradient_is_told_as_one() {
    let workplace = three_layers();
    let yaml = "merge_method: ties
base_model: base
models:
  - {model: a, parameters: {density: 0.5, weight: 0.5}}
  - {model: b, parameters: {density: [0.3, 0.9], weight: 0.3}}
parameters: {normalize: true, int8_mask: true}
";
    workplace.write("in.yml", yaml);
    workplace
        .run(&["in.yml", "--out", "out"])
        .exits(0)
        .says("a: trim 0.5: zero the smallest 50 %, keep 50 %; b: keep 0.3 → 0.9 over the layers");
    let card = workplace.read("out/README.md");
    assert!(card.contains("| b | 0.3 | keep 0.3 → 0.9 over the layers |"), "{card}");
    let report: serde_json::Value = serde_json::from_str(&workplace.read("out/merge_report.json")).unwrap();
    assert_eq!(report["inputs"][0]["trim"], "0.5");
    assert_eq!(
        (&report["inputs"][1]["trim"], &report["inputs"][1]["density"]),
        (&serde_json::Value::Null, &"0.3 → 0.9 over the layers".into())
    );
}
