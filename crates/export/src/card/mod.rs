//! The model card: a README.md for the Hugging Face Hub. `card.md.jinja` is its text, `data` is what the caller fills in
//! from plans, manifests and measurements, and `context` turns the data into the words and numbers of the text.
//!
//! What this is not: a measurement. Parts for which there is no data are left out.

mod context;
mod data;
mod license;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};

use crate::error::{ExportError, Result};

use context::CardContext;
pub use data::{
    CardComparison, CardData, CardDataset, CardGate, CardInput, CardKind, CardMerge, CardScore, CardSpecialist,
    Measured,
};

const TEMPLATE: &str = include_str!("card.md.jinja");

/// The text of a README.md with YAML front matter, as the Hugging Face Hub reads it. The same data gives the same text.
///
/// # Errors
/// The template of this crate is faulty.
pub fn model_card(card: &CardData) -> Result<String> {
    let faulty = |error: minijinja::Error| ExportError::Card(format!("{error:#}"));
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build();
    let mut environment = Environment::new();
    environment.set_syntax(syntax.map_err(faulty)?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("yaml", |text: &str| yaml_scalar(text));
    environment
        .render_str(TEMPLATE, Value::from(Serde(&CardContext::new(card))))
        .map_err(faulty)
}

/// Plain if YAML cannot misread it, otherwise in double quotes: JSON strings are YAML too.
fn yaml_scalar(text: &str) -> String {
    let starts_plain = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character));
    let keyword =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if starts_plain && plain && !keyword {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
