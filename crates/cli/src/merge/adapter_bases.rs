//! The bases that adapters name in their adapter_config.json. Only that file is read.

use std::path::{Path, PathBuf};

use synapse_merge::{Input, MergeError, adapter_config};

use crate::model_source::{ModelSource, tidy};
use crate::prepared::request_error;

/// The base that all adapters name in their adapter_config.json.
///
/// # Errors
/// Every adapter that cannot be read or names none, or all names where they disagree.
pub(crate) fn base_of(adapters: &[Input], source: &ModelSource<'_>) -> Result<PathBuf, Vec<String>> {
    let mut problems = Vec::new();
    let mut named = Vec::new();
    for input in adapters {
        match adapter_config(&input.path) {
            Err(error) => problems.push(format!("{}: {error}", input.name)),
            Ok(config) => match config.base_model_name_or_path {
                Some(base) if !base.is_empty() => named.push((input, base, config.revision)),
                _ => problems.push(format!(
                    "{}: its adapter_config.json names no base; pass --base",
                    input.name
                )),
            },
        }
    }
    // The same folder may be written in two ways.
    let same = |(_, base, revision): &(&Input, String, Option<String>)| {
        (
            Path::new(base).canonicalize().unwrap_or_else(|_| PathBuf::from(base)),
            revision.clone(),
        )
    };
    if named.windows(2).any(|pair| same(&pair[0]) != same(&pair[1])) {
        problems.push("the adapters were trained on different bases:".to_owned());
        for (input, base, revision) in &named {
            let revision = revision
                .as_ref()
                .map(|revision| format!(" at {revision}"))
                .unwrap_or_default();
            problems.push(format!("  {}: {base}{revision} ({})", input.name, input.path.display()));
        }
    }
    match named.first() {
        Some((_, base, revision)) if problems.is_empty() => {
            // An absolute path under the working directory reads, and moves, better as a relative one.
            let base = tidy(Path::new(base)).to_string_lossy().into_owned();
            source.model(&base, revision.as_deref()).map_err(|problem| {
                vec![format!(
                    "the base that the adapters name: {problem}; pass --base if it has moved"
                )]
            })
        }
        _ => Err(problems),
    }
}

/// Adapters that name another base than the one they are merged onto.
pub(crate) fn other_bases(adapters: &[Input], base: &Path) -> Vec<String> {
    let differs = |input: &Input| {
        let named = adapter_config(&input.path).ok()?.base_model_name_or_path?;
        let other = Path::new(&named).canonicalize().ok()?;
        (base.canonicalize().ok()? != other).then(|| {
            format!(
                "{} was trained on {named}, and is merged onto {}",
                input.name,
                base.display()
            )
        })
    };
    adapters.iter().filter_map(differs).collect()
}

/// The base that one adapter names.
///
/// # Errors
/// Its adapter_config.json cannot be read or names none.
pub(crate) fn named_base(adapter: &Path) -> Result<String, MergeError> {
    let named = adapter_config(adapter)?.base_model_name_or_path;
    named.ok_or_else(|| request_error(format!("{} names no base; pass --base DIR", adapter.display())))
}
