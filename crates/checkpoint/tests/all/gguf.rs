//! GGUF: dequantization and import against the reference implementations (fixtures/make_gguf.py), and damaged files.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use synapse_checkpoint::gguf::{
    GgufFile, PreTokenizer, TensorType, gguf_tensor_name, interleave_rotary_rows, separate_rotary_rows,
};
use synapse_checkpoint::{DType, ModelFolder, TensorFiles, import_gguf};
use tempfile::{TempDir, tempdir};
use tokenizers::Tokenizer;

use crate::support::{fixtures, message};

#[test]
fn dequantized_blocks_equal_the_reference_to_the_bit() {
    let file = GgufFile::open(&fixtures().join("quants.gguf")).unwrap();
    let expected = TensorFiles::open(vec![fixtures().join("quants.safetensors")]).unwrap();
    assert_eq!(file.tensors().len(), TensorType::ALL.len());
    for tensor_type in TensorType::ALL {
        let name = tensor_type.name();
        assert_eq!(file.tensor(name).unwrap().tensor_type, tensor_type);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(
            bits(file.read_f32(name).unwrap()),
            bits(expected.read_f32(name).unwrap()),
            "{name}"
        );
    }
    assert!(message(file.read_f32("nothing")).contains("tensor `nothing` does not exist"));
}

fn imported(name: &str) -> (TempDir, PathBuf) {
    let root = tempdir().unwrap();
    let out = root.path().join(name);
    import_gguf(&fixtures().join(format!("{name}.gguf")), &out).unwrap();
    (root, out)
}

#[test]
fn imported_weights_are_those_that_transformers_loads_from_the_same_file() {
    for name in ["llama", "qwen2"] {
        let (_root, out) = imported(name);
        let model = ModelFolder::open(&out).unwrap();
        let expected = TensorFiles::open(vec![fixtures().join(format!("{name}.safetensors"))]).unwrap();
        assert_eq!(model.names().count(), expected.names().count());
        for tensor in model.names() {
            assert_eq!(model.info(tensor).unwrap().dtype, DType::BF16);
            assert_eq!(
                model.read_bf16(tensor).unwrap(),
                expected.read_bf16(tensor).unwrap(),
                "{name}: {tensor}"
            );
        }
        let config = model.config();
        assert_eq!(
            (config.rms_norm_eps, config.rope_theta, config.head_dim),
            (1e-5, 100_000.0, 8)
        );
        assert_eq!(config.tie_word_embeddings, name == "llama");
        assert_eq!(
            (config.bos_token_id, config.eos_token_ids.as_slice()),
            (Some(1), &[2][..])
        );
    }
}

#[test]
fn imported_tokenizers_give_the_ids_of_the_original_pipeline() {
    for name in ["llama", "qwen2"] {
        let (_root, out) = imported(name);
        let tokenizer = Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
        let cases: Vec<Value> =
            serde_json::from_slice(&fs::read(fixtures().join(format!("{name}_tokens.json"))).unwrap()).unwrap();
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text, true).unwrap().get_ids().to_vec();
            assert_eq!(serde_json::json!(ids), case["ids"], "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
        assert_eq!(tokenizer.id_to_token(340), None, "padding is no token");
        let config: Value = serde_json::from_slice(&fs::read(out.join("tokenizer_config.json")).unwrap()).unwrap();
        assert_eq!(
            (config["eos_token"].as_str(), config["pad_token"].as_str()),
            (Some("<|im_end|>"), Some("<|im_end|>"))
        );
        assert!(
            fs::read_to_string(out.join("chat_template.jinja"))
                .unwrap()
                .starts_with("{% for m in messages %}<|im_start|>{{ m.role }}\n")
        );
        let generation: Value = serde_json::from_slice(&fs::read(out.join("generation_config.json")).unwrap()).unwrap();
        assert_eq!(generation["eos_token_id"], serde_json::json!([2]));
    }
}

/// Changes bytes of a fixture wherever `find` occurs first.
fn changed(name: &str, find: &[u8], replace: &[u8]) -> String {
    let mut bytes = fs::read(fixtures().join(name)).unwrap();
    let at = bytes.windows(find.len()).position(|window| window == find).unwrap();
    bytes.splice(at..at + find.len(), replace.iter().copied());
    import_error(&bytes)
}

fn import_error(bytes: &[u8]) -> String {
    let root = tempdir().unwrap();
    let path = root.path().join("changed.gguf");
    fs::write(&path, bytes).unwrap();
    let found = message(import_gguf(&path, &root.path().join("out")));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left behind");
    found
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let whole = fs::read(fixtures().join("llama.gguf")).unwrap();
    let key = |key: &str, value: u32| [key.as_bytes(), &4_u32.to_le_bytes(), &value.to_le_bytes()].concat();
    let cases = [
        (import_error(b"GGML"), "is not a GGUF file"),
        (
            import_error(b"GG"),
            "is truncated or damaged: expected 4 bytes, found 2",
        ),
        (import_error(&whole[..whole.len() - 4]), "is truncated or damaged"),
        (
            changed("llama.gguf", b"GGUF\x03", b"GGUF\x01"),
            "has GGUF version 1: versions 2 and 3 are read",
        ),
        (
            changed("llama.gguf", b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"),
            "big-endian files are not read",
        ),
        (
            changed("llama.gguf", b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma"),
            "`general.architecture` is `gemma`, which is not supported; supported: llama, qwen2",
        ),
        (
            changed("llama.gguf", b"smollm", b"falcon"),
            "`tokenizer.ggml.pre` is `falcon`, which is not supported; supported: gpt-2, smollm, qwen2, llama-bpe",
        ),
        (
            changed("llama.gguf", b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0bert"),
            "`tokenizer.ggml.model` is `bert`",
        ),
        (
            changed("llama.gguf", b"blk.1.ffn_up.weight", b"blk.1.ffn_up.height"),
            "tensor `blk.1.ffn_up.weight` does not exist",
        ),
        (
            changed("llama.gguf", b"blk.1.ffn_up.weight", b"blk.1.ffn_on.weight"),
            "tensor `blk.1.ffn_up.weight` does not exist",
        ),
        (
            changed("llama.gguf", &key("llama.block_count", 2), &key("llama.block_count", 1)),
            "tensor `blk.1.attn_q.weight` is not part of a LlamaForCausalLM",
        ),
        (
            changed(
                "llama.gguf",
                &key("llama.feed_forward_length", 64),
                &key("llama.feed_forward_length", 65),
            ),
            "tensor `blk.0.ffn_gate.weight` has the wrong shape: expected [65, 32], found [64, 32]",
        ),
        (
            changed(
                "llama.gguf",
                &key("llama.rope.dimension_count", 8),
                &key("llama.rope.dimension_count", 7),
            ),
            "`head_dim` is 7",
        ),
        (
            changed("quants.gguf", &13_u32.to_le_bytes(), &10_u32.to_le_bytes()),
            "has type Q2_K (number 10), which is not supported; supported: F32, F16, BF16, Q4_0",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found}\n  expected: {expected}");
    }
}

#[test]
fn every_pre_tokenizer_is_found_again_by_name_and_by_form() {
    for known in PreTokenizer::ALL {
        assert_eq!(PreTokenizer::from_name(known.name()), Some(known));
        assert_eq!(PreTokenizer::from_json(&known.to_json()), Some(known));
    }
    // Offsets do not change which tokens a text gives; whether words are split does.
    let byte_level = |trim: bool, regex: bool| serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": regex});
    assert_eq!(
        PreTokenizer::from_json(&byte_level(false, true)),
        Some(PreTokenizer::Gpt2)
    );
    assert_eq!(PreTokenizer::from_json(&byte_level(true, false)), None);
}

#[test]
fn rotary_rows_are_reordered_as_llama_cpp_does() {
    // One head of width 4: halves (0 1 | 2 3) become neighbors (0 2, 1 3).
    assert_eq!(interleave_rotary_rows(&[0, 1, 2, 3], 1, 4), [0, 2, 1, 3]);
    assert_eq!(
        interleave_rotary_rows(&[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7], 2, 4),
        [0, 0, 2, 2, 1, 1, 3, 3, 4, 4, 6, 6, 5, 5, 7, 7]
    );
    let rows: Vec<u16> = (0..3 * 8 * 5).collect();
    assert_eq!(separate_rotary_rows(&interleave_rotary_rows(&rows, 3, 8), 3, 8), rows);
    assert_eq!(
        gguf_tensor_name("model.layers.12.self_attn.o_proj.bias").unwrap(),
        "blk.12.attn_output.bias"
    );
    assert_eq!(gguf_tensor_name("lm_head.weight").unwrap(), "output.weight");
    assert_eq!(gguf_tensor_name("model.layers.0.mlp.experts.weight"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_files_never_panic(changes in prop::collection::vec((0_usize..16_000, any::<u8>()), 1..8), cut in prop::option::of(0_usize..56_000)) {
        let mut bytes = fs::read(fixtures().join("llama.gguf")).unwrap();
        // Most of the interesting bytes are in front, and in the last part of the front part, the directory.
        for (index, byte) in changes {
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        let root = tempdir().unwrap();
        let path = root.path().join("damaged.gguf");
        fs::write(&path, bytes).unwrap();
        drop(import_gguf(&path, &root.path().join("out")));
    }

    #[test]
    fn random_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let root = tempdir().unwrap();
        let path = root.path().join("random.gguf");
        fs::write(&path, [b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", tail.as_slice()].concat()).unwrap();
        prop_assert!(GgufFile::open(&path).is_err());
    }
}
