//! The keys that describe the model itself. Source: llama.cpp's convert_hf_to_gguf.py and docs/gguf.md.

use synapse_checkpoint::Architecture;
use synapse_checkpoint::gguf::MetadataValue;

use super::GgufExport;

/// Keys and values in the order they are written.
pub(super) fn model(export: &GgufExport<'_>) -> Vec<(String, MetadataValue)> {
    let config = export.config;
    let architecture = config.architecture.gguf_name().unwrap_or_default();
    let number = |size: usize| MetadataValue::U32(u32::try_from(size).unwrap_or(u32::MAX));
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let mut entries = vec![
        (
            "general.architecture".to_owned(),
            MetadataValue::String(architecture.to_owned()),
        ),
        ("general.type".to_owned(), MetadataValue::String("model".to_owned())),
        ("general.name".to_owned(), MetadataValue::String(export.name.to_owned())),
    ];
    if let Some(license) = export.license {
        entries.push(("general.license".to_owned(), MetadataValue::String(license.to_owned())));
    }
    entries.extend([
        (
            "general.file_type".to_owned(),
            MetadataValue::U32(export.gguf_type.file_type()),
        ),
        ("general.quantization_version".to_owned(), MetadataValue::U32(2)),
        (key("block_count"), number(config.num_hidden_layers)),
        (key("context_length"), number(config.max_position_embeddings)),
        (key("embedding_length"), number(config.hidden_size)),
        (key("feed_forward_length"), number(config.intermediate_size)),
        (key("attention.head_count"), number(config.num_attention_heads)),
        (key("attention.head_count_kv"), number(config.num_key_value_heads)),
        (
            key("attention.layer_norm_rms_epsilon"),
            MetadataValue::F32(config.rms_norm_eps as f32),
        ),
        (key("rope.freq_base"), MetadataValue::F32(config.rope_theta as f32)),
        (key("vocab_size"), number(config.vocab_size)),
    ]);
    if matches!(
        config.architecture,
        Architecture::Llama | Architecture::Mistral | Architecture::SmolLM3
    ) {
        entries.push((key("rope.dimension_count"), number(config.head_dim)));
    }
    if config.head_dim * config.num_attention_heads != config.hidden_size {
        entries.push((key("attention.key_length"), number(config.head_dim)));
        entries.push((key("attention.value_length"), number(config.head_dim)));
    }
    if let Some(scaling) = &config.rope_scaling {
        entries.push((
            key("rope.scaling.original_context_length"),
            number(scaling.original_max_position_embeddings),
        ));
    }
    entries
}
