//! A model's configuration from GGUF metadata. The values go through the same checks as a config.json, so both ways in
//! refuse the same models.

use serde_json::{Value as Json, json};

use super::{GgufFile, Metadata};
use crate::architecture::Architecture;
use crate::config::ModelConfig;
use crate::error::{CheckpointError, Result};
use crate::rope_scaling::Llama3RopeScaling;

/// The frequency divisors a Llama 3 GGUF carries instead of its scaling's parameters.
pub(super) const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

pub(super) fn model_config(file: &GgufFile) -> Result<ModelConfig> {
    let metadata = file.metadata();
    if let Some(kind) = metadata.optional_text("general.type")?.filter(|&kind| kind != "model") {
        return Err(metadata.error("general.type", format!("is `{kind}`; only models are read")));
    }
    let name = metadata.text("general.architecture")?;
    let known = Architecture::ALL.map(|known| (known.gguf_name(), known));
    let architecture = known.iter().find(|(known, _)| *known == Some(name));
    let &(_, architecture) = architecture.ok_or_else(|| {
        let mut supported: Vec<&str> = known.iter().filter_map(|(known, _)| *known).collect();
        supported.dedup();
        metadata.error(
            "general.architecture",
            format!(
                "is `{name}`, which is not supported; supported: {}",
                supported.join(", ")
            ),
        )
    })?;
    let key = |suffix: &str| format!("{name}.{suffix}");
    refuse_unsupported(file, name)?;

    let heads = metadata.size(&key("attention.head_count"))?;
    let hidden = metadata.size(&key("embedding_length"))?;
    let head_dim = match (
        metadata.optional_size(&key("attention.key_length"))?,
        metadata.optional_size(&key("rope.dimension_count"))?,
    ) {
        (Some(width), Some(rotated)) if width != rotated => {
            return Err(metadata.error(
                &key("rope.dimension_count"),
                format!("is {rotated}, but heads are {width} wide; only full rotation is supported"),
            ));
        }
        (width, rotated) => width.or(rotated).unwrap_or(hidden / heads.max(1)),
    };
    let embedding = file
        .tensor("token_embd.weight")
        .ok_or_else(|| CheckpointError::tensor(file.path(), "token_embd.weight", "does not exist"))?;
    let rope_theta = metadata.optional_number(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let bias = file.tensor("blk.0.attn_q.bias").is_some();
    let root = json!({
        "architectures": [architecture.class_name()],
        "model_type": architecture.model_type(),
        "attention_bias": bias || architecture == Architecture::Qwen2,
        "bos_token_id": metadata.optional_token_id("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": eos_token_ids(file)?,
        "head_dim": head_dim,
        "hidden_size": hidden,
        "intermediate_size": metadata.size(&key("feed_forward_length"))?,
        "max_position_embeddings": metadata.size(&key("context_length"))?,
        "num_attention_heads": heads,
        "num_hidden_layers": metadata.size(&key("block_count"))?,
        "num_key_value_heads": metadata.optional_size(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "rms_norm_eps": metadata.number(&key("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": rope_theta,
        "rope_scaling": rope_scaling(file, name, head_dim, rope_theta)?,
        "tie_word_embeddings": file.tensor("output.weight").is_none(),
        "vocab_size": embedding.shape.first(),
    });
    ModelConfig::from_json(&root.to_string(), file.path())
}

/// End of sequence, and the end of turn where it is another token.
fn eos_token_ids(file: &GgufFile) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        if let Some(id) = file.metadata().optional_token_id(key)?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn refuse_unsupported(file: &GgufFile, name: &str) -> Result<()> {
    let metadata = file.metadata();
    for (suffix, what) in [
        ("expert_count", "mixtures of experts are"),
        ("attention.sliding_window", "sliding-window attention is"),
    ] {
        let key = format!("{name}.{suffix}");
        if let Some(value) = metadata.optional_u64(&key)?.filter(|&value| value > 0) {
            return Err(metadata.error(&key, format!("is {value}: {what} not supported")));
        }
    }
    let key = format!("{name}.attention.causal");
    if metadata.optional_flag(&key)? == Some(false) {
        return Err(metadata.error(&key, "is false: only causal attention is supported"));
    }
    let key = format!("{name}.attention.scale");
    if let Some(scale) = metadata.optional_number(&key)?.filter(|&scale| scale != 0.0) {
        return Err(metadata.error(
            &key,
            format!("is {scale}: only the scale 1/√width of a head is supported"),
        ));
    }
    refuse_rope_scaling(metadata, name)
}

/// Refuses every scaling of the rotary positions except Llama 3's, which is a tensor. As llama.cpp reads them, a factor
/// without a type is a linear scaling, and `scale_linear` is the factor's old name.
fn refuse_rope_scaling(metadata: &Metadata, name: &str) -> Result<()> {
    let key = format!("{name}.rope.scaling.type");
    match metadata.optional_text(&key)? {
        Some("none") => return Ok(()),
        None | Some("linear") => {}
        Some(other) => return Err(metadata.error(&key, format!("is `{other}`: this RoPE scaling is not supported"))),
    }
    for suffix in ["rope.scaling.factor", "rope.scale_linear"] {
        let key = format!("{name}.{suffix}");
        if let Some(factor) = metadata
            .optional_number(&key)?
            .filter(|&factor| factor != 0.0 && factor != 1.0)
        {
            return Err(metadata.error(&key, format!("is {factor}: linear RoPE scaling is not supported")));
        }
    }
    Ok(())
}

/// Llama 3's scaling from its frequency divisors. GGUF does not keep its four parameters; every published Llama 3 has
/// the same three of them and the fourth is the last divisor, so these are tried and must reproduce the tensor.
fn rope_scaling(file: &GgufFile, name: &str, head_dim: usize, rope_theta: f64) -> Result<Option<Json>> {
    if file.tensor(ROPE_FREQUENCIES).is_none() {
        return Ok(None);
    }
    let divisors = file.read_f32(ROPE_FREQUENCIES)?;
    let original = file
        .metadata()
        .optional_size(&format!("{name}.rope.scaling.original_context_length"))?
        .unwrap_or(8192);
    let factor = f64::from(divisors.last().copied().unwrap_or(1.0));
    let scaling = Llama3RopeScaling {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: original,
    };
    let expected = scaling.divisors(head_dim, rope_theta);
    let same = expected.len() == divisors.len()
        && expected
            .iter()
            .zip(&divisors)
            .all(|(expected, found)| (expected - f64::from(*found)).abs() <= 1e-4 * expected);
    if !same {
        return Err(CheckpointError::tensor(
            file.path(),
            ROPE_FREQUENCIES,
            "is not Llama 3's RoPE scaling, and no other is supported",
        ));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": original,
    })))
}
