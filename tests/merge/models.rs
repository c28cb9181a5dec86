//! Small random checkpoints and adapters, made where a test runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use synapse_checkpoint::{DType, ModelFolder, write_safetensors};

/// Widths of a made-up Llama.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) mlp: usize,
}

pub(crate) const SMALL: Shape = Shape {
    layers: 3,
    hidden: 16,
    mlp: 24,
};

/// Values spread over [−1, 1) by a seed.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn values(&mut self, count: usize, spread: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * spread).collect()
    }
}

pub(crate) fn tensors(shape: Shape) -> Vec<(String, Vec<usize>)> {
    let Shape { layers, hidden, mlp } = shape;
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![32, hidden])];
    for layer in 0..layers {
        let mut add =
            |name: &str, shape: &[usize]| tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        add("input_layernorm", &[hidden]);
        add("self_attn.q_proj", &[hidden, hidden]);
        add("self_attn.k_proj", &[hidden / 2, hidden]);
        add("self_attn.v_proj", &[hidden / 2, hidden]);
        add("self_attn.o_proj", &[hidden, hidden]);
        add("post_attention_layernorm", &[hidden]);
        add("mlp.gate_proj", &[mlp, hidden]);
        add("mlp.up_proj", &[mlp, hidden]);
        add("mlp.down_proj", &[hidden, mlp]);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    tensors
}

/// Writes a float32 Llama folder, `spread` around another one where it is given.
pub(crate) fn write(folder: &Path, shape: Shape, seed: u64, around: Option<(&Path, f32)>) {
    fs::create_dir_all(folder).unwrap();
    let base = around.map(|(path, spread)| (ModelFolder::open(path).unwrap(), spread));
    let mut draw = Draw::new(seed);
    let mut stored = Vec::new();
    for (name, dimensions) in tensors(shape) {
        let count = dimensions.iter().product();
        let values = match &base {
            None => draw.values(count, 0.05),
            Some((base, spread)) => {
                let moved = draw.values(count, *spread);
                base.read_f32(&name)
                    .unwrap()
                    .iter()
                    .zip(moved)
                    .map(|(base, moved)| base + moved)
                    .collect()
            }
        };
        let mut bytes = Vec::new();
        DType::F32.extend_bytes(&values, &mut bytes);
        stored.push((name, dimensions, bytes));
    }
    let entries: Vec<(String, DType, Vec<usize>, &[u8])> = stored
        .iter()
        .map(|(name, dimensions, bytes)| (name.clone(), DType::F32, dimensions.clone(), bytes.as_slice()))
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&folder.join("model.safetensors"), &entries, &metadata).unwrap();
    let Shape { layers, hidden, mlp } = shape;
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "vocab_size": 32,
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n")).unwrap();
}

/// Writes an adapter folder from tensors by their PEFT names (without the wrapper's prefix), and extra fields.
pub(crate) fn write_adapter(folder: &Path, tensors: &[(&str, Vec<usize>, Vec<f32>)], extra: &serde_json::Value) {
    fs::create_dir_all(folder).unwrap();
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            let mut bytes = Vec::new();
            DType::F32.extend_bytes(values, &mut bytes);
            (format!("base_model.model.{name}"), shape.clone(), bytes)
        })
        .collect();
    let entries: Vec<(String, DType, Vec<usize>, &[u8])> = stored
        .iter()
        .map(|(name, shape, bytes)| (name.clone(), DType::F32, shape.clone(), bytes.as_slice()))
        .collect();
    write_safetensors(&folder.join("adapter_model.safetensors"), &entries, &BTreeMap::new()).unwrap();
    let mut config = serde_json::json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": 2, "lora_alpha": 6,
        "target_modules": ["q_proj"], "bias": "none",
    });
    for (field, value) in extra.as_object().unwrap() {
        config[field] = value.clone();
    }
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

/// Every tensor of a folder in f64.
pub(crate) fn read(folder: &Path) -> BTreeMap<String, Vec<f64>> {
    let model = ModelFolder::open(folder).unwrap();
    let values = |name: &str| model.read_f32(name).unwrap().into_iter().map(f64::from).collect();
    model.names().map(|name| (name.to_owned(), values(name))).collect()
}
