//! A model split over several GGUF files, as llama.cpp's gguf-split and the Python package write it: `NAME-00001-of-00003.gguf`
//! and so on, each with its number in its metadata. The first one has the model's keys; the others have tensors only.
//! Also which file a folder of GGUF files stands for.

use std::path::{Path, PathBuf};

use super::metadata::Metadata;
use crate::error::{CheckpointError, Result};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What the metadata of every part says.
pub(super) struct Split {
    number: usize,
    count: usize,
    /// Tensors of all parts.
    tensors: Option<usize>,
}

impl Split {
    /// Reads the keys; `None` for a model in one file.
    pub(super) fn read(metadata: &Metadata) -> Result<Option<Self>> {
        let Some(count) = metadata.optional_size(COUNT)?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        let number = metadata.size(NUMBER)?;
        if number >= count {
            return Err(metadata.error(
                NUMBER,
                format!("is {number}, but there are {count} parts, counted from 0"),
            ));
        }
        Ok(Some(Self {
            number,
            count,
            tensors: metadata.optional_size(TENSORS)?,
        }))
    }

    /// The files of all parts, beside the one that was opened.
    pub(super) fn paths(&self, opened: &Path) -> Result<Vec<PathBuf>> {
        let name = opened.file_name().unwrap_or_default().to_string_lossy();
        let Some((prefix, number, count)) = split_name(&name) else {
            return Err(CheckpointError::format(
                opened,
                format!(
                    "is part {} of {}, so its name must end in `{}`; give the parts their own names again",
                    self.number + 1,
                    self.count,
                    ending(self.number, self.count)
                ),
            ));
        };
        if (number, count) != (self.number + 1, self.count) {
            return Err(CheckpointError::format(
                opened,
                format!(
                    "is called part {number} of {count}, but its metadata says part {} of {}",
                    self.number + 1,
                    self.count
                ),
            ));
        }
        let paths: Vec<PathBuf> = (0..self.count)
            .map(|part| opened.with_file_name(format!("{prefix}{}", ending(part, self.count))))
            .collect();
        let missing: Vec<String> = paths
            .iter()
            .filter(|path| !path.is_file())
            .map(|path| format!("`{}`", path.file_name().unwrap_or_default().to_string_lossy()))
            .collect();
        if missing.is_empty() {
            return Ok(paths);
        }
        Err(CheckpointError::format(
            opened,
            format!(
                "is part {} of {}, and {} missing beside it: {}",
                self.number + 1,
                self.count,
                if missing.len() == 1 { "one is" } else { "some are" },
                missing.join(", ")
            ),
        ))
    }

    /// Checks that a part is the one its place asks for.
    pub(super) fn check_part(&self, index: usize, metadata: &Metadata) -> Result<()> {
        for (key, expected) in [
            (NUMBER, Some(index)),
            (COUNT, Some(self.count)),
            (TENSORS, self.tensors),
        ] {
            let found = metadata.optional_size(key)?;
            if found != expected {
                let shown =
                    |value: Option<usize>| value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
                return Err(metadata.error(
                    key,
                    format!(
                        "is {}, expected {}: the parts are not of one model",
                        shown(found),
                        shown(expected)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Checks that all parts together have the tensors they should.
    pub(super) fn check_tensors(&self, found: usize, path: &Path) -> Result<()> {
        match self.tensors {
            Some(expected) if expected != found => Err(CheckpointError::field(
                path,
                TENSORS,
                format!(
                    "is {expected}, but the {} parts have {found}; fetch them again",
                    self.count
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// `-00001-of-00003.gguf`.
fn ending(part: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", part + 1)
}

/// What stands before the ending, the number from 1, and the count.
fn split_name(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    Some((prefix, digits(number)?, digits(count)?))
}

/// The GGUF model that a path stands for: the file itself, or the only one in a folder without config.json. `None` for
/// any other folder.
///
/// # Errors
/// The folder holds several models, or cannot be listed.
pub fn gguf_at(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        return Ok(Some(path.to_owned()));
    }
    if !path.is_dir() || path.join("config.json").is_file() {
        return Ok(None);
    }
    let mut models: Vec<(String, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(CheckpointError::io("list", path))? {
        let file = entry.map_err(CheckpointError::io("list", path))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !file.is_file() || !name.ends_with(".gguf") {
            continue;
        }
        let model = split_name(&name).map_or(name.clone(), |(prefix, _, count)| {
            format!("{prefix}-*-of-{count:05}.gguf")
        });
        match models.iter_mut().find(|(known, _)| *known == model) {
            // The first part, or whichever comes first if that one is missing, which opening it then says.
            Some((_, known)) => *known = file.min(known.clone()),
            None => models.push((model, file)),
        }
    }
    models.sort();
    match models.as_slice() {
        [] => Ok(None),
        [(_, file)] => Ok(Some(file.clone())),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("holds several GGUF models ({}); name the file", names.join(", "));
            Err(CheckpointError::folder(path, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        assert_eq!(split_name("a-b-00002-of-00013.gguf"), Some(("a-b", 2, 13)));
        assert_eq!(ending(1, 13), "-00002-of-00013.gguf");
        for other in [
            "a.gguf",
            "a-2-of-13.gguf",
            "a-00002-of-00013.bin",
            "00002-of-00013.gguf",
            "a-x0002-of-00013.gguf",
        ] {
            assert_eq!(split_name(other), None, "{other}");
        }
    }
}
