//! GGUF's form of a byte-level BPE tokenizer turned into tokenizer.json and tokenizer_config.json. GGUF names the
//! pre-tokenizer instead of carrying it, so the known names are spelled out here; other names and other tokenizer models
//! are refused, because a near miss would silently give other token ids.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::metadata::Metadata;
use super::pre_tokenizer::{PreTokenizer, byte_level};
use crate::error::Result;

/// ggml's token types that matter here.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

/// The tokenizer of one GGUF file.
pub(super) struct Tokenizer<'a> {
    pre_tokenizer: PreTokenizer,
    tokens: Vec<&'a str>,
    types: Vec<u64>,
    merges: Vec<&'a str>,
    beginning: Option<u32>,
    end: Option<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
    add_beginning: bool,
    chat_template: Option<&'a str>,
}

impl<'a> Tokenizer<'a> {
    /// Reads and checks the `tokenizer.*` keys of a file whose embedding has `vocab_size` rows.
    pub(super) fn read(metadata: &'a Metadata, vocab_size: usize) -> Result<Self> {
        let model = metadata.text("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(metadata.error(
                "tokenizer.ggml.model",
                format!("is `{model}`; only byte-level BPE (`gpt2`) is supported"),
            ));
        }
        let name = metadata.text("tokenizer.ggml.pre")?;
        let pre_tokenizer = PreTokenizer::from_name(name).ok_or_else(|| {
            let known = PreTokenizer::ALL.map(PreTokenizer::name).join(", ");
            metadata.error(
                "tokenizer.ggml.pre",
                format!("is `{name}`, which is not supported; supported: {known}"),
            )
        })?;
        if metadata.optional_flag("tokenizer.ggml.add_eos_token")? == Some(true) {
            return Err(metadata.error(
                "tokenizer.ggml.add_eos_token",
                "is true: appending an end token to every text is not supported",
            ));
        }
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        if tokens.len() > vocab_size {
            return Err(metadata.error(
                "tokenizer.ggml.tokens",
                format!("has {} tokens, but the embedding only {vocab_size} rows", tokens.len()),
            ));
        }
        let types: Vec<u64> = match metadata.get("tokenizer.ggml.token_type") {
            Some(_) => metadata
                .array("tokenizer.ggml.token_type")?
                .iter()
                .map(|value| value.as_u64().unwrap_or_default())
                .collect(),
            None => vec![1; tokens.len()],
        };
        if types.len() != tokens.len() {
            return Err(metadata.error(
                "tokenizer.ggml.token_type",
                format!("has {} entries for {} tokens", types.len(), tokens.len()),
            ));
        }
        let special = |key: &str| -> Result<Option<u32>> {
            match metadata.optional_token_id(key)? {
                Some(id) if id as usize >= tokens.len() => {
                    Err(metadata.error(key, format!("is {id}, beyond the {} tokens", tokens.len())))
                }
                id => Ok(id),
            }
        };
        let beginning = special("tokenizer.ggml.bos_token_id")?;
        let add_beginning = metadata
            .optional_flag("tokenizer.ggml.add_bos_token")?
            .unwrap_or(pre_tokenizer == PreTokenizer::LlamaBpe);
        if add_beginning && beginning.is_none() {
            return Err(metadata.error(
                "tokenizer.ggml.bos_token_id",
                "is missing, but every text is to begin with it",
            ));
        }
        let tokenizer = Self {
            pre_tokenizer,
            types,
            merges: metadata.texts("tokenizer.ggml.merges")?,
            beginning,
            end: special("tokenizer.ggml.eos_token_id")?,
            unknown: special("tokenizer.ggml.unknown_token_id")?,
            padding: special("tokenizer.ggml.padding_token_id")?,
            add_beginning,
            chat_template: metadata.optional_text("tokenizer.chat_template")?,
            tokens,
        };
        tokenizer.check(metadata)?;
        Ok(tokenizer)
    }

    /// Tokens are distinct, and merges are made of tokens.
    fn check(&self, metadata: &Metadata) -> Result<()> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.vocabulary() {
            if let Some(first) = ids.insert(token, id) {
                return Err(metadata.error(
                    "tokenizer.ggml.tokens",
                    format!("has `{token}` twice, as {first} and {id}"),
                ));
            }
        }
        for merge in &self.merges {
            let known = merge.split_once(' ').is_some_and(|(left, right)| {
                ids.contains_key(left) && ids.contains_key(right) && ids.contains_key(format!("{left}{right}").as_str())
            });
            if !known {
                return Err(metadata.error(
                    "tokenizer.ggml.merges",
                    format!("has `{merge}`, which does not join two tokens into a third"),
                ));
            }
        }
        Ok(())
    }

    /// Every token in use, with its id. Unused ids only pad the vocabulary to the embedding's rows.
    fn vocabulary(&self) -> impl Iterator<Item = (usize, &'a str)> {
        self.tokens
            .iter()
            .zip(&self.types)
            .enumerate()
            .filter(|(_, (_, kind))| **kind != UNUSED)
            .map(|(id, (token, _))| (id, *token))
    }

    pub(super) fn padding_id(&self) -> Option<u32> {
        self.padding
    }

    pub(super) fn chat_template(&self) -> Option<&'a str> {
        self.chat_template
    }

    fn text(&self, id: Option<u32>) -> Json {
        id.map_or(Json::Null, |id| json!(self.tokens[id as usize]))
    }

    pub(super) fn tokenizer_json(&self) -> Json {
        let vocabulary: Map<String, Json> = self
            .vocabulary()
            .map(|(id, token)| (token.to_owned(), json!(id)))
            .collect();
        let added: Vec<Json> = (self.tokens.iter().zip(&self.types).enumerate())
            .filter(|(_, (_, kind))| [CONTROL, USER_DEFINED].contains(kind))
            .map(|(id, (token, kind))| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind == CONTROL
                })
            })
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": if self.pre_tokenizer == PreTokenizer::Qwen2 { json!({ "type": "NFC" }) } else { Json::Null },
            "pre_tokenizer": self.pre_tokenizer.to_json(),
            "post_processor": self.post_processor_json(),
            "decoder": byte_level(true, true),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": self.pre_tokenizer.ignores_merges(),
                "vocab": vocabulary,
                "merges": self.merges,
            },
        })
    }

    /// Puts the beginning token before every text, where the model wants that.
    fn post_processor_json(&self) -> Json {
        let Some(id) = self.beginning.filter(|_| self.add_beginning) else {
            return Json::Null;
        };
        let token = self.tokens[id as usize];
        let special = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let text = |name: &str, type_id: u32| json!({ "Sequence": { "id": name, "type_id": type_id } });
        json!({
            "type": "TemplateProcessing",
            "single": [special, text("A", 0)],
            "pair": [special, text("A", 0), text("B", 1)],
            "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
        })
    }

    pub(super) fn tokenizer_config_json(&self, context: usize) -> Json {
        let mut config = json!({
            // The generic class takes tokenizer.json as it is; a model's own class may build another pre-tokenizer.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": self.add_beginning,
            "bos_token": self.text(self.beginning),
            "eos_token": self.text(self.end),
            "pad_token": self.text(self.padding),
            "unk_token": self.text(self.unknown),
            "clean_up_tokenization_spaces": false,
            "model_max_length": context,
        });
        if let Some(template) = self.chat_template {
            config["chat_template"] = json!(template);
        }
        config
    }
}
