//! Output heads that are the embedding, or should be, or no longer are: what is merged, exported and loaded computes the logits
//! of transformers and of PEFT's own model (crates/merge/tests/fixtures/make_tied.py).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use synapse_checkpoint::{ModelConfig, ModelFiles};
use synapse_nn::{LoadOptions, LogitsFor, Phase, Sequence};

use super::support::{Workplace, copy, fixtures};
use crate::support::Root;

/// The folder with everything that the script wrote, and a tokenizer, which GGUF cannot do without.
fn place() -> Workplace {
    let workplace = Workplace::empty();
    for entry in std::fs::read_dir(fixtures().join("tied")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            copy(&path, &workplace.path(&path.file_name().unwrap().to_string_lossy()));
        }
    }
    let vocabulary: BTreeMap<String, usize> = (0..32)
        .map(|id| (char::from(b'A' + id as u8).to_string(), id))
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "ignore_merges": false},
    });
    for folder in ["base", "own-head", "equal-head", "head-only", "bare-names"] {
        workplace.write(&format!("{folder}/tokenizer.json"), &tokenizer.to_string());
    }
    workplace
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("tied/logits.json")).unwrap()).unwrap()
}

/// The logits of every position, row by row.
fn logits(model: &Path, tokens: &[u32]) -> Vec<f32> {
    let files = ModelFiles::open(model).unwrap();
    let model = synapse_nn::models::load(&files, &LoadOptions::EXACT).unwrap();
    let mut cache = model.new_cache();
    let sequence = Sequence {
        tokens,
        cache: &mut cache,
        phase: Phase::Prefill,
        adapter: None,
        logits: LogitsFor::All,
    };
    model.forward(&mut [sequence]).unwrap().remove(0)
}

/// Compares a model with the golden logits of a name.
#[track_caller]
fn agrees(golden: &Value, name: &str, model: &Path, tolerance: f32) {
    let tokens: Vec<u32> = serde_json::from_value(golden["tokens"].clone()).unwrap();
    let expected: Vec<Vec<f32>> = serde_json::from_value(golden["logits"][name].clone()).unwrap();
    let (found, expected) = (logits(model, &tokens), expected.concat());
    assert_eq!(found.len(), expected.len());
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(found, expected)| (found - expected).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance, "{name}, {}: off by {worst}", model.display());
}

/// f32 sums of a few dozen terms in another order than torch's.
const EXACT: f32 = 2e-5;
/// The same with weights rounded to f16.
const HALF: f32 = 2e-2;

#[test]
fn a_folder_has_the_head_that_transformers_gives_it() {
    let (workplace, golden, root) = (place(), golden(), Root::new());
    for name in ["base", "own-head", "equal-head", "head-only", "bare-names"] {
        let folder = workplace.path(name);
        agrees(&golden, name, &folder, EXACT);
        workplace
            .run(&["--method", "linear", "--model", name, "--out", "merged"])
            .exits(0);
        agrees(&golden, name, &workplace.path("merged"), EXACT);
        let written = ModelConfig::read(&workplace.path("merged")).unwrap();
        assert_eq!(
            written.tie_word_embeddings,
            name != "own-head",
            "config.json says what the weights are"
        );
        let half = workplace.path("half.gguf");
        root.ok(&[
            "export",
            folder.to_str().unwrap(),
            "--quant",
            "f16",
            "--out",
            half.to_str().unwrap(),
        ]);
        agrees(&golden, name, &half, HALF);
        workplace
            .run(&[
                "--method",
                "linear",
                "--model",
                name,
                "--out",
                "made.gguf",
                "--format",
                "gguf",
                "--quant",
                "f16",
            ])
            .exits(0);
        assert!(std::fs::read(&half).unwrap().len() == std::fs::read(workplace.path("made.gguf")).unwrap().len());
        agrees(&golden, name, &workplace.path("made.gguf"), HALF);
    }
    // A base that ties and a model with a head of its own: the merge has one.
    workplace
        .run(&[
            "--method",
            "task_arithmetic",
            "--base",
            "base",
            "--model",
            "own-head",
            "--out",
            "merged",
        ])
        .exits(0);
    agrees(&golden, "own-head", &workplace.path("merged"), EXACT);
    workplace.run(&["verify", "merged"]).exits(0);
}

#[test]
fn an_adapter_moves_the_head_that_peft_moves() {
    let (workplace, golden) = (place(), golden());
    let names = golden["logits"].as_object().unwrap().keys();
    for name in names.filter(|name| name.starts_with("lora-") || name.starts_with("saved-") || *name == "copies") {
        let merge = ["--method", "task_arithmetic", "--base", "base", "--adapter", name];
        workplace.run(&[&merge[..], &["--out", "merged"]].concat()).exits(0);
        agrees(&golden, name, &workplace.path("merged"), EXACT);
        let written = ModelConfig::read(&workplace.path("merged")).unwrap();
        let ties = name.ends_with("-tied") || name == "copies";
        assert_eq!(written.tie_word_embeddings, ties, "{name}");
        let gguf = ["--out", "made.gguf", "--format", "gguf", "--quant", "f16"];
        workplace.run(&[&merge[..], &gguf].concat()).exits(0);
        agrees(&golden, name, &workplace.path("made.gguf"), HALF);
        workplace.run(&["verify", "merged"]).exits(0);
    }
    workplace
        .run(&[
            "--base",
            "base",
            "--adapter",
            "lora-embedding",
            "--format",
            "delta",
            "--out",
            "delta",
        ])
        .exits(2)
        .says("a head of its own, which a delta of the base cannot say");
    // One that moves both as one joins one that moves the embedding alone: the head is the tied one's.
    workplace
        .run(&[
            "--method",
            "task_arithmetic",
            "--base",
            "base",
            "--adapter",
            "lora-embedding@0",
            "--adapter",
            "lora-embedding-tied",
            "--out",
            "merged",
        ])
        .exits(0);
    agrees(&golden, "lora-embedding-tied", &workplace.path("merged"), EXACT);
}

/// Serving takes plain LoRA; copies of the base beside it change nothing, and what it cannot run it says how to use.
#[test]
fn what_serving_cannot_run_is_refused_with_the_way_out() {
    let (workplace, root) = (place(), Root::new());
    let generate = |model: &str, adapter: &str| {
        let (model, adapter) = (workplace.path(model), workplace.path(adapter));
        root.train(&[
            "generate",
            model.to_str().unwrap(),
            "--prompt",
            "AB",
            "--raw",
            "--max-tokens",
            "4",
            "--json",
            "--adapter",
        ])
        .arg(adapter)
        .output()
        .unwrap()
    };
    // an unquantized GGUF file tells as well as a folder whether a copy is one
    let half = workplace.path("half.gguf");
    let base = workplace.path("base");
    root.ok(&[
        "export",
        base.to_str().unwrap(),
        "--quant",
        "f16",
        "--out",
        half.to_str().unwrap(),
    ]);
    for model in ["base", "half.gguf"] {
        let copies = generate(model, "copies");
        assert!(copies.status.success(), "{}", String::from_utf8_lossy(&copies.stderr));
    }
    let saved = "is stored whole and is not the base's `lm_head.weight`";
    for (model, name, words) in [
        ("base", "lora-embedding", "adapts an embedding"),
        ("base", "lora-head", "adapts the output head"),
        ("base", "saved-head", saved),
        ("half.gguf", "saved-head", saved),
    ] {
        let output = generate(model, name);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{name}: {told}");
        assert!(
            told.contains("merge it into its base with synapse-merge"),
            "{name}: {told}"
        );
    }
}

/// `save_embedding_layers` stores embedding and head, which a tied base has as one tensor: they must be the same.
#[test]
fn two_copies_of_one_tensor_that_differ_are_refused() {
    let workplace = place();
    let path = workplace.path("copies/adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let start = header["base_model.model.lm_head.weight"]["data_offsets"][0]
        .as_u64()
        .unwrap() as usize;
    // the sign of its first value
    bytes[8 + length + start + 3] ^= 0x80;
    std::fs::write(&path, bytes).unwrap();
    workplace
        .run(&[
            "--method",
            "task_arithmetic",
            "--base",
            "base",
            "--adapter",
            "copies",
            "--out",
            "out",
        ])
        .exits(1)
        .says("tensor `base_model.model.lm_head.weight` differs from the copy of the other one of embedding and head");
}
