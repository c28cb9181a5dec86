//! The licenses of what went in, and a plain warning where one of them forbids commercial use or none is stated. This is
//! a list of facts for the reader, not legal advice.

use std::fmt::Write as _;

use super::data::{CardData, CardInput};
use super::link;

/// Identifiers that the hub knows, among those that models and text data usually have.
pub(super) const HUB_LICENSES: [&str; 28] = [
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "bsd-2-clause",
    "gpl-3.0",
    "agpl-3.0",
    "lgpl-3.0",
    "mpl-2.0",
    "openrail",
    "openrail++",
    "bigscience-openrail-m",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
    "odc-by",
    "odbl",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "gemma",
    "unlicense",
    "wtfpl",
    "etalab-2.0",
];

/// Whether a license forbids commercial use, going by its identifier.
fn is_non_commercial(license: &str) -> bool {
    let license = license.to_ascii_lowercase();
    ["-nc", "non-commercial", "noncommercial", "research"]
        .iter()
        .any(|word| license.contains(word))
}

pub(super) fn section(card: &CardData) -> String {
    let mut inputs: Vec<&CardInput> = vec![&card.base];
    for dataset in &card.datasets {
        if !inputs.contains(&&dataset.source) {
            inputs.push(&dataset.source);
        }
    }
    let mut text = String::from("## Licenses of what went in\n\n| input | license |\n|---|---|\n");
    for input in &inputs {
        let _ = writeln!(
            text,
            "| {} | {} |",
            link(input),
            input.license.as_deref().unwrap_or("none stated")
        );
    }
    let names = |chosen: &dyn Fn(&CardInput) -> bool| {
        inputs
            .iter()
            .filter(|input| chosen(input))
            .map(|input| input.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let restricted = names(&|input| input.license.as_deref().is_some_and(is_non_commercial));
    let unstated = names(&|input| input.license.is_none());
    if !restricted.is_empty() {
        let _ = writeln!(
            text,
            "\n**Not for commercial use as it stands**: the license of {restricted} does not allow it."
        );
    }
    if !unstated.is_empty() {
        let _ = writeln!(
            text,
            "\n**No license is stated** for {unstated}: without one no right of use is given; ask the author first."
        );
    }
    text
}
