//! Finds and reads `data/registry.yaml`.

use std::path::Path;

use crate::diagnostics::Diagnostics;
use crate::kind::Kind;
use crate::parsed_file::ParsedFile;
use crate::registry::Registry;

/// Where the registry is, below the folder that holds recipes.
const FILE: &str = "data/registry.yaml";

/// Reads the registry that applies to files in `folder`: the nearest `data/registry.yaml` in it or above it. `None` if
/// there is none.
///
/// # Errors
/// Every problem of the registry file.
pub fn find_registry(folder: &Path) -> Result<Option<Registry>, Diagnostics> {
    let start = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let Some(root) = start.ancestors().find(|above| above.join(FILE).is_file()) else {
        return Ok(None);
    };
    read_registry(&root.join(FILE)).map(Some)
}

/// Reads one registry file.
///
/// # Errors
/// Every problem of the file.
pub fn read_registry(file: &Path) -> Result<Registry, Diagnostics> {
    let mut parsed = ParsedFile::read(file)?;
    let (registry, problems) = parsed.deserialize::<Registry>(Kind::Registry);
    match registry {
        Some(registry) if problems.is_empty() => Ok(registry),
        _ => Err(Diagnostics::new(problems)),
    }
}
