//! Weights in ggml's blocks: quantized at load they give the bits of the file that an export writes, and both stay near
//! the values that the blocks stand for.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::{Path, PathBuf};

use synapse_checkpoint::{DType, GgufModel, ModelFolder, gguf::import_gguf_as};
use synapse_export::{GgufExport, GgufType, export_gguf};
use synapse_nn::{CausalLm, Decoder, LoadOptions, LogitsFor, Phase, Precision, Sequence, WeightDtype};

const TYPES: [(GgufType, WeightDtype); 2] = [(GgufType::Q8_0, WeightDtype::Q8_0), (GgufType::Q4_0, WeightDtype::Q4_0)];

/// Folders of both architectures: the bundled base, whose head is tied, and the importer's Llama, whose rows GGUF
/// orders its own way.
fn folders(root: &Path) -> [PathBuf; 2] {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let llama = root.join("llama");
    import_gguf_as(&crates.join("checkpoint/tests/fixtures/llama.gguf"), &llama, DType::F32).unwrap();
    [crates.parent().unwrap().join("data/nano/base"), llama]
}

fn exported(folder: &ModelFolder, gguf_type: GgufType, out: &Path) -> GgufModel {
    let export = GgufExport {
        model: folder,
        config: folder.config(),
        gguf_type,
        name: "test",
        license: None,
    };
    export_gguf(&export, out).unwrap();
    GgufModel::open(out).unwrap()
}

/// Logits of a prompt's every token, and of some tokens after it read as generated ones.
fn logits(decoder: &Decoder) -> [Vec<f32>; 2] {
    let mut cache = decoder.new_cache();
    let vocab = decoder.vocab_size() as u32;
    let tokens: Vec<u32> = (0..24).map(|i| (i * 37 + 5) % vocab).collect();
    [(Phase::Prefill, 0..16), (Phase::Decode, 16..24)].map(|(phase, part)| {
        let sequence = Sequence {
            tokens: &tokens[part],
            cache: &mut cache,
            phase,
            adapter: None,
            logits: LogitsFor::All,
        };
        decoder.forward(&mut [sequence]).unwrap().remove(0)
    })
}

#[test]
fn a_file_gives_the_bits_of_its_folder_quantized_at_load() {
    let root = tempfile::tempdir().unwrap();
    for path in folders(root.path()) {
        let folder = ModelFolder::open(&path).unwrap();
        for (gguf_type, dtype) in TYPES {
            let file = exported(&folder, gguf_type, &root.path().join("model.gguf"));
            for precision in [Precision::Bf16, Precision::F32] {
                let options = LoadOptions { dtype, precision };
                let at_load = Decoder::load_for_inference(&folder, &options).unwrap();
                let as_stored = Decoder::load_gguf(&file, precision).unwrap();
                assert_eq!(at_load.bytes(), as_stored.bytes());
                assert!(
                    logits(&at_load) == logits(&as_stored),
                    "{}, {dtype:?}, {precision:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn without_rounding_blocks_are_the_values_they_stand_for() {
    let root = tempfile::tempdir().unwrap();
    for (index, path) in folders(root.path()).into_iter().enumerate() {
        let folder = ModelFolder::open(&path).unwrap();
        for (gguf_type, dtype) in TYPES {
            let file = root.path().join("model.gguf");
            let model = exported(&folder, gguf_type, &file);
            let values = root.path().join(format!("{index}-{}", gguf_type.name()));
            import_gguf_as(&file, &values, DType::F32).unwrap();
            let values = ModelFolder::open(&values).unwrap();
            let exact = logits(&Decoder::load(&values, &LoadOptions::EXACT).unwrap());
            assert!(
                exact == logits(&Decoder::load_gguf(&model, Precision::F32).unwrap()),
                "{dtype:?}"
            );

            let [_, rounded] = logits(&Decoder::load_gguf(&model, Precision::Bf16).unwrap());
            let largest = exact[1].iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let difference = exact[1].iter().zip(&rounded);
            let difference = difference.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // 127 steps of the largest of 32 activations are off by 1/4 of a step on average, 0.5 % of a value that lies
            // two deviations below; the prompt before in bf16 by 0.2 %: some 30 products deep, and the largest of all
            // logits four deviations off
            let bound = 4.0 * 0.005 * 30f32.sqrt() * largest;
            assert!(
                difference > 0.0 && difference < bound,
                "{dtype:?}: {difference} of {largest}, allowed {bound}"
            );
        }
    }
}

#[test]
fn few_bits_take_few_bytes() {
    let root = tempfile::tempdir().unwrap();
    let [path, _] = folders(root.path());
    let folder = ModelFolder::open(&path).unwrap();
    let bytes = |dtype| {
        let precision = Precision::Bf16;
        Decoder::load_for_inference(&folder, &LoadOptions { dtype, precision })
            .unwrap()
            .bytes()
    };
    let embedding = folder.config().vocab_size * folder.config().hidden_size;
    let linears = bytes(WeightDtype::Bf16) / 2 - embedding;
    // 4.5 and 8.5 bits a weight, the tied head 8.5 in both, every weight held once
    assert_eq!(bytes(WeightDtype::Q8_0), (linears + embedding) / 32 * 34);
    assert_eq!(bytes(WeightDtype::Q4_0), linears / 32 * 18 + embedding / 32 * 34);
}

#[test]
fn values_that_no_scale_reaches_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let [_, llama] = folders(root.path());
    let name = "model.layers.0.mlp.up_proj.weight";
    let folder = ModelFolder::open(&llama).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = folder
        .config()
        .tensors()
        .into_iter()
        .map(|(tensor, shape)| {
            let mut values = folder.read_f32(&tensor).unwrap();
            if tensor == name {
                values[3] = 1e9;
            }
            let mut bytes = Vec::new();
            DType::F32.extend_bytes(&values, &mut bytes);
            (tensor, shape, bytes)
        })
        .collect();
    let layout: Vec<_> = tensors
        .iter()
        .map(|(tensor, shape, _)| (tensor.clone(), DType::F32, shape.clone()))
        .collect();
    let mut writer = synapse_checkpoint::ShardedWriter::create(&llama, &layout, 5_000_000_000).unwrap();
    for (tensor, _, bytes) in &tensors {
        writer.write(tensor, bytes).unwrap();
    }
    writer.finish().unwrap();
    let folder = ModelFolder::open(&llama).unwrap();
    let options = LoadOptions {
        dtype: WeightDtype::Q4_0,
        precision: Precision::Bf16,
    };
    let refused = Decoder::load_for_inference(&folder, &options).unwrap_err().to_string();
    assert!(
        refused.contains(name) && refused.contains("too large for Q4_0"),
        "{refused}"
    );
}
