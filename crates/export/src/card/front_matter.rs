//! The YAML block at the top of a card that the Hugging Face Hub indexes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::data::{CardData, CardKind};
use super::license::HUB_LICENSES;

pub(super) fn section(card: &CardData) -> String {
    let (library, relation) = match card.kind {
        CardKind::Merge => ("transformers", "merge"),
        CardKind::Adapter => ("peft", "adapter"),
        CardKind::Tuned => ("transformers", "finetune"),
    };
    let mut yaml = String::from("---\n");
    if !card.base.local {
        let id = scalar(&card.base.id);
        let _ = writeln!(yaml, "base_model: {id}\nbase_model_relation: {relation}");
    }
    let _ = writeln!(yaml, "library_name: {library}\npipeline_tag: text-generation");
    match card.base.license.as_deref() {
        // A derivative is under its base's license.
        Some(license) if HUB_LICENSES.contains(&license) => {
            let _ = writeln!(yaml, "license: {}", scalar(license));
        }
        Some(license) => {
            let _ = writeln!(yaml, "license: other\nlicense_name: {}", scalar(license));
        }
        None => yaml.push_str("license: unknown\n"),
    }
    let mut tags = vec!["synapse"];
    if card.kind == CardKind::Merge {
        tags.push("merge");
        tags.extend(card.merge.as_ref().map(|merge| merge.method.as_str()));
    }
    if card
        .specialists
        .iter()
        .any(|specialist| specialist.method.contains("LoRA"))
    {
        tags.push("lora");
    }
    list(&mut yaml, "tags", &tags);
    let hub = (card.datasets.iter())
        .map(|dataset| &dataset.source)
        .filter(|source| !source.local);
    let datasets: BTreeSet<&str> = hub.map(|source| source.id.as_str()).collect();
    list(&mut yaml, "datasets", &datasets.into_iter().collect::<Vec<_>>());
    yaml.push_str("---\n");
    yaml
}

fn list(yaml: &mut String, key: &str, values: &[&str]) {
    if !values.is_empty() {
        let _ = writeln!(yaml, "{key}:");
        for value in values {
            let _ = writeln!(yaml, "- {}", scalar(value));
        }
    }
}

/// Plain where that cannot be misread, else in double quotes: JSON's strings are YAML's too.
fn scalar(text: &str) -> String {
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
