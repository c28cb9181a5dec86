//! A safetensors file: header, index of tensors, and every value that the header promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_checkpoint::TensorFiles;

fuzz_target!(|bytes: &[u8]| {
    let path = synapse_fuzz::file("model.safetensors", bytes);
    let Ok(tensors) = TensorFiles::open(vec![path]) else {
        return;
    };
    let names: Vec<String> = tensors.names().map(str::to_owned).collect();
    for name in names {
        let _ = tensors.read_f32(&name);
        let _ = tensors.read_bf16(&name);
        let _ = tensors.read_f32_rows(&name, 0..1, &mut Vec::new());
    }
});
