//! How ggml calls a decoder's tensors, and how it orders the rows of a Llama's query and key projections. One copy
//! for reading and writing GGUF.

use crate::architecture::Architecture;
use crate::config::ModelConfig;

/// Hugging Face's and ggml's names for a layer's parts.
const LAYER_PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// ggml's name of a tensor of a supported decoder: `blk.3.attn_q.weight` for `model.layers.3.self_attn.q_proj.weight`.
#[must_use]
pub fn gguf_tensor_name(name: &str) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    let module = match module {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        "lm_head" => "output".to_owned(),
        _ => {
            let (layer, part) = module.strip_prefix("model.layers.")?.split_once('.')?;
            let (_, part) = LAYER_PARTS.iter().find(|(known, _)| *known == part)?;
            format!("blk.{layer}.{part}")
        }
    };
    Some(format!("{module}.{kind}"))
}

/// How many heads a tensor's rows are divided into, where GGUF stores them in its own rotary order: only the query and
/// key projections of Llama and its kin, in layers without rotation too.
#[must_use]
pub fn rotated_heads(config: &ModelConfig, name: &str) -> Option<usize> {
    match config.architecture {
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Synapse => None,
        Architecture::Llama | Architecture::Mistral | Architecture::SmolLM3 => match name {
            _ if name.contains(".q_proj.") => Some(config.num_attention_heads),
            _ if name.contains(".k_proj.") => Some(config.num_key_value_heads),
            _ => None,
        },
    }
}

/// Reorders the rows of a Llama's q or k projection (or the elements of its bias) from Hugging Face's order, where a
/// head's rotated pairs are its two halves, to GGUF's, where the two of a pair are neighbors. `data` holds
/// `heads · head_dim` rows of equal length.
#[must_use]
pub fn interleave_rotary_rows<T: Copy>(data: &[T], heads: usize, head_dim: usize) -> Vec<T> {
    reorder(data, heads, head_dim, |row| row % 2 * (head_dim / 2) + row / 2)
}

/// The inverse of [`interleave_rotary_rows`].
#[must_use]
pub fn separate_rotary_rows<T: Copy>(data: &[T], heads: usize, head_dim: usize) -> Vec<T> {
    reorder(data, heads, head_dim, |row| {
        row % (head_dim / 2) * 2 + row / (head_dim / 2)
    })
}

/// Row `row` of each head of the result is row `source(row)` of the same head of `data`.
fn reorder<T: Copy>(data: &[T], heads: usize, head_dim: usize, source: impl Fn(usize) -> usize) -> Vec<T> {
    let width = data.len() / (heads * head_dim).max(1);
    let mut out = Vec::with_capacity(data.len());
    for head in 0..heads {
        for row in 0..head_dim {
            let at = (head * head_dim + source(row)) * width;
            out.extend_from_slice(&data[at..at + width]);
        }
    }
    out
}
