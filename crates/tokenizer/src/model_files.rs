//! Reads the files beside a model's weights that configure its tokenizer: named tokens, template, stop tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, TokenizerError};

/// Where a model's tokenizer files are.
#[derive(Clone, Copy)]
pub(crate) enum TokenizerFiles<'a> {
    /// In a model folder.
    Folder(&'a Path),
    /// Made from a GGUF file's metadata; name and text of each.
    Gguf(&'a Path, &'a [(&'static str, String)]),
}

impl<'a> TokenizerFiles<'a> {
    /// The folder, or the GGUF file.
    pub(crate) fn origin(self) -> &'a Path {
        match self {
            Self::Folder(path) | Self::Gguf(path, _) => path,
        }
    }

    /// The path by which errors name a file.
    pub(crate) fn path(self, name: &str) -> PathBuf {
        self.origin().join(name)
    }

    /// `None` when the file does not exist.
    pub(crate) fn text(self, name: &str) -> Result<Option<String>> {
        let Self::Gguf(_, texts) = self else {
            return read_text(&self.path(name));
        };
        let text = texts.iter().find(|(known, _)| *known == name);
        Ok(text.map(|(_, text)| text.clone()))
    }

    fn json(self, name: &str) -> Result<Option<Value>> {
        self.text(name)?.map(|text| parse(&text, &self.path(name))).transpose()
    }
}

/// The named special tokens that templates may use.
const NAMED_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The chat settings of tokenizer_config.json, chat_template.jinja, generation_config.json and config.json.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    /// `bos_token` and the others, by name.
    pub(crate) named_tokens: BTreeMap<String, String>,
    /// The chat template's source.
    pub(crate) template: Option<String>,
    /// `eos_token_id` of generation_config.json and config.json.
    pub(crate) eos_ids: Vec<u32>,
}

impl TokenizerConfig {
    pub(crate) fn read(files: TokenizerFiles<'_>) -> Result<Self> {
        let mut found = Self::default();
        if let Some(config) = files.json("tokenizer_config.json")? {
            for name in NAMED_TOKENS {
                if let Some(token) = config.get(name).and_then(token_text) {
                    found.named_tokens.insert(name.to_owned(), token.to_owned());
                }
            }
            found.template = template_in(&config, &files.path("tokenizer_config.json"))?;
        }
        if let Some(template) = files.text("chat_template.jinja")? {
            found.template = Some(template);
        }
        for file in ["generation_config.json", "config.json"] {
            if let Some(config) = files.json(file)? {
                found.eos_ids.extend(eos_ids(&config, &files.path(file))?);
            }
        }
        Ok(found)
    }
}

/// `None` when the file does not exist.
fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TokenizerError::read(path, error)),
    }
}

fn parse(text: &str, path: &Path) -> Result<Value> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| TokenizerError::invalid(path, format!("not valid JSON: {error}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(TokenizerError::invalid(path, "expected a JSON object"))
    }
}

/// A token is given as its text or as an object with a `content`.
fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// `chat_template` is one template, or a list of named ones of which `default` is the one for chat.
fn template_in(config: &Value, path: &Path) -> Result<Option<String>> {
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(|template| Some(template.to_owned()))
            .ok_or_else(|| TokenizerError::invalid(path, "`chat_template` is a list without an entry named `default`")),
        Some(_) => Err(TokenizerError::invalid(
            path,
            "`chat_template` must be a string or a list of named templates",
        )),
    }
}

fn eos_ids(config: &Value, path: &Path) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| TokenizerError::invalid(path, format!("`eos_token_id` is {value}, which is not a token id")))
    };
    match config.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}
