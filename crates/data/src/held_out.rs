//! held_out.jsonl: the held-out rows as text, for task scores.

use std::path::Path;

use serde::{Deserialize, Serialize};
use synapse_tokenizer::Message;

use crate::{DataError, Result};

/// One row that is never trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOutRow {
    /// The source as the recipe names it.
    pub source: String,
    /// How a generated prompt was made: `template` or `real`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The conversation, system turn included; empty for plain text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Descriptions of functions that the conversation may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<serde_json::Value>,
    /// The document of a plain-text source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tests of the answer, as the row's file has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<serde_json::Value>,
}

/// Reads a held_out.jsonl, in the order of held_out.arrow.
///
/// # Errors
/// The file is missing, or a line is not a held-out row; the line is named.
pub fn read_held_out(path: &Path) -> Result<Vec<HeldOutRow>> {
    let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
    let parse = |(index, line): (usize, &str)| {
        let place = format!("{}:{}", path.display(), index + 1);
        serde_json::from_str(line).map_err(|error| DataError::malformed(&place, format!("not a held-out row: {error}")))
    };
    text.split('\n')
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(parse)
        .collect()
}

pub(crate) fn write_held_out(path: &Path, rows: &[HeldOutRow]) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        let line =
            serde_json::to_string(row).map_err(|error| DataError::malformed(&path.display(), error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(synapse_checkpoint::write_atomic(path, text.as_bytes())?)
}
