//! The files beside the weights: configuration, tokenizer and chat template, taken over from the base.

use std::fs;
use std::path::Path;

use serde_json::Value;
use synapse_checkpoint::{DType, ModelFolder, write_atomic};

use crate::request::torch_name;
use crate::{MergeError, Result};

/// Copied as they are where the base has them.
const COPIED: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];

/// Copies the base's companion files into `folder`. config.json keeps every byte unless `dtype` asks for another
/// dtype than it declares.
pub(crate) fn copy(base: &ModelFolder, dtype: Option<DType>, folder: &Path) -> Result<()> {
    let config = base.path().join("config.json");
    let text = fs::read(&config).map_err(MergeError::file("read", &config))?;
    write_atomic(&folder.join("config.json"), &with_dtype(&text, dtype).unwrap_or(text))?;
    for name in COPIED {
        let path = base.path().join(name);
        if path.is_file() {
            let bytes = fs::read(&path).map_err(MergeError::file("read", &path))?;
            write_atomic(&folder.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// config.json with its `torch_dtype` (or, as newer transformers write it, `dtype`) set; `None` where nothing changes.
fn with_dtype(text: &[u8], dtype: Option<DType>) -> Option<Vec<u8>> {
    let wanted = Value::from(torch_name(dtype?));
    let mut config: Value = serde_json::from_slice(text).ok()?;
    let fields = config.as_object_mut()?;
    let key = if fields.contains_key("dtype") {
        "dtype"
    } else {
        "torch_dtype"
    };
    if fields.get(key) == Some(&wanted) {
        return None;
    }
    fields.insert(key.to_owned(), wanted);
    Some(format!("{config:#}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;

    #[test]
    fn only_the_dtype_changes() {
        let text = br#"{"a": 1, "torch_dtype": "bfloat16", "b": 1e-05}"#;
        assert_eq!(with_dtype(text, None), None);
        assert_eq!(with_dtype(text, Some(DType::BF16)), None);
        let changed = String::from_utf8(with_dtype(text, Some(DType::F32)).unwrap()).unwrap();
        assert_eq!(
            changed,
            "{\n  \"a\": 1,\n  \"torch_dtype\": \"float32\",\n  \"b\": 0.00001\n}\n"
        );
        let newer = with_dtype(br#"{"dtype": "float16"}"#, Some(DType::F32)).unwrap();
        assert_eq!(newer, b"{\n  \"dtype\": \"float32\"\n}\n");
    }
}
