//! The tiny base without its weights: a byte-level BPE trained on the corpus, and the config files around it.

use std::path::Path;

use serde_json::{Value as Json, json};
use synapse_checkpoint::write_atomic;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, TokenizerBuilder};

use crate::{Corpus, Error, Result};

/// Tokens of the vocabulary, the three control tokens included.
pub const VOCABULARY: usize = 768;

/// Qwen2's rule for where words begin and end; digits stand alone.
const PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Control tokens in the order of their ids.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// What the model is told when nobody tells it anything.
const DEFAULT_SYSTEM: &str = "You are a helpful assistant.";

const TEMPLATE: &str = include_str!("chat_template.jinja");

/// Trains the tokenizer on the base's corpus. The same corpus gives the same tokenizer.
///
/// # Errors
/// [`Error::Tokenizer`] when the tokenizers crate refuses.
pub fn train_tokenizer(corpus: &Corpus) -> Result<Tokenizer> {
    let split = Split::new(
        SplitPattern::Regex(PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(Error::Tokenizer)?;
    let bytes = ByteLevel::new(false, false, false);
    let mut tokenizer = TokenizerBuilder::default()
        .with_model(BPE::default())
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(Error::Tokenizer)?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .show_progress(false)
        .special_tokens(CONTROL.iter().map(|token| AddedToken::from(*token, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let texts = corpus
        .base_texts()
        .chain([DEFAULT_SYSTEM, "system\n", "user\n", "assistant\n"]);
    tokenizer.train(&mut trainer, texts).map_err(Error::Tokenizer)?;
    Ok(tokenizer.into())
}

/// The base's own: a small Qwen2.
pub(crate) fn decoder_config() -> Json {
    json!({
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 192,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": 512,
        "model_type": "qwen2",
        "num_attention_heads": 6,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "use_sliding_window": false,
        "vocab_size": VOCABULARY,
    })
}

/// A Synapse model of about 5 M parameters over the same tokenizer: see `crates/architecture`.
pub(crate) fn synapse_config() -> Json {
    json!({
        "architectures": ["SynapseForCausalLM"],
        "model_type": "synapse",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_size": 192,
        "initializer_range": 0.02,
        "max_position_embeddings": 32_768,
        "num_hidden_layers": 4,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "routing": "dispatch",
        "modules_per_token": 2,
        "num_experts": 4,
        "expert_intermediate_size": 256,
        "router_inner_size": 192,
        "router_state_size": 16,
        "conv_kernel": 4,
        "language_inner_size": 192,
        "language_num_heads": 4,
        "slstm_every": 4,
        "memory_num_heads": 4,
        "memory_key_size": 32,
        "memory_value_size": 48,
        "memory_decay": true,
        "balance_loss_coefficient": 0.01,
        "router_z_loss_coefficient": 0.001,
    })
}

fn tokenizer_config() -> Json {
    let tokens: serde_json::Map<String, Json> = CONTROL
        .iter()
        .enumerate()
        .map(|(id, content)| {
            let token = json!({
                "content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                "special": true,
            });
            (id.to_string(), token)
        })
        .collect();
    json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": tokens,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "model_max_length": 512,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": null,
    })
}

fn generation_config() -> Json {
    json!({ "bos_token_id": 0, "do_sample": false, "eos_token_id": [2, 0], "pad_token_id": 0 })
}

/// Writes the weightless model folder: config, tokenizer, chat template.
pub(crate) fn write(folder: &Path, tokenizer: &Tokenizer, config: &Json) -> Result<()> {
    let json = |value: &Json| -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        Ok(text)
    };
    write_atomic(&folder.join("config.json"), &json(config)?)?;
    write_atomic(&folder.join("generation_config.json"), &json(&generation_config())?)?;
    write_atomic(&folder.join("tokenizer_config.json"), &json(&tokenizer_config())?)?;
    write_atomic(&folder.join("chat_template.jinja"), TEMPLATE.as_bytes())?;
    let text = tokenizer.to_string(true).map_err(Error::Tokenizer)?;
    write_atomic(&folder.join("tokenizer.json"), format!("{text}\n").as_bytes())?;
    Ok(())
}
