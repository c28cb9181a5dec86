//! tokenizer.json in GGUF's form. Only byte-level BPE whose pre-tokenizer GGUF has a name for can be written; anything
//! else is refused, because llama.cpp would then cut text in other places than the model was trained with.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use synapse_checkpoint::ModelConfig;
use synapse_checkpoint::gguf::{MetadataType, MetadataValue, PreTokenizer};

use crate::auxiliary_files::{chat_template, parse_object, read_optional_object, read_text};
use crate::error::{ExportError, Result};

/// ggml's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// What GGUF keeps of a tokenizer.
pub(super) struct Tokenizer {
    pre_tokenizer: PreTokenizer,
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
    /// (key, id) of the beginning, end, padding and unknown tokens that there are.
    special: Vec<(&'static str, u32)>,
    add_beginning: bool,
    chat_template: Option<String>,
}

impl Tokenizer {
    pub(super) fn read(folder: &Path, config: &ModelConfig) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let root = parse_object(&path, &read_text(&path)?)?;
        let source = Source { path, root };
        let pre_tokenizer = source.pre_tokenizer()?;
        let (tokens, types) = source.tokens(config.vocab_size)?;
        let special = special_tokens(
            &read_optional_object(&folder.join("tokenizer_config.json"))?,
            config,
            &tokens,
        );
        let add_beginning =
            source.adds_beginning(special.iter().find(|(key, _)| *key == BEGINNING).map(|(_, id)| *id))?;
        let merges = source.merges()?;
        Ok(Self {
            pre_tokenizer,
            tokens,
            types,
            merges,
            special,
            add_beginning,
            chat_template: chat_template(folder)?,
        })
    }

    pub(super) fn metadata(self) -> Vec<(String, MetadataValue)> {
        let texts = |texts: Vec<String>| {
            MetadataValue::Array(
                MetadataType::String,
                texts.into_iter().map(MetadataValue::String).collect(),
            )
        };
        let mut entries = vec![
            (
                "tokenizer.ggml.model".to_owned(),
                MetadataValue::String("gpt2".to_owned()),
            ),
            (
                "tokenizer.ggml.pre".to_owned(),
                MetadataValue::String(self.pre_tokenizer.name().to_owned()),
            ),
            ("tokenizer.ggml.tokens".to_owned(), texts(self.tokens)),
            (
                "tokenizer.ggml.token_type".to_owned(),
                MetadataValue::Array(
                    MetadataType::I32,
                    self.types.into_iter().map(MetadataValue::I32).collect(),
                ),
            ),
            ("tokenizer.ggml.merges".to_owned(), texts(self.merges)),
        ];
        entries.extend(
            self.special
                .into_iter()
                .map(|(key, id)| (key.to_owned(), MetadataValue::U32(id))),
        );
        entries.push((
            "tokenizer.ggml.add_bos_token".to_owned(),
            MetadataValue::Bool(self.add_beginning),
        ));
        entries.push(("tokenizer.ggml.add_space_prefix".to_owned(), MetadataValue::Bool(false)));
        if let Some(template) = self.chat_template {
            entries.push(("tokenizer.chat_template".to_owned(), MetadataValue::String(template)));
        }
        entries
    }
}

/// A parsed tokenizer.json.
struct Source {
    path: PathBuf,
    root: Map<String, Json>,
}

impl Source {
    fn error(&self, field: &str, message: impl Into<String>) -> ExportError {
        ExportError::unsupported(&self.path, field, message)
    }

    fn model(&self, field: &str) -> &Json {
        self.root
            .get("model")
            .and_then(|model| model.get(field))
            .unwrap_or(&Json::Null)
    }

    fn pre_tokenizer(&self) -> Result<PreTokenizer> {
        if self.model("type") != "BPE" || self.model("byte_fallback") == true {
            return Err(self.error(
                "model.type",
                "is not byte-level BPE, the only tokenizer that is written to GGUF",
            ));
        }
        if let Some(normalizer) = self
            .root
            .get("normalizer")
            .filter(|normalizer| !normalizer.is_null() && normalizer["type"] != "NFC")
        {
            return Err(self.error("normalizer", format!("is {normalizer}, which GGUF has no name for")));
        }
        let found = self.root.get("pre_tokenizer").unwrap_or(&Json::Null);
        let pre_tokenizer = PreTokenizer::from_json(found).ok_or_else(|| {
            let known = PreTokenizer::ALL.map(PreTokenizer::name).join(", ");
            self.error(
                "pre_tokenizer",
                format!("is {found}, which GGUF has no name for; known: {known}"),
            )
        })?;
        let ignore_merges = self.model("ignore_merges") == true;
        if ignore_merges != pre_tokenizer.ignores_merges() {
            let message = format!(
                "is {ignore_merges}, but in GGUF a `{}` tokenizer has it {}",
                pre_tokenizer.name(),
                !ignore_merges
            );
            return Err(self.error("model.ignore_merges", message));
        }
        Ok(pre_tokenizer)
    }

    /// Texts and types of all ids; ids that no token has pad the list to the embedding's rows, as llama.cpp expects.
    fn tokens(&self, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let mut tokens: Vec<Option<(String, i32)>> = vec![None; vocab_size];
        let mut place = |field: &str, text: &str, id: &Json, kind: i32| {
            let slot = id
                .as_u64()
                .and_then(|id| usize::try_from(id).ok())
                .and_then(|id| tokens.get_mut(id));
            let slot = slot.ok_or_else(|| {
                self.error(
                    field,
                    format!("gives `{text}` the id {id}, but the embedding has {vocab_size} rows"),
                )
            })?;
            if let Some((other, _)) = slot.as_ref().filter(|(other, _)| other != text) {
                return Err(self.error(field, format!("gives `{text}` the id {id}, which `{other}` has")));
            }
            *slot = Some((text.to_owned(), kind));
            Ok(())
        };
        let vocabulary = self
            .model("vocab")
            .as_object()
            .ok_or_else(|| self.error("model.vocab", "is missing"))?;
        for (text, id) in vocabulary {
            place("model.vocab", text, id, NORMAL)?;
        }
        for added in self
            .root
            .get("added_tokens")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
        {
            let text = added["content"]
                .as_str()
                .ok_or_else(|| self.error("added_tokens", "has an entry without `content`"))?;
            // llama.cpp's converter takes every <|…|> for a control token too, whatever the flag says: text that a user
            // typed must not become one.
            let control = added["special"] == true || (text.starts_with("<|") && text.ends_with("|>"));
            place(
                "added_tokens",
                text,
                &added["id"],
                if control { CONTROL } else { USER_DEFINED },
            )?;
        }
        Ok(tokens
            .into_iter()
            .enumerate()
            .map(|(id, token)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED)))
            .unzip())
    }

    fn merges(&self) -> Result<Vec<String>> {
        let merges = self
            .model("merges")
            .as_array()
            .ok_or_else(|| self.error("model.merges", "is missing"))?;
        let merge = |merge: &Json| match merge {
            Json::String(text) => Some(text.clone()),
            Json::Array(pair) => match pair.as_slice() {
                [Json::String(left), Json::String(right)] if !left.contains(' ') && !right.contains(' ') => {
                    Some(format!("{left} {right}"))
                }
                _ => None,
            },
            _ => None,
        };
        merges
            .iter()
            .map(|found| {
                merge(found)
                    .ok_or_else(|| self.error("model.merges", format!("has {found}, which is not a pair of tokens")))
            })
            .collect()
    }

    /// Whether every text begins with the beginning token: the only thing a post-processor may do here.
    fn adds_beginning(&self, beginning: Option<u32>) -> Result<bool> {
        let processor = self.root.get("post_processor").unwrap_or(&Json::Null);
        let steps = match processor["type"].as_str() {
            Some("Sequence") => processor["processors"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
            _ => std::slice::from_ref(processor),
        };
        let mut adds = false;
        for step in steps {
            match step["type"].as_str() {
                None | Some("ByteLevel") => {}
                Some("TemplateProcessing") => match template_ids(step).as_deref() {
                    Some([]) => {}
                    Some(&[id]) if Some(id) == beginning => adds = true,
                    _ => {
                        return Err(self.error(
                            "post_processor",
                            "adds more than the beginning token before a text, which GGUF cannot say",
                        ));
                    }
                },
                Some(other) => {
                    return Err(self.error("post_processor", format!("is {other}, which GGUF cannot say")));
                }
            }
        }
        Ok(adds)
    }
}

/// Ids that a template puts before a single text; none if it puts any after it or is not understood.
fn template_ids(template: &Json) -> Option<Vec<u32>> {
    let pieces = template["single"].as_array()?;
    let (text, before) = pieces.split_last()?;
    text.get("Sequence")?;
    let mut ids = Vec::new();
    for piece in before {
        let name = piece["SpecialToken"]["id"].as_str()?;
        for id in template["special_tokens"][name]["ids"].as_array()? {
            ids.push(u32::try_from(id.as_u64()?).ok()?);
        }
    }
    Some(ids)
}

const BEGINNING: &str = "tokenizer.ggml.bos_token_id";

/// Special tokens as tokenizer_config.json names them; for beginning and end config.json is asked next.
fn special_tokens(
    tokenizer_config: &Map<String, Json>,
    config: &ModelConfig,
    tokens: &[String],
) -> Vec<(&'static str, u32)> {
    let named = |field: &str| {
        let value = tokenizer_config.get(field)?;
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        tokens
            .iter()
            .position(|token| token == text)
            .and_then(|id| u32::try_from(id).ok())
    };
    let ids = [
        (BEGINNING, named("bos_token").or(config.bos_token_id)),
        (
            "tokenizer.ggml.eos_token_id",
            named("eos_token").or(config.eos_token_ids.first().copied()),
        ),
        ("tokenizer.ggml.padding_token_id", named("pad_token")),
        ("tokenizer.ggml.unknown_token_id", named("unk_token")),
    ];
    ids.into_iter().filter_map(|(key, id)| Some((key, id?))).collect()
}
