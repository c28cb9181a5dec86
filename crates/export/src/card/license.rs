//! Facts about license identifiers, for the reader of a card. This is not legal advice.

/// Identifiers that the hub knows, among those that models and text data usually have.
const HUB_LICENSES: [&str; 28] = [
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

/// Whether the hub knows the identifier.
pub(super) fn is_known(license: &str) -> bool {
    HUB_LICENSES.contains(&license)
}

/// Whether a license forbids commercial use, going by its identifier.
pub(super) fn is_non_commercial(license: &str) -> bool {
    let license = license.to_ascii_lowercase();
    ["-nc", "non-commercial", "noncommercial", "research"]
        .iter()
        .any(|word| license.contains(word))
}
