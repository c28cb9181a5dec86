//! The auxiliary files of a model folder, which are all files except the weights: tokenizer, chat template, generation
//! settings and license are copied from the base, and config.json is adapted to the new weights.

use std::path::Path;

use serde_json::{Map, Value};
use synapse_checkpoint::{DType, write_atomic};

use crate::error::{ExportError, Result};

/// Files that are copied if the base has them, in this order. transformers, vLLM and llama.cpp's converter read them.
const AUXILIARY_FILES: [&str; 13] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    CHAT_TEMPLATE,
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Copies the base's tokenizer, chat template, generation settings and license into the folder `out` and returns the
/// names of the copied files. Weights and config.json are not copied: see [`write_config`].
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_auxiliary_files(base: &Path, out: &Path) -> Result<Vec<String>> {
    let mut written = Vec::new();
    for name in AUXILIARY_FILES {
        let path = base.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|source| ExportError::Read { path, source })?;
            write_atomic(&out.join(name), &bytes)?;
            written.push(name.to_owned());
        }
    }
    Ok(written)
}

/// Same as [`copy_auxiliary_files`], for a folder that must be usable on its own: the base must have a tokenizer, and a
/// chat template that only tokenizer_config.json holds is also written as chat_template.jinja, where current tools look
/// first.
///
/// # Errors
/// The base has no tokenizer.json, or a file cannot be read or written.
pub fn copy_tokenizer_files(base: &Path, out: &Path) -> Result<Vec<String>> {
    if !base.join("tokenizer.json").is_file() {
        return Err(ExportError::unsupported(
            base,
            "tokenizer.json",
            "does not exist; a model cannot be used without its tokenizer",
        ));
    }
    let mut written = copy_auxiliary_files(base, out)?;
    if !written.iter().any(|name| name == CHAT_TEMPLATE)
        && let Some(text) = chat_template(base)?
    {
        write_atomic(&out.join(CHAT_TEMPLATE), text.as_bytes())?;
        written.push(CHAT_TEMPLATE.to_owned());
    }
    Ok(written)
}

/// How config.json differs from the base's. `None` keeps the base's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Element type of the new weights: F32, F16 or BF16.
    pub dtype: Option<DType>,
    /// Number of layers.
    pub num_hidden_layers: Option<usize>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: Option<bool>,
}

/// Writes the base's config.json with `changes` into the folder `out`. Fields that only other tools know are kept; a
/// file in which nothing changes keeps every byte.
///
/// # Errors
/// The file is missing or is not a JSON object, the type cannot be declared, or the file cannot be written.
pub fn write_config(base: &Path, out: &Path, changes: &ConfigChanges) -> Result<()> {
    let path = base.join("config.json");
    let text = read_text(&path)?;
    let config = parse_object(&path, &text)?;
    let mut changed = config.clone();
    if let Some(dtype) = changes.dtype {
        let name = torch_name(dtype).ok_or_else(|| {
            let message = format!("cannot be {dtype}: weights are stored as F32, F16 or BF16");
            ExportError::unsupported(&path, "torch_dtype", message)
        })?;
        // transformers 5 writes `dtype`, older versions `torch_dtype`; the file keeps the key it has.
        let key = if changed.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        changed.insert(key.to_owned(), Value::from(name));
    }
    if let Some(layers) = changes.num_hidden_layers {
        set_layers(&mut changed, layers);
    }
    if let Some(ties) = changes.tie_word_embeddings {
        changed.insert("tie_word_embeddings".to_owned(), Value::from(ties));
    }
    let text = if changed == config {
        text
    } else {
        format!("{:#}\n", Value::Object(changed))
    };
    Ok(write_atomic(&out.join("config.json"), text.as_bytes())?)
}

/// The name of an element type in config.json, if weights can be stored in it.
fn torch_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F16 => Some("float16"),
        DType::BF16 => Some("bfloat16"),
        DType::F32 => Some("float32"),
        _ => None,
    }
}

fn set_layers(config: &mut Map<String, Value>, layers: usize) {
    config.insert("num_hidden_layers".to_owned(), Value::from(layers));
    // One entry per layer; transformers refuses a list of another length.
    if let Some(types) = config.get_mut("layer_types").and_then(Value::as_array_mut) {
        let last = types.last().cloned().unwrap_or(Value::Null);
        types.resize(layers, last);
    }
    if config.contains_key("max_window_layers") {
        config.insert("max_window_layers".to_owned(), Value::from(layers));
    }
}

/// The chat template of a model folder: chat_template.jinja, or the one in tokenizer_config.json (if it has several, the
/// one called "default").
///
/// # Errors
/// A file cannot be read or is not JSON.
pub(crate) fn chat_template(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(CHAT_TEMPLATE);
    if path.is_file() {
        return read_text(&path).map(Some);
    }
    let config = read_optional_object(&folder.join("tokenizer_config.json"))?;
    Ok(match config.get("chat_template") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(templates)) => {
            let default = templates.iter().find(|template| template["name"] == "default");
            default
                .and_then(|template| template["template"].as_str())
                .map(str::to_owned)
        }
        _ => None,
    })
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| ExportError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn parse_object(path: &Path, text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|source| ExportError::Json {
        path: path.to_owned(),
        source,
    })
}

/// The object in a JSON file; empty if the file does not exist.
pub(crate) fn read_optional_object(path: &Path) -> Result<Map<String, Value>> {
    if path.is_file() {
        parse_object(path, &read_text(path)?)
    } else {
        Ok(Map::new())
    }
}
