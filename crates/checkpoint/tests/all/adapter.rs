//! PEFT folders: one that PEFT wrote, our own read back, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use synapse_checkpoint::{
    AdapterConfig, AdapterFolder, AdapterTensor, Architecture, DType, ModelConfig, ModelFiles, ModelFolder,
    write_adapter, write_safetensors,
};
use tempfile::tempdir;

use crate::support::{fixtures, message, tiny, values, write_model};

/// The scales and the B·A·scale sums are PEFT's own, written by fixtures/make_peft.py.
#[test]
fn an_adapter_written_by_peft_is_read_as_peft_means_it() {
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(fixtures().join("peft_expected.json")).unwrap()).unwrap();
    let adapter = AdapterFolder::open(&fixtures().join("peft")).unwrap();
    assert_eq!(adapter.modules().len(), 14);
    assert_eq!(
        adapter.config().target_modules.as_ref().unwrap().suffixes(),
        [
            "down_proj",
            "gate_proj",
            "k_proj",
            "o_proj",
            "q_proj",
            "up_proj",
            "v_proj"
        ]
    );
    assert!(adapter.modules().is_sorted_by(|left, right| left.module < right.module));
    for module in adapter.modules() {
        let peft = &expected[&module.module];
        assert_eq!(
            json!([module.rank, f64::from(module.scale)]),
            json!([peft["rank"], peft["scale"]]),
            "{}",
            module.module
        );
        let (a, b) = (
            adapter.read_a(&module.module).unwrap(),
            adapter.read_b(&module.module).unwrap(),
        );
        assert_eq!(
            (a.len(), b.len()),
            (module.rank * module.in_features, module.out_features * module.rank)
        );
        // One corner of the update fixes both layouts: row 1, column 2 of scale · B·A.
        let corner: f32 = (0..module.rank)
            .map(|k| b[module.rank + k] * a[k * module.in_features + 2])
            .sum::<f32>()
            * module.scale;
        let wanted = peft["delta_1_2"].as_f64().unwrap() as f32;
        assert!((corner - wanted).abs() < 1e-6, "{}: {corner} {wanted}", module.module);
    }
    let base = ModelConfig {
        hidden_size: 16,
        intermediate_size: 24,
        head_dim: 4,
        ..tiny(Architecture::Llama)
    };
    adapter.check_plain(&base).unwrap();
    assert!(
        message(adapter.check_plain(&ModelConfig {
            hidden_size: 32,
            ..base.clone()
        }))
        .contains("adapts `model.layers.0.mlp.down_proj` as [16, 24], but in the base it is [32, 24]")
    );
    assert!(message(adapter.check_plain(&ModelConfig { num_hidden_layers: 1, ..base })).contains("adapts `model.layers.1.mlp.down_proj`, which is not a linear module of the base (1 layers, LlamaForCausalLM)"));
}

#[test]
fn what_is_written_reads_back() {
    let folder = tempdir().unwrap();
    let mut config = AdapterConfig::lora("org/base", 2, 4.0, &["v_proj".to_owned(), "q_proj".to_owned()]);
    config.rank_pattern.insert("layers.1.self_attn.q_proj", 1);
    let (wide, narrow) = (values(1, 6), values(2, 3));
    let tensors = [
        AdapterTensor {
            module: "model.layers.1.self_attn.q_proj",
            rank: 1,
            in_features: 3,
            out_features: 3,
            a: &narrow,
            b: &narrow,
        },
        AdapterTensor {
            module: "model.layers.0.self_attn.v_proj",
            rank: 2,
            in_features: 3,
            out_features: 3,
            a: &wide,
            b: &wide,
        },
    ];
    write_adapter(folder.path(), &config, &tensors).unwrap();
    let adapter = AdapterFolder::open(folder.path()).unwrap();
    assert_eq!(*adapter.config(), config);
    let targets = adapter.config().target_modules.as_ref().unwrap();
    assert_eq!(targets.suffixes(), ["q_proj", "v_proj"]);
    let read: Vec<_> = adapter
        .modules()
        .iter()
        .map(|module| (module.module.as_str(), module.rank, module.scale))
        .collect();
    assert_eq!(
        read,
        [
            ("model.layers.0.self_attn.v_proj", 2, 2.0),
            ("model.layers.1.self_attn.q_proj", 1, 4.0)
        ]
    );
    assert_eq!(adapter.read_b("model.layers.0.self_attn.v_proj").unwrap(), wide);
    assert!(
        message(adapter.read_a("model.layers.7.mlp.up_proj"))
            .contains("the adapter does not touch `model.layers.7.mlp.up_proj`")
    );
    let hash = adapter.content_hash().unwrap();
    write_adapter(folder.path(), &config, &[tensors[1], tensors[0]]).unwrap();
    assert_eq!(
        AdapterFolder::open(folder.path()).unwrap().content_hash().unwrap(),
        hash
    );

    let wrong = [AdapterTensor { rank: 2, ..tensors[0] }];
    assert!(
        message(write_adapter(folder.path(), &config, &wrong))
            .contains("`model.layers.1.self_attn.q_proj` has rank 2, but adapter_config.json says 1")
    );
}

/// The answers are PEFT's own, written by fixtures/make_patterns.py: modules, ranks and scales of its model.
#[test]
fn patterns_mean_what_they_mean_to_peft() {
    let fixture: Value = serde_json::from_slice(&fs::read(fixtures().join("peft_patterns.json")).unwrap()).unwrap();
    let path = Path::new("adapter_config.json");
    for case in fixture["cases"].as_array().unwrap() {
        let mut text = case["config"].clone();
        for (field, value) in [("peft_type", json!("LORA")), ("r", json!(4)), ("lora_alpha", json!(8))] {
            text[field] = value;
        }
        let config = AdapterConfig::from_json(&text.to_string(), path).unwrap();
        for (module, expected) in case["modules"].as_object().unwrap() {
            let found = config.check_target(path, module).ok().map(|()| {
                let rank = config.rank_of(module);
                json!([rank, f64::from(config.scale_of(module, rank))])
            });
            let expected = expected
                .as_array()
                .map(|values| json!([values[0], values[1].as_f64().unwrap() as f32]));
            // all-linear says nothing of what is not linear; no adapter has a linear pair for it.
            if module.ends_with("norm") && text["target_modules"] == "all-linear" {
                continue;
            }
            assert_eq!(found, expected, "{module}: {text}");
        }
    }
}

#[test]
fn rslora_scales_by_the_root_of_the_rank() {
    let mut config = AdapterConfig::lora("base", 16, 8.0, &[]);
    assert_eq!(config.scale_of("m", 16), 0.5);
    config.use_rslora = true;
    assert_eq!(config.scale_of("m", 16), 2.0);
    config.alpha_pattern.insert("^model.q_proj", 4.0);
    assert_eq!(
        (
            config.scale_of("model.q_proj", 16),
            config.scale_of("other.model.q_proj", 16)
        ),
        (1.0, 2.0)
    );
}

fn config_error(change: impl FnOnce(&mut Value)) -> String {
    let mut config: Value =
        serde_json::from_slice(&fs::read(fixtures().join("peft/adapter_config.json")).unwrap()).unwrap();
    change(&mut config);
    message(AdapterConfig::from_json(
        &config.to_string(),
        Path::new("adapter_config.json"),
    ))
}

#[test]
fn settings_that_change_the_arithmetic_are_refused_by_name() {
    let cases = [
        (
            "peft_type",
            json!("IA3"),
            "`peft_type` is `IA3`; only LORA is supported",
        ),
        ("r", json!(0), "`r` is 0"),
        (
            "layers_to_transform",
            json!("3"),
            "`layers_to_transform` takes a number",
        ),
        (
            "target_modules",
            json!(5),
            "`target_modules` and `exclude_modules` take",
        ),
        ("use_dora", json!(true), "`use_dora` is true"),
        (
            "bias",
            json!("some"),
            "`bias` is `some`; none, all and lora_only are known",
        ),
        ("init_lora_weights", json!("pissa"), "`init_lora_weights` is \"pissa\""),
        ("lora_bias", json!(true), "`lora_bias` is true, which is not supported"),
        (
            "layer_replication",
            json!([[0, 4], [2, 5]]),
            "`layer_replication` is [[0,4],[2,5]], which is not supported",
        ),
        (
            "trainable_token_indices",
            json!([7]),
            "`trainable_token_indices` is [7], which is not supported",
        ),
        (
            "rank_pattern",
            json!({"q_proj": 8, ".*(q_proj": 8}),
            "`rank_pattern` has the key `.*(q_proj`, which is no usable regular expression",
        ),
    ];
    for (field, value, expected) in cases {
        let found = config_error(|config| config[field] = value);
        assert!(
            found.starts_with("adapter_config.json") && found.contains(expected),
            "{field}: {found}"
        );
    }
    assert!(config_error(|config| drop(config.as_object_mut().unwrap().remove("r"))).contains("missing field `r`"));
}

/// The end of a tensor's name, and its shape.
type Entry<'a> = (&'a str, &'a [usize]);

#[test]
fn tensors_that_are_not_plain_lora_are_refused_by_name() {
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    let open = |tensors: &[Entry<'_>]| {
        let folder = tempdir().unwrap();
        let config = AdapterConfig::lora("base", 2, 4.0, &["q_proj".to_owned()]);
        fs::write(
            folder.path().join("adapter_config.json"),
            serde_json::to_string(&config).unwrap(),
        )
        .unwrap();
        let zeros = vec![0_u8; 4096];
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| {
                (
                    format!("{prefix}{name}"),
                    DType::F32,
                    shape.to_vec(),
                    &zeros[..4 * shape.iter().product::<usize>()],
                )
            })
            .collect();
        write_safetensors(
            &folder.path().join("adapter_model.safetensors"),
            &tensors,
            &BTreeMap::new(),
        )
        .unwrap();
        AdapterFolder::open(folder.path()).map(|adapter| adapter.modules().len())
    };
    let (a, b): (Entry<'_>, Entry<'_>) = ((".lora_A.weight", &[2, 4]), (".lora_B.weight", &[6, 2]));
    assert_eq!(open(&[a, b]).unwrap(), 1);
    assert_eq!(open(&[(".lora_A.default.weight", &[2, 4]), b]).unwrap(), 1);
    let cases: [(&[Entry<'_>], &str); 7] = [
        (&[a], "`model.layers.0.self_attn.q_proj` has no lora_B"),
        (&[], "holds no tensors"),
        (&[a, b, (".lora_magnitude_vector.weight", &[6])], "belongs to DoRA"),
        (&[a, b, (".lora_embedding_A", &[2, 6])], "adapts an embedding"),
        (&[a, b, (".lora_B.bias", &[6])], "is a trained bias"),
        (
            &[a, (".lora_B.weight", &[6, 3])],
            "has the wrong shape: expected [6, 2], found [6, 3]",
        ),
        (
            &[(".lora_A.weight", &[3, 4]), (".lora_B.weight", &[6, 3])],
            "has rank 3, but adapter_config.json says 2",
        ),
    ];
    for (tensors, expected) in cases {
        let found = message(open(tensors));
        assert!(found.contains(expected), "{found}");
    }
    assert!(
        message(AdapterFolder::open(&fixtures())).contains("holds no adapter_config.json: is this an adapter folder?")
    );
}

/// A tensor stored whole is accepted if it is the base's own, as PEFT's `save_embedding_layers` writes it, and refused if it
/// was trained, with the way out.
#[test]
fn copies_of_the_base_are_recognized() {
    let base = tempdir().unwrap();
    let config = tiny(Architecture::Llama);
    write_model(base.path(), &config, DType::BF16, u64::MAX);
    let folder = ModelFolder::open(base.path()).unwrap();
    let norm = folder.read_f32("model.norm.weight").unwrap();
    let files = ModelFiles::Folder(folder);
    let open = |name: &str, values: &[f32], fields: Value| {
        let folder = tempdir().unwrap();
        let mut text = serde_json::to_value(AdapterConfig::lora("base", 2, 4.0, &["q_proj".to_owned()])).unwrap();
        for (field, value) in fields.as_object().unwrap() {
            text[field] = value.clone();
        }
        fs::write(folder.path().join("adapter_config.json"), text.to_string()).unwrap();
        let mut bytes = Vec::new();
        DType::F32.extend_bytes(values, &mut bytes);
        let tensors = [(
            format!("base_model.model.{name}"),
            DType::F32,
            vec![values.len()],
            bytes.as_slice(),
        )];
        write_safetensors(
            &folder.path().join("adapter_model.safetensors"),
            &tensors,
            &BTreeMap::new(),
        )
        .unwrap();
        let adapter = AdapterFolder::open(folder.path()).unwrap();
        (
            adapter.check_against(&files).map_err(|error| error.to_string()),
            message(adapter.check_plain(&config)),
        )
    };
    let (against, plain) = open("model.norm.weight", &norm, json!({}));
    assert_eq!(against, Ok(()));
    assert!(plain.contains("is stored whole, and only A and B"), "{plain}");
    let saved = json!({"modules_to_save": ["norm"]});
    assert_eq!(
        open("model.norm.modules_to_save.weight", &norm, saved.clone()).0,
        Ok(())
    );
    let trained: Vec<f32> = norm.iter().map(|value| value + 0.5).collect();
    let refused = open("model.norm.weight", &trained, saved).0.unwrap_err();
    assert!(
        refused.contains("`base_model.model.model.norm.weight` is stored whole and is not the base's"),
        "{refused}"
    );
    assert!(refused.contains("synapse-merge"), "{refused}");
    let elsewhere = open("model.norm.bias", &norm, json!({})).0.unwrap_err();
    assert!(elsewhere.contains("the base has no such tensor"), "{elsewhere}");
    let missing = open("model.norm.weight", &norm, json!({"modules_to_save": ["embed_tokens"]}))
        .0
        .unwrap_err();
    assert!(
        missing.contains("`modules_to_save` names `model.embed_tokens`, but the folder does not hold"),
        "{missing}"
    );
}
