//! Model folders: single and sharded, and every way one can be damaged.

use std::fs;

use serde_json::json;
use synapse_checkpoint::{Architecture, CheckpointError, DType, ModelFolder, ShardedWriter};
use tempfile::tempdir;

use crate::support::{message, tiny, values, write_model};

#[test]
fn single_and_sharded_folders_give_the_same_tensors() {
    for architecture in [Architecture::Llama, Architecture::Qwen2] {
        let config = tiny(architecture);
        for (dtype, shard) in [(DType::F32, u64::MAX), (DType::BF16, 4_000), (DType::F16, 1)] {
            let folder = tempdir().unwrap();
            write_model(folder.path(), &config, dtype, shard);
            let model = ModelFolder::open(folder.path()).unwrap();
            assert_eq!(*model.config(), config);
            assert_eq!(folder.path().join("model.safetensors").exists(), shard == u64::MAX);
            let names: Vec<String> = config.tensors().into_iter().map(|(name, _)| name).collect();
            assert_eq!(model.names().collect::<Vec<_>>(), names);
            for (index, (name, shape)) in config.tensors().iter().enumerate() {
                let expected = values(index, shape.iter().product());
                assert_eq!(model.info(name).unwrap().shape, *shape);
                assert_eq!(model.read_f32(name).unwrap(), expected, "{name}");
                assert_eq!(
                    model
                        .read_bf16(name)
                        .unwrap()
                        .iter()
                        .map(|value| value.to_f32())
                        .collect::<Vec<_>>(),
                    expected
                );
                let mut bytes = vec![9; 3];
                model.read_bytes(name, &mut bytes).unwrap();
                assert_eq!(bytes.len(), expected.len() * dtype.size());
            }
        }
    }
}

#[test]
fn rows_are_read_alone() {
    let folder = tempdir().unwrap();
    let config = tiny(Architecture::Qwen2);
    write_model(folder.path(), &config, DType::BF16, u64::MAX);
    let model = ModelFolder::open(folder.path()).unwrap();
    let all = model.read_f32("model.embed_tokens.weight").unwrap();
    let mut rows = vec![1.0];
    model
        .read_f32_rows("model.embed_tokens.weight", 3..5, &mut rows)
        .unwrap();
    assert_eq!(rows, all[3 * 32..5 * 32]);
    model.read_f32_rows("model.norm.weight", 31..32, &mut rows).unwrap();
    assert_eq!(rows.len(), 1);
    model.read_f32_rows("model.norm.weight", 4..4, &mut rows).unwrap();
    assert!(rows.is_empty());
    assert!(
        message(model.read_f32_rows("model.norm.weight", 31..33, &mut rows))
            .contains("tensor `model.norm.weight` has 32 rows, asked for 31 to 33")
    );
    assert!(message(model.read_f32("model.norm.bias")).contains("tensor `model.norm.bias` does not exist"));
}

#[test]
fn the_content_hash_follows_the_content() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let config = tiny(Architecture::Llama);
    for folder in [&first, &second] {
        write_model(folder.path(), &config, DType::F32, u64::MAX);
    }
    let hash = |folder: &tempfile::TempDir| ModelFolder::open(folder.path()).unwrap().content_hash().unwrap();
    assert_eq!(hash(&first), hash(&second));
    let path = second.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_ne!(hash(&first), hash(&second));
}

#[test]
fn a_truncated_file_is_named_with_both_lengths() {
    let folder = tempdir().unwrap();
    write_model(folder.path(), &tiny(Architecture::Llama), DType::F32, u64::MAX);
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let found = message(ModelFolder::open(folder.path()));
    assert!(
        found.contains("model.safetensors is truncated or damaged: expected "),
        "{found}"
    );
    assert!(
        found.contains(&format!("expected {} bytes, found {}", whole.len(), whole.len() - 5)),
        "{found}"
    );
    fs::write(&path, []).unwrap();
    assert!(message(ModelFolder::open(folder.path())).contains("expected 8 bytes, found 0"));
}

type Layout = Vec<(String, DType, Vec<usize>)>;

#[test]
fn missing_unexpected_and_misshapen_tensors_are_named() {
    let config = tiny(Architecture::Llama);
    let open = |change: &dyn Fn(&mut Layout)| {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
        let mut layout: Vec<_> = config
            .tensors()
            .into_iter()
            .map(|(name, shape)| (name, DType::BF16, shape))
            .collect();
        change(&mut layout);
        let mut writer = ShardedWriter::create(folder.path(), &layout, u64::MAX).unwrap();
        for (name, dtype, shape) in &layout {
            writer
                .write(name, &vec![0; dtype.size() * shape.iter().product::<usize>()])
                .unwrap();
        }
        writer.finish().unwrap();
        ModelFolder::open(folder.path()).map(|_| ())
    };
    open(&|_| {}).unwrap();
    let found = message(open(&|layout| drop(layout.drain(1..7))));
    assert!(
        found.contains("tensors that config.json asks for are missing: `model.layers.0.input_layernorm.weight`, ")
            && found.ends_with("and 2 more"),
        "{found}"
    );
    let found = message(open(&|layout| {
        layout.push(("model.layers.2.mlp.up_proj.weight".to_owned(), DType::BF16, vec![2]));
    }));
    assert!(
        found.contains("tensors that LlamaForCausalLM does not have: `model.layers.2.mlp.up_proj.weight`"),
        "{found}"
    );
    let found = message(open(&|layout| layout[0].2 = vec![47, 32]));
    assert!(
        found.contains("tensor `model.embed_tokens.weight` has the wrong shape: expected [48, 32], found [47, 32]"),
        "{found}"
    );
    let found = message(open(&|layout| layout[2].1 = DType::U8));
    assert!(
        found.contains("tensor `model.layers.0.self_attn.q_proj.weight` is U8, not one of F32, F16, BF16"),
        "{found}"
    );
    open(&|layout| {
        layout.push((
            "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
            DType::F32,
            vec![4],
        ));
    })
    .unwrap();
}

#[test]
fn a_folder_without_weights_says_what_is_missing() {
    let folder = tempdir().unwrap();
    assert!(message(ModelFolder::open(folder.path())).contains("config.json: "));
    fs::write(folder.path().join("config.json"), tiny(Architecture::Llama).to_json()).unwrap();
    assert!(
        message(ModelFolder::open(folder.path()))
            .contains("holds neither model.safetensors nor model.safetensors.index.json")
    );
    fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert!(message(ModelFolder::open(folder.path())).contains("convert pytorch_model.bin first"));

    let index = folder.path().join("model.safetensors.index.json");
    fs::write(
        &index,
        json!({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).to_string(),
    )
    .unwrap();
    assert!(message(ModelFolder::open(folder.path())).contains("are missing: `model-00001-of-00002.safetensors`"));
    fs::write(
        &index,
        json!({"weight_map": {"a": "../secret.safetensors"}}).to_string(),
    )
    .unwrap();
    assert!(
        message(ModelFolder::open(folder.path()))
            .contains("names `../secret.safetensors`, which is not a file of this folder")
    );
    fs::write(&index, "{").unwrap();
    assert!(message(ModelFolder::open(folder.path())).contains("model.safetensors.index.json is not valid"));
}

/// A folder's tensors under other names: of `torch.compile`, data parallelism, and of the decoder saved without its head's
/// class, which transformers loads too (the fixture bare-names of the crate merge holds its logits).
#[test]
fn wrapped_and_bare_names_are_the_architectures() {
    let config = tiny(Architecture::Qwen2);
    let plain = tempdir().unwrap();
    write_model(plain.path(), &config, DType::F32, u64::MAX);
    let plain = ModelFolder::open(plain.path()).unwrap();
    let rename = |to: &dyn Fn(&str) -> String| {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
        let layout: Vec<_> = config
            .tensors()
            .into_iter()
            .map(|(name, shape)| (to(&name), DType::F32, shape))
            .collect();
        let mut writer = ShardedWriter::create(folder.path(), &layout, u64::MAX).unwrap();
        for ((name, ..), (own, _)) in layout.iter().zip(config.tensors()) {
            let mut bytes = Vec::new();
            plain.read_bytes(&own, &mut bytes).unwrap();
            writer.write(name, &bytes).unwrap();
        }
        writer.finish().unwrap();
        let model = ModelFolder::open(folder.path())?;
        for (name, _) in config.tensors() {
            assert_eq!(model.read_f32(&name).unwrap(), plain.read_f32(&name).unwrap(), "{name}");
        }
        Ok::<_, CheckpointError>(())
    };
    rename(&|name| format!("_orig_mod.{name}")).unwrap();
    rename(&|name| format!("module._orig_mod.{name}")).unwrap();
    rename(&|name| name.replace(".self_attn.", "._fsdp_wrapped_module.self_attn.")).unwrap();
    rename(&|name| name.trim_start_matches("model.").to_owned()).unwrap();
    let found = message(rename(&|name| format!("gpt.{name}")));
    assert!(found.contains("are missing: `model.embed_tokens.weight`"), "{found}");
}

/// The rule of `output_head`: what transformers 5 does, whose logits the crate merge's fixtures hold.
#[test]
fn a_head_is_tied_where_the_weights_say_so() {
    let head = "lm_head.weight";
    let embedding = "model.embed_tokens.weight";
    let config = tiny(Architecture::Qwen2);
    let open = |change: &dyn Fn(&mut Layout), own: bool| {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
        let mut layout: Layout = config
            .tensors()
            .into_iter()
            .map(|(name, shape)| (name, DType::F32, shape))
            .collect();
        change(&mut layout);
        let mut writer = ShardedWriter::create(folder.path(), &layout, u64::MAX).unwrap();
        for (name, dtype, shape) in &layout {
            let index = usize::from(own && name == head);
            let mut bytes = Vec::new();
            dtype.extend_bytes(&values(index, shape.iter().product()), &mut bytes);
            writer.write(name, &bytes).unwrap();
        }
        writer.finish().unwrap();
        (ModelFolder::open(folder.path()), folder)
    };
    let add = |layout: &mut Layout| layout.push((head.to_owned(), DType::BF16, vec![48, 32]));
    let (equal, _equal) = open(&add, false);
    let equal = equal.unwrap();
    assert!(equal.config().tie_word_embeddings);
    assert_eq!(equal.read_f32(head).unwrap(), equal.read_f32(embedding).unwrap());
    let (own, _own) = open(&add, true);
    let own = own.unwrap();
    assert!(!own.config().tie_word_embeddings);
    assert_eq!(own.names().last(), Some(head));
    assert_eq!(own.read_f32(head).unwrap(), values(1, 48 * 32));
    let (only, _only) = open(&|layout: &mut Layout| head.clone_into(&mut layout[0].0), true);
    let only = only.unwrap();
    assert!(only.config().tie_word_embeddings);
    assert_eq!(only.read_f32(embedding).unwrap(), values(1, 48 * 32));
    let (narrow, _narrow) = open(
        &|layout: &mut Layout| layout.push((head.to_owned(), DType::F32, vec![47, 32])),
        true,
    );
    assert!(message(narrow).contains("`lm_head.weight` has the wrong shape: expected [48, 32], found [47, 32]"));
    let untied = tempdir().unwrap();
    write_model(untied.path(), &config, DType::F32, u64::MAX);
    let text = config
        .to_json()
        .replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    fs::write(untied.path().join("config.json"), text).unwrap();
    let found = message(ModelFolder::open(untied.path()));
    assert!(
        found.contains("there is no `lm_head.weight`; if the model ties them, set `tie_word_embeddings`"),
        "{found}"
    );
}
