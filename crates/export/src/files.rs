//! The files of a model folder besides its weights: tokenizer, chat template, generation settings and license travel
//! from the base to what was made of it, and config.json gets the type its new weights are stored in.

use std::path::Path;

use serde_json::{Map, Value, json};
use synapse_checkpoint::{DType, ModelConfig, write_atomic};

use crate::error::{ExportError, Result};

/// What is copied where it exists, in this order. transformers, vLLM and llama.cpp's converter read all of these.
const COMPANIONS: [&str; 12] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];

/// Copies the base's tokenizer, chat template, generation settings and license text into the folder `out` (config.json
/// and weights are not among them) and returns the names of what was written. A template that only tokenizer_config.json
/// holds is written as chat_template.jinja too, where current tools look first.
///
/// # Errors
/// The base has no tokenizer.json, or a file cannot be read or written.
pub fn copy_model_folder_files(base: &Path, out: &Path) -> Result<Vec<String>> {
    if !base.join("tokenizer.json").is_file() {
        return Err(ExportError::unsupported(
            base,
            "tokenizer.json",
            "does not exist; a model without its tokenizer is of no use",
        ));
    }
    let mut written = Vec::new();
    for name in COMPANIONS {
        let path = base.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|source| ExportError::Read { path, source })?;
            write_atomic(&out.join(name), &bytes)?;
            written.push(name.to_owned());
        }
    }
    let template = "chat_template.jinja";
    if !written.iter().any(|name| name == template)
        && let Some(text) = chat_template(base)?
    {
        write_atomic(&out.join(template), text.as_bytes())?;
        written.push(template.to_owned());
    }
    Ok(written)
}

/// The base's config.json with the type its new weights are stored in; everything else stays as the base has it, so
/// that fields only other tools know are not lost.
///
/// # Errors
/// The file is missing or does not describe a supported model, or cannot be written.
pub fn write_config(base: &Path, out: &Path, dtype: DType) -> Result<()> {
    let path = base.join("config.json");
    let text = read_text(&path)?;
    ModelConfig::from_json(&text, &path)?;
    let mut config = parse_object(&path, &text)?;
    let name = match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F32 => "float32",
        other => {
            return Err(ExportError::unsupported(
                &path,
                "torch_dtype",
                format!("cannot be {other}: weights are stored as F32, F16 or BF16"),
            ));
        }
    };
    // transformers 5 writes `dtype`, before it was `torch_dtype`; a file keeps the one it has.
    let key = if config.contains_key("dtype") {
        "dtype"
    } else {
        "torch_dtype"
    };
    config.insert(key.to_owned(), json!(name));
    write_atomic(
        &out.join("config.json"),
        format!("{:#}\n", Value::Object(config)).as_bytes(),
    )?;
    Ok(())
}

/// The chat template of a model folder: chat_template.jinja, or what tokenizer_config.json holds (of several, the one
/// called "default").
///
/// # Errors
/// A file cannot be read or is not JSON.
pub(crate) fn chat_template(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
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

/// A JSON file's object; empty where there is no such file.
pub(crate) fn read_optional_object(path: &Path) -> Result<Map<String, Value>> {
    if path.is_file() {
        parse_object(path, &read_text(path)?)
    } else {
        Ok(Map::new())
    }
}
