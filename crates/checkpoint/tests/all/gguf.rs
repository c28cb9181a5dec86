//! GGUF: dequantization and import against the reference implementations (fixtures/make_gguf.py), and damaged files.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use synapse_checkpoint::gguf::{
    GgufFile, PreTokenizer, TensorType, gguf_tensor_name, interleave_rotary_rows, separate_rotary_rows,
};
use synapse_checkpoint::{DType, ModelFiles, ModelFolder, TensorFiles, import_gguf};
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

/// The parts in split/ are llama.gguf as the gguf package splits it (fixtures/make_split.py).
#[test]
fn a_split_model_is_one_model() {
    let (_root, whole) = imported("llama");
    let place = tempdir().unwrap();
    let part = |number: usize| place.path().join(format!("llama-0000{number}-of-00003.gguf"));
    for number in 1..=3 {
        let name = part(number).file_name().unwrap().to_owned();
        fs::copy(fixtures().join("split").join(name), part(number)).unwrap();
    }
    let tensors = GgufFile::open(&part(1)).unwrap().tensors().len();
    assert_eq!(
        tensors,
        GgufFile::open(&fixtures().join("llama.gguf")).unwrap().tensors().len()
    );
    let hash = ModelFiles::open(place.path()).unwrap().content_hash().unwrap();
    for (at, named) in [part(1), part(2), place.path().to_owned()].iter().enumerate() {
        let out = tempdir().unwrap();
        let out = out.path().join(at.to_string());
        import_gguf(named, &out).unwrap();
        for file in [
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            assert!(
                fs::read(out.join(file)).unwrap() == fs::read(whole.join(file)).unwrap(),
                "{at}: {file}"
            );
        }
        assert_eq!(ModelFiles::open(named).unwrap().content_hash().unwrap(), hash);
    }
    let text = fs::read(part(3)).unwrap();
    fs::write(part(3), [&text[..text.len() - 1], &[text[text.len() - 1] ^ 1]].concat()).unwrap();
    assert_ne!(ModelFiles::open(place.path()).unwrap().content_hash().unwrap(), hash);

    fs::write(part(2), fs::read(part(3)).unwrap()).unwrap();
    let found = message(GgufFile::open(&part(1)));
    assert!(
        found.contains("`split.no` is 2, expected 1: the parts are not of one model"),
        "{found}"
    );
    fs::remove_file(part(2)).unwrap();
    for named in [part(1), part(3)] {
        let found = message(GgufFile::open(&named));
        assert!(
            found.contains("missing beside it: `llama-00002-of-00003.gguf`"),
            "{found}"
        );
    }
    let renamed = place.path().join("model.gguf");
    fs::rename(part(1), &renamed).unwrap();
    let found = message(GgufFile::open(&renamed));
    assert!(
        found.contains("is part 1 of 3, so its name must end in `-00001-of-00003.gguf`"),
        "{found}"
    );
    let found = message(ModelFiles::open(place.path()));
    assert!(
        found.contains("holds several GGUF models (llama-*-of-00003.gguf, model.gguf); name the file"),
        "{found}"
    );
    // a model that was split twice is two
    fs::remove_file(&renamed).unwrap();
    fs::copy(part(3), place.path().join("llama-00001-of-00002.gguf")).unwrap();
    let found = message(ModelFiles::open(place.path()));
    assert!(
        found.contains("holds several GGUF models (llama-*-of-00002.gguf, llama-*-of-00003.gguf)"),
        "{found}"
    );
}

fn imported(name: &str) -> (TempDir, PathBuf) {
    let root = tempdir().unwrap();
    let out = root.path().join(name);
    import_gguf(&fixtures().join(format!("{name}.gguf")), &out).unwrap();
    (root, out)
}

#[test]
fn imported_weights_are_those_that_transformers_loads_from_the_same_file() {
    for name in ["llama", "qwen2", "qwen3"] {
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
            (1e-5, 100_000.0, if name == "qwen3" { 16 } else { 8 })
        );
        assert_eq!(config.tie_word_embeddings, name != "qwen2");
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
            "`general.architecture` is `gemma`, which is not supported; supported: llama, smollm3, qwen2, qwen3",
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

/// llama.gguf with one more key at the front of its metadata; `value` is its type's number and its bytes.
fn with_key(key: &str, value: (u32, &[u8])) -> Vec<u8> {
    let mut bytes = fs::read(fixtures().join("llama.gguf")).unwrap();
    let entry = |key: &str, kind: u32, value: &[u8]| {
        [
            &(key.len() as u64).to_le_bytes(),
            key.as_bytes(),
            &kind.to_le_bytes(),
            value,
        ]
        .concat()
    };
    let mut added = entry(key, value.0, value.1);
    // A text of such a length that the tensors stay aligned.
    let overhead = entry("padding", 8, &0_u64.to_le_bytes()).len();
    let padding = (32 - (added.len() + overhead) % 32) % 32;
    let text = [&(padding as u64).to_le_bytes()[..], &vec![b' '; padding]].concat();
    added.extend(entry("padding", 8, &text));
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes.splice(24..24, added);
    bytes
}

/// Keys by which llama.cpp computes something else: they must not be passed over.
#[test]
fn keys_that_change_the_numbers_are_refused() {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let number = |number: f32| (6, number.to_le_bytes().to_vec());
    let cases = [
        (
            "llama.rope.scaling.factor",
            number(2.0),
            "`llama.rope.scaling.factor` is 2: linear RoPE scaling",
        ),
        (
            "llama.rope.scale_linear",
            number(4.0),
            "`llama.rope.scale_linear` is 4: linear RoPE scaling",
        ),
        (
            "llama.rope.scaling.type",
            (8, text("yarn")),
            "`llama.rope.scaling.type` is `yarn`",
        ),
        (
            "llama.attention.causal",
            (7, vec![0]),
            "only causal attention is supported",
        ),
        ("llama.attention.scale", number(0.5), "`llama.attention.scale` is 0.5"),
        (
            "general.type",
            (8, text("adapter")),
            "`general.type` is `adapter`; only models are read",
        ),
    ];
    for (key, (kind, value), expected) in cases {
        let found = import_error(&with_key(key, (kind, &value)));
        assert!(found.contains(expected), "{found}\n  expected: {expected}");
    }
    for (key, (kind, value)) in [
        ("llama.rope.scaling.factor", number(1.0)),
        ("llama.rope.scale_linear", number(0.0)),
        ("llama.rope.scaling.type", (8, text("linear"))),
        ("llama.attention.causal", (7, vec![1])),
        ("llama.attention.scale", number(0.0)),
        ("general.type", (8, text("model"))),
    ] {
        let root = tempdir().unwrap();
        let path = root.path().join("changed.gguf");
        fs::write(&path, with_key(key, (kind, &value))).unwrap();
        import_gguf(&path, &root.path().join("out")).unwrap();
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
