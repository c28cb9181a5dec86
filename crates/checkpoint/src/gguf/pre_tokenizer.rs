//! The pre-tokenizers that GGUF only names, spelled out as tokenizer.json has them. One copy for reading and writing GGUF.
//! Source: llama.cpp's `llama_vocab::impl::load` and the models' published tokenizer.json files.

use serde_json::{Value as Json, json};

/// Splits of Qwen2 and Llama 3; they differ only in how many digits stay together.
const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a byte-level BPE tokenizer cuts text before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// GPT-2's words.
    Gpt2,
    /// Single digits, then GPT-2's words.
    SmolLm,
    /// Qwen2's words and single digits.
    Qwen2,
    /// Llama 3's words and groups of up to three digits.
    LlamaBpe,
}

impl PreTokenizer {
    /// Every known pre-tokenizer.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::SmolLm, Self::Qwen2, Self::LlamaBpe];

    /// The name under GGUF's `tokenizer.ggml.pre`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::SmolLm => "smollm",
            Self::Qwen2 => "qwen2",
            Self::LlamaBpe => "llama-bpe",
        }
    }

    /// The pre-tokenizer of this GGUF name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "llama3" | "llama-v3" => Some(Self::LlamaBpe),
            _ => Self::ALL.into_iter().find(|known| known.name() == name),
        }
    }

    /// Whether a word that is a token is taken whole, without merging; GGUF does not say this, its name implies it.
    #[must_use]
    pub fn ignores_merges(self) -> bool {
        self == Self::LlamaBpe
    }

    /// The `pre_tokenizer` of a tokenizer.json.
    #[must_use]
    pub fn to_json(self) -> Json {
        let split = |pattern: &str| {
            let split =
                json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
            sequence(&split, &byte_level(false, false))
        };
        match self {
            Self::Gpt2 => byte_level(true, true),
            Self::SmolLm => sequence(
                &json!({ "type": "Digits", "individual_digits": true }),
                &byte_level(true, true),
            ),
            Self::Qwen2 => split(QWEN2_SPLIT),
            Self::LlamaBpe => split(LLAMA3_SPLIT),
        }
    }

    /// The pre-tokenizer that a tokenizer.json spells out, if it is a known one.
    #[must_use]
    pub fn from_json(pre_tokenizer: &Json) -> Option<Self> {
        let meaning = without_offsets(pre_tokenizer);
        Self::ALL
            .into_iter()
            .find(|known| without_offsets(&known.to_json()) == meaning)
    }
}

/// Byte-level splitting or decoding, as tokenizer.json has it.
pub(super) fn byte_level(trim_offsets: bool, use_regex: bool) -> Json {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets, "use_regex": use_regex })
}

fn sequence(first: &Json, second: &Json) -> Json {
    json!({ "type": "Sequence", "pretokenizers": [first, second] })
}

/// Without `trim_offsets`, which says where a token lies in the text but not which token it is.
fn without_offsets(value: &Json) -> Json {
    match value {
        Json::Object(fields) => fields
            .iter()
            .filter(|(key, _)| *key != "trim_offsets")
            .map(|(key, value)| (key.clone(), without_offsets(value)))
            .collect(),
        Json::Array(values) => values.iter().map(without_offsets).collect(),
        other => other.clone(),
    }
}
