//! config.json: both spellings of what transformers changed, and what is refused.

use std::path::Path;

use serde_json::{Value, json};
use synapse_checkpoint::{Architecture, Llama3RopeScaling, ModelConfig};

use crate::support::{message, tiny};

fn qwen() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 151_643,
        "eos_token_id": 151_645, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 11_008, "max_position_embeddings": 32_768, "max_window_layers": 70,
        "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1_000_000.0, "sliding_window": 32_768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "use_cache": true, "use_sliding_window": false, "vocab_size": 151_936
    })
}

fn parse(value: &Value) -> Result<ModelConfig, synapse_checkpoint::CheckpointError> {
    ModelConfig::from_json(&value.to_string(), Path::new("config.json"))
}

#[test]
fn the_published_qwen2_5_3b_configuration_is_read() {
    let config = parse(&qwen()).unwrap();
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.head_dim, config.qkv_bias, config.o_bias), (128, true, false));
    assert_eq!(config.eos_token_ids, [151_645]);
    // The published count of Qwen2.5-3B-Instruct, embedding counted once.
    assert_eq!(config.parameters(), 3_085_938_688);
    assert_eq!(config.tensors().len(), 434);
}

/// config.json as it is published, without what only loading libraries read. The counts are those of the model cards.
#[test]
fn published_configurations_have_the_published_number_of_parameters() {
    let qwen3 = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 151_643, "eos_token_id": 151_645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "intermediate_size": 3072, "max_position_embeddings": 40_960, "max_window_layers": 28, "num_attention_heads": 16,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 1_000_000, "sliding_window": null, "tie_word_embeddings": true, "use_sliding_window": false,
        "vocab_size": 151_936
    });
    let config = parse(&qwen3).unwrap();
    assert_eq!((config.qk_norm, config.qkv_bias, config.head_dim), (true, false, 128));
    assert_eq!(config.parameters(), 596_049_920);

    let smollm3 = json!({
        "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": null, "eos_token_id": 128_012, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 11_008, "max_position_embeddings": 65_536, "max_window_layers": 28, "mlp_bias": false,
        "no_rope_layer_interval": 4, "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 5_000_000.0, "sliding_window": null,
        "use_sliding_window": false, "vocab_size": 128_256
    });
    let config = parse(&smollm3).unwrap();
    assert_eq!(config.no_rope_layers, [3, 7, 11, 15, 19, 23, 27, 31, 35]);
    assert!(config.tie_word_embeddings);
    assert_eq!(config.parameters(), 3_075_098_624);

    let mistral = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14_336,
        "max_position_embeddings": 32_768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 1_000_000.0, "sliding_window": null, "tie_word_embeddings": false,
        "vocab_size": 32_768
    });
    assert_eq!(parse(&mistral).unwrap().parameters(), 7_248_023_552);
    for (field, value, expected) in [
        (
            "sliding_window",
            json!(4096),
            "is 4096, shorter than the context of 32768",
        ),
        ("sliding_window", Value::Null, ""),
        ("attention_bias", json!(true), "MistralForCausalLM has no biases"),
    ] {
        let mut config = mistral.clone();
        config[field] = value;
        match expected {
            "" => assert!(parse(&config).is_ok()),
            expected => assert!(message(parse(&config)).contains(expected)),
        }
    }
    // Its class has a window of 4096 if the file names none.
    let mut old = mistral;
    old.as_object_mut().unwrap().remove("sliding_window");
    assert!(message(parse(&old)).contains("`sliding_window` is 4096"));
    old["max_position_embeddings"] = json!(4096);
    assert!(parse(&old).is_ok());
    for rotated in [json!([1, 1]), json!([1, 2, 1]), json!("all")] {
        let mut config = smollm3.clone();
        config["no_rope_layers"] = rotated;
        assert!(message(parse(&config)).contains("`no_rope_layers` must hold a 0 or 1 for each of the 36 layers"));
    }
}

#[test]
fn rope_is_read_from_either_generation_of_transformers() {
    let scaling = Llama3RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let mut new = qwen();
    new.as_object_mut().unwrap().remove("rope_theta");
    new["rope_parameters"] = json!({
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let new = parse(&new).unwrap();
    assert_eq!((new.rope_theta, new.rope_scaling), (500_000.0, Some(scaling.clone())));

    let mut old = qwen();
    old["rope_scaling"] = json!({
        "type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
    });
    let old = parse(&old).unwrap();
    assert_eq!((old.rope_theta, old.rope_scaling), (1_000_000.0, Some(scaling)));
}

/// torch 2.15, transformers 5.23: `1 / (inv_freq of rope_type llama3 / inv_freq of default)` for head_dim 8, theta 500000.
#[test]
fn llama3_divisors_equal_those_of_transformers() {
    let scaling = Llama3RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let divisors = scaling.divisors(8, 500_000.0);
    assert_eq!(&divisors[..2], [1.0, 1.0]);
    assert!((divisors[2] - 3.2923).abs() < 1e-4, "{divisors:?}");
    assert_eq!(divisors[3], 32.0);
}

#[test]
fn what_is_written_reads_back_the_same() {
    for architecture in Architecture::ALL
        .into_iter()
        .filter(|known| known.gguf_name().is_some())
    {
        let mut config = tiny(architecture);
        config.eos_token_ids = vec![2, 0];
        config.rope_scaling = Some(Llama3RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        });
        assert_eq!(
            ModelConfig::from_json(&config.to_json(), Path::new("config.json")).unwrap(),
            config
        );
    }
}

#[test]
fn a_biased_llama_has_a_bias_on_the_output_projection_too() {
    let mut llama = qwen();
    llama["architectures"] = json!(["LlamaForCausalLM"]);
    llama["model_type"] = json!("llama");
    assert!(!parse(&llama).unwrap().qkv_bias);
    llama["attention_bias"] = json!(true);
    let config = parse(&llama).unwrap();
    assert!(
        config
            .tensors()
            .iter()
            .any(|(name, shape)| name == "model.layers.35.self_attn.o_proj.bias" && *shape == [2048])
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases: [(&str, Value, &str); 22] = [
        (
            "architectures",
            json!(["Gemma2ForCausalLM"]),
            "`architectures` is `Gemma2ForCausalLM`, which is not supported; supported: LlamaForCausalLM, MistralForCausalLM, \
             SmolLM3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, SynapseForCausalLM",
        ),
        ("architectures", json!([]), "`architectures` must list one class name"),
        (
            "model_type",
            json!("llama"),
            "`model_type` is `llama`, but `architectures` says Qwen2ForCausalLM",
        ),
        (
            "use_sliding_window",
            json!(true),
            "`use_sliding_window` is true: sliding-window attention is not supported",
        ),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "`layer_types` lists more than `full_attention`",
        ),
        (
            "hidden_act",
            json!("gelu"),
            "`hidden_act` is \"gelu\": only `silu` is supported",
        ),
        ("mlp_bias", json!(true), "`mlp_bias` is true"),
        (
            "attention_dropout",
            json!(0.1),
            "`attention_dropout` is 0.1: only 0 is supported",
        ),
        (
            "attention_bias",
            json!(false),
            "`attention_bias` is false, but Qwen2ForCausalLM always has q/k/v biases",
        ),
        (
            "quantization_config",
            json!({"quant_method": "gptq"}),
            "the weights are quantized (gptq)",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 4.0}),
            "`rope_scaling.rope_type` is `yarn`, which is not supported",
        ),
        (
            "rope_scaling",
            json!({"type": "linear", "factor": 2.0}),
            "`rope_scaling.rope_type` is `linear`",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "llama3"}),
            "`rope_scaling.original_max_position_embeddings` is missing",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 10_000.0}),
            "`rope_theta` is 1000000, but `rope_parameters.rope_theta` is 10000",
        ),
        (
            "rope_theta",
            json!(-1.0),
            "`rope_theta` must be a number above 0, found -1.0",
        ),
        ("hidden_size", json!(0), "`hidden_size` must be a whole number from 1"),
        ("hidden_size", json!("2048"), "`hidden_size` must be a whole number"),
        (
            "hidden_size",
            json!(2049),
            "`hidden_size` is 2049, which is not a multiple of `num_attention_heads` 16",
        ),
        (
            "num_hidden_layers",
            json!(1_000_000_000),
            "`num_hidden_layers` must be a whole number from 1 to 10000",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "`num_key_value_heads` is 3, which does not divide `num_attention_heads` 16",
        ),
        (
            "head_dim",
            json!(63),
            "`head_dim` is 63, but rotary positions need an even width",
        ),
        (
            "eos_token_id",
            json!([151_645, 200_000]),
            "`eos_token_id` is 200000, beyond the vocabulary of 151936 tokens",
        ),
    ];
    for (field, value, expected) in cases {
        let mut config = qwen();
        config[field] = value;
        let found = message(parse(&config));
        assert!(
            found.starts_with("config.json: ") && found.contains(expected),
            "{field}: {found}"
        );
    }
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ] {
        let mut config = qwen();
        config.as_object_mut().unwrap().remove(field);
        assert_eq!(message(parse(&config)), format!("config.json: `{field}` is missing"));
    }
}
