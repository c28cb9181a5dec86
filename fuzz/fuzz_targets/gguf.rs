//! A GGUF file: metadata, tensors in every type, the configuration and the tokenizer that are read from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_checkpoint::GgufModel;
use synapse_checkpoint::gguf::GgufFile;

fuzz_target!(|bytes: &[u8]| {
    let path = synapse_fuzz::file("model.gguf", bytes);
    if let Ok(file) = GgufFile::open(&path) {
        for tensor in file.tensors() {
            let _ = file.read_f32(&tensor.name);
        }
    }
    if let Ok(model) = GgufModel::open(&path) {
        let _ = model.matrix_types();
        let _ = model.side_files();
        let _ = model.read_f32("model.embed_tokens.weight");
        let _ = model.read_stored("model.layers.0.self_attn.q_proj.weight");
    }
});
