//! Every family of attention through the whole pipeline at tiny size: a base from nothing, specialists in NF4, their merge,
//! a GGUF file and back, and the same tokens from all of them.

use serde_json::{Value, json};

use crate::support::{Root, copy_tree, expect, repository};

/// What its config.json says differently from the bundled base's; null removes a field.
fn families() -> [(&'static str, Value); 3] {
    [
        (
            "qwen3",
            json!({ "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32, "attention_bias": false }),
        ),
        (
            "smollm3",
            json!({ "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0],
                    "pad_token_id": null }),
        ),
        (
            "mistral",
            json!({ "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": null,
                    "use_sliding_window": null, "tie_word_embeddings": false }),
        ),
    ]
}

/// Writes `data/NAME`: the bundled base's tokenizer beside a smaller configuration of this family.
fn write_configuration(root: &Root, name: &str, changes: &Value) {
    let folder = root.join(&format!("data/{name}"));
    copy_tree(&repository().join("data/nano/fresh"), &folder);
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let smaller =
        json!({ "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "initializer_range": 0.1 });
    for (field, value) in smaller.as_object().unwrap().iter().chain(changes.as_object().unwrap()) {
        config[field] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
}

fn base(name: &str) -> String {
    format!(
        "name: {name}-base
pipeline: ../pipelines/specialist.yaml
base: {{ from_scratch: ../data/{name} }}
data: [{{ dataset: ../data/nano/train/math.parquet, samples: 320 }}]
held_out: 8
train: {{ method: full, max_steps: 40, batch_size: 8, gradient_accumulation: 1, max_seq_len: 128, learning_rate: 1.0e-2, seed: 1 }}
evaluate: {{ suites: [held-out-loss] }}
output: outputs/{name}/base
"
    )
}

fn specialist(name: &str, specialty: &str, data: &str) -> String {
    format!(
        "name: {name}-{specialty}
pipeline: ../pipelines/specialist.yaml
base: ../outputs/{name}/base
data: [{{ dataset: ../data/nano/train/{data}, samples: 48 }}]
held_out: 8
filters: {{ min_chars: 1, dedupe: false }}
quantization: {{ type: nf4 }}
lora: {{ rank: 4, alpha: 8, dropout: 0.1, targets: all-linear }}
train: {{ max_steps: 8, batch_size: 4, gradient_accumulation: 1, max_seq_len: 128, learning_rate: 3.0e-2, seed: 3 }}
evaluate: {{ suites: [held-out-loss] }}
output: outputs/{name}/{specialty}
"
    )
}

/// Greedy tokens in f32.
fn tokens(root: &Root, model: &[&str]) -> Value {
    let prompt = [
        "--prompt",
        "What is 2 + 3?",
        "--max-tokens",
        "12",
        "--dtype",
        "f32",
        "--json",
    ];
    let answer = root.ok(&[&["generate"], model, &prompt].concat());
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    answer["token_ids"].clone()
}

#[test]
fn every_family_goes_through_the_whole_pipeline() {
    let root = Root::new();
    for (name, changes) in families() {
        write_configuration(&root, name, &changes);
        let path = |part: &str| format!("outputs/{name}/{part}");
        for (part, recipe) in [
            ("base", base(name)),
            ("math", specialist(name, "math", "math.parquet")),
            ("code", specialist(name, "code", "code.json")),
        ] {
            let file = format!("recipes/{name}-{part}.yaml");
            root.write(&file, &recipe);
            root.ok(&["run", &file]);
        }
        let (base, math, code, merged) = (path("base"), path("math"), path("code"), path("merged"));
        let of_base = tokens(&root, &[&base]);
        assert_ne!(
            tokens(&root, &[&base, "--adapter", &code]),
            of_base,
            "{name}: training changed nothing"
        );
        let merge = [
            "--method",
            "ties",
            "--trim",
            "0.8",
            "--adapter",
            &math,
            "--adapter",
            &code,
            "--out",
            &merged,
        ];
        expect(root.merge(&merge).output().unwrap(), 0);
        let of_merge = tokens(&root, &[&merged]);

        let (file, back) = (path("merged.gguf"), path("back"));
        root.ok(&["export", &merged, "--quant", "bf16", "--out", &file]);
        assert_eq!(tokens(&root, &[&file]), of_merge, "{name}: from the GGUF file");
        root.ok(&["import", &file, "--out", &back]);
        assert_eq!(tokens(&root, &[&back]), of_merge, "{name}: from the imported folder");
    }
}
