//! The files beside the weights: configuration, tokenizer and chat template, taken over from the base.

use std::fs;
use std::path::Path;

use serde_json::Value;
use synapse_checkpoint::{ModelFolder, write_atomic};

use crate::plan::layers;
use crate::request::torch_name;
use crate::{MergeError, MergeRequest, Result};

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

/// The template that mergekit calls `chatml`.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n";

/// Copies the base's companion files into `folder`. config.json keeps every byte unless the request asks for another
/// dtype or number of layers than it declares.
pub(crate) fn copy(base: &ModelFolder, request: &MergeRequest, folder: &Path) -> Result<()> {
    let config = base.path().join("config.json");
    let text = fs::read(&config).map_err(MergeError::file("read", &config))?;
    let layers = layers(request, base.config());
    let layers = (layers != base.config().num_hidden_layers).then_some(layers);
    let changed = changed(&text, request.dtype.map(torch_name), layers);
    write_atomic(&folder.join("config.json"), &changed.unwrap_or(text))?;
    copy_files(base, folder)?;
    if let Some(template) = request.chat_template.as_deref().filter(|template| *template != "auto") {
        let text = if template == "chatml" { CHATML } else { template };
        write_atomic(&folder.join("chat_template.jinja"), text.as_bytes())?;
    }
    Ok(())
}

/// Copies what stands beside weights and configuration.
pub(crate) fn copy_files(base: &ModelFolder, folder: &Path) -> Result<()> {
    for name in COPIED {
        let path = base.path().join(name);
        if path.is_file() {
            let bytes = fs::read(&path).map_err(MergeError::file("read", &path))?;
            write_atomic(&folder.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// config.json with its dtype (`torch_dtype` or, as newer transformers write it, `dtype`) and its number of layers set;
/// `None` where nothing changes.
fn changed(text: &[u8], dtype: Option<&str>, layers: Option<usize>) -> Option<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(text).ok()?;
    let before = config.clone();
    let fields = config.as_object_mut()?;
    if let Some(dtype) = dtype {
        let key = if fields.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        fields.insert(key.to_owned(), Value::from(dtype));
    }
    if let Some(layers) = layers {
        fields.insert("num_hidden_layers".to_owned(), Value::from(layers));
        // One word a layer; transformers refuses a list of another length.
        if let Some(types) = fields.get_mut("layer_types").and_then(Value::as_array_mut) {
            let last = types.last().cloned().unwrap_or(Value::Null);
            types.resize(layers, last);
        }
        if fields.contains_key("max_window_layers") {
            fields.insert("max_window_layers".to_owned(), Value::from(layers));
        }
    }
    (config != before).then(|| format!("{config:#}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;

    #[test]
    fn only_what_must_changes() {
        let text =
            br#"{"a": 1, "torch_dtype": "bfloat16", "b": 1e-05, "num_hidden_layers": 2, "layer_types": ["x", "x"]}"#;
        assert_eq!(changed(text, None, None), None);
        assert_eq!(changed(text, Some("bfloat16"), None), None);
        let made = String::from_utf8(changed(text, Some("float32"), Some(3)).unwrap()).unwrap();
        assert!(made.contains("\"torch_dtype\": \"float32\"") && made.contains("\"num_hidden_layers\": 3"));
        assert!(
            made.contains("\"b\": 0.00001") && made.matches("\"x\"").count() == 3,
            "{made}"
        );
        let newer = changed(br#"{"dtype": "float16"}"#, Some("float32"), None).unwrap();
        assert_eq!(newer, b"{\n  \"dtype\": \"float32\"\n}\n");
    }
}
