//! What several test modules need.

use std::path::{Path, PathBuf};

use synapse_checkpoint::{Architecture, DType, ModelConfig, ShardedWriter};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A two-layer model with every kind of tensor in it.
pub(crate) fn tiny(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        synapse: None,
        architecture,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        vocab_size: 48,
        tie_word_embeddings: architecture == Architecture::Qwen2,
        max_position_embeddings: 128,
        qkv_bias: architecture == Architecture::Qwen2,
        o_bias: false,
        qk_norm: architecture == Architecture::Qwen3,
        no_rope_layers: if architecture == Architecture::SmolLM3 {
            vec![1]
        } else {
            vec![]
        },
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        initializer_range: 0.02,
    }
}

/// Writes a model folder whose values differ from tensor to tensor and from element to element.
pub(crate) fn write_model(folder: &Path, config: &ModelConfig, dtype: DType, max_shard_bytes: u64) {
    std::fs::write(folder.join("config.json"), config.to_json()).unwrap();
    let layout: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|(name, shape)| (name, dtype, shape))
        .collect();
    let mut writer = ShardedWriter::create(folder, &layout, max_shard_bytes).unwrap();
    for (index, (name, _, shape)) in layout.iter().enumerate() {
        let mut bytes = Vec::new();
        dtype.extend_bytes(&values(index, shape.iter().product()), &mut bytes);
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// The values [`write_model`] gives the tensor of this index; exact in bf16.
pub(crate) fn values(index: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|element| ((element * 7 + index * 13) % 129) as f32 / 64.0 - 1.0)
        .collect()
}

/// The message of an error that must be there.
#[track_caller]
pub(crate) fn message<T>(result: Result<T, synapse_checkpoint::CheckpointError>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}
