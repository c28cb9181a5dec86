//! GGUF export: quantization against the gguf package (fixtures/make_quants.py), whole models against the importer,
//! which is itself checked against transformers. fixtures/check_gguf.py does the same by hand on real models.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use synapse_checkpoint::gguf::{GgufFile, TensorType, dequantize, quantize};
use synapse_checkpoint::{
    DType, Llama3RopeScaling, ModelConfig, ModelFolder, TensorFiles, import_gguf, write_safetensors,
};
use synapse_export::{ExportError, GgufExport, GgufType, export_gguf};
use tempfile::tempdir;

use crate::model_folder;

const TYPES: [GgufType; 4] = [GgufType::F16, GgufType::Bf16, GgufType::Q8_0, GgufType::Q4_0];

#[test]
fn quantized_blocks_equal_the_reference_to_the_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quants.safetensors");
    let fixture = TensorFiles::open(vec![path]).unwrap();
    let values = fixture.read_f32("values").unwrap();
    for tensor_type in [TensorType::F16, TensorType::Bf16, TensorType::Q8_0, TensorType::Q4_0] {
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        quantize(tensor_type, &values, &mut found);
        fixture.read_bytes(tensor_type.name(), &mut expected).unwrap();
        assert!(found == expected, "{}", tensor_type.name());
    }
}

proptest! {
    #[test]
    fn a_quantized_block_is_near_what_it_was(values in prop::collection::vec(-100.0_f32..100.0, 32)) {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (tensor_type, steps) in [(TensorType::Q8_0, 127.0), (TensorType::Q4_0, 8.0)] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            quantize(tensor_type, &values, &mut bytes);
            dequantize(tensor_type, &bytes, &mut back);
            // Half a step; the far end of Q4_0, which has no +8, a whole one; and the f16 scale's own rounding.
            let bound = largest / steps * if tensor_type == TensorType::Q4_0 { 1.01 } else { 0.6 } + 1e-6;
            for (value, back) in values.iter().zip(&back) {
                prop_assert!((value - back).abs() <= bound, "{tensor_type:?}: {value} became {back}");
            }
        }
    }
}

fn export(folder: &Path, gguf_type: GgufType, out: &Path) -> Result<(), ExportError> {
    let model = ModelFolder::open(folder).unwrap();
    export_gguf(
        &GgufExport {
            model: &model,
            config: model.config(),
            gguf_type,
            name: "Tiny",
            license: Some("apache-2.0"),
        },
        out,
    )
}

#[test]
fn an_exported_model_imports_to_the_same_folder() {
    for name in ["llama", "qwen2", "qwen3"] {
        let root = tempdir().unwrap();
        let folder = model_folder(name, root.path());
        let (file, back) = (root.path().join("tiny.gguf"), root.path().join("back"));
        export(&folder, GgufType::Bf16, &file).unwrap();
        import_gguf(&file, &back).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap().file_name();
            assert!(
                fs::read(folder.join(&entry)).unwrap() == fs::read(back.join(&entry)).unwrap(),
                "{name}: {entry:?}"
            );
        }
        let first = fs::read(&file).unwrap();
        export(&folder, GgufType::Bf16, &file).unwrap();
        assert!(first == fs::read(&file).unwrap(), "the same model gives the same bytes");
    }
}

#[test]
fn each_type_keeps_vectors_exact_and_matrices_near() {
    for name in ["llama", "qwen2", "qwen3"] {
        let root = tempdir().unwrap();
        let folder = model_folder(name, root.path());
        let original = ModelFolder::open(&folder).unwrap();
        for gguf_type in TYPES {
            let (file, back) = (root.path().join("tiny.gguf"), root.path().join(gguf_type.name()));
            export(&folder, gguf_type, &file).unwrap();
            import_gguf(&file, &back).unwrap();
            let back = ModelFolder::open(&back).unwrap();
            let tolerance = match gguf_type {
                GgufType::Bf16 => 0.0,
                GgufType::F16 => 0.004,
                GgufType::Q8_0 => 0.008,
                GgufType::Q4_0 => 0.14,
            };
            for tensor in original.names() {
                let (wanted, found) = (original.read_f32(tensor).unwrap(), back.read_f32(tensor).unwrap());
                let largest = wanted.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let tolerance = if original.info(tensor).unwrap().shape.len() == 1 {
                    0.0
                } else {
                    tolerance * largest
                };
                let worst = wanted
                    .iter()
                    .zip(&found)
                    .fold(0.0_f32, |worst, (wanted, found)| worst.max((wanted - found).abs()));
                assert!(
                    worst <= tolerance,
                    "{name} {gguf_type:?} {tensor}: {worst} > {tolerance}"
                );
            }
            let gguf = GgufFile::open(&file).unwrap();
            let head = if name == "qwen2" {
                "output.weight"
            } else {
                "token_embd.weight"
            };
            let expected = if gguf_type == GgufType::Q4_0 {
                "Q8_0"
            } else {
                gguf_type.name()
            };
            assert_eq!(
                gguf.tensor(head).unwrap().tensor_type.name().to_lowercase(),
                expected.to_lowercase()
            );
            assert_eq!(gguf.version(), 3);
        }
    }
}

#[test]
fn llama_3_rope_scaling_travels_as_divisors() {
    let root = tempdir().unwrap();
    let folder = model_folder("llama", root.path());
    let scaling = Llama3RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    let config = ModelConfig {
        rope_scaling: Some(scaling),
        ..ModelConfig::read(&folder).unwrap()
    };
    fs::write(folder.join("config.json"), config.to_json()).unwrap();
    let (file, back) = (root.path().join("tiny.gguf"), root.path().join("back"));
    export(&folder, GgufType::Q8_0, &file).unwrap();
    assert_eq!(
        GgufFile::open(&file)
            .unwrap()
            .tensor("rope_freqs.weight")
            .unwrap()
            .shape,
        [4]
    );
    import_gguf(&file, &back).unwrap();
    assert_eq!(ModelConfig::read(&back).unwrap(), config);
}

/// The message of an export after tokenizer.json was changed.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let root = tempdir().unwrap();
    let folder = model_folder("llama", root.path());
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut tokenizer);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let found = export(&folder, GgufType::F16, &root.path().join("tiny.gguf"))
        .unwrap_err()
        .to_string();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left behind");
    found
}

#[test]
fn tokenizers_that_gguf_cannot_say_are_refused() {
    let cases = [
        (
            refused(|json| json["model"]["type"] = json!("WordPiece")),
            "`model.type` is not byte-level BPE",
        ),
        (
            refused(|json| json["normalizer"] = json!({"type": "Lowercase"})),
            "`normalizer` is {\"type\":\"Lowercase\"}, which GGUF has no name for",
        ),
        (
            refused(|json| json["pre_tokenizer"] = json!({"type": "Whitespace"})),
            "known: gpt-2, smollm, qwen2, llama-bpe",
        ),
        (
            refused(|json| json["model"]["ignore_merges"] = json!(true)),
            "`model.ignore_merges` is true, but in GGUF a `smollm` tokenizer has it false",
        ),
        (
            refused(|json| json["model"]["vocab"]["zebra"] = json!(90_000)),
            "`model.vocab` gives `zebra` the id 90000, but the embedding has ",
        ),
        (refused(|json| json["model"]["vocab"]["zebra"] = json!(7)), "which `"),
        (
            refused(|json| json["model"]["merges"] = json!([["a b", "c"]])),
            "`model.merges` has [\"a b\",\"c\"], which is not a pair of tokens",
        ),
        (
            refused(|json| json["post_processor"] = json!({"type": "BertProcessing"})),
            "`post_processor` is BertProcessing",
        ),
    ];
    for (found, expected) in cases {
        assert!(
            found.contains("tokenizer.json: ") && found.contains(expected),
            "{found}\n  expected: {expected}"
        );
    }
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let root = tempdir().unwrap();
    let folder = model_folder("llama", root.path());
    let model = ModelFolder::open(&folder).unwrap();
    let with = |value: f32| {
        let tensors: Vec<_> = model
            .config()
            .tensors()
            .iter()
            .map(|(name, shape)| {
                let mut values = model.read_f32(name).unwrap();
                if name == "model.layers.1.mlp.up_proj.weight" {
                    values[5] = value;
                }
                let mut bytes = Vec::new();
                DType::F32.extend_bytes(&values, &mut bytes);
                (name.clone(), DType::F32, shape.clone(), bytes)
            })
            .collect();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| (name.clone(), *dtype, shape.clone(), bytes.as_slice()))
            .collect();
        write_safetensors(&folder.join("model.safetensors"), &tensors, &Default::default()).unwrap();
        export(&folder, GgufType::F16, &root.path().join("tiny.gguf"))
    };
    assert_eq!(
        with(70_000.0).unwrap_err().to_string(),
        "tensor `model.layers.1.mlp.up_proj.weight` holds the value 70000, too large for F16; export as bf16"
    );
    assert_eq!(
        with(f32::NAN).unwrap_err().to_string(),
        "tensor `model.layers.1.mlp.up_proj.weight` holds values that are not finite; the model is damaged"
    );
    assert!(!root.path().join("tiny.gguf").exists());
    with(65_000.0).unwrap();
}

#[test]
fn type_names_are_read_as_written_on_the_command_line() {
    for gguf_type in TYPES {
        assert_eq!(gguf_type.name().parse::<GgufType>().unwrap(), gguf_type);
    }
    assert_eq!("Q8_0".parse::<GgufType>().unwrap(), GgufType::Q8_0);
    assert_eq!(
        "q3_k".parse::<GgufType>().unwrap_err().to_string(),
        "`q3_k` is not a GGUF type that can be written; supported: f16, bf16, q8_0, q4_0"
    );
}
