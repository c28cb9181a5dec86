//! Where a source's rows are: generated, in the registry, on the hub or in a local file; and that no test split is
//! trained on.

use std::path::{Path, PathBuf};

use crate::plan::{Location, Portion};
use crate::raw::{RawSamples, SamplesWord, Source};
use crate::registry::{Registry, RegistryEntry};
use crate::resolve::Resolver;
use crate::resolve::base::hub_id;
use crate::row_files::{ROW_FILE_ENDINGS, row_file_ending};
use crate::suggest::{alternatives, nearest};

/// The name of generated routing rows.
pub(crate) const ROUTING: &str = "routing";

impl Resolver<'_> {
    /// Generated rows have neither files nor an end.
    pub(crate) fn check_generated(&mut self, key: &str, source: &Source) {
        let given = [
            ("split", source.split.0 != "train"),
            ("files", !source.files.is_empty()),
            ("config", source.config.is_some()),
            ("shards", source.shards.is_some()),
            ("revision", source.revision.is_some()),
            ("first_rows", source.first_rows.is_some()),
            ("format", source.format.is_some()),
            ("map", !source.map.is_empty()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            self.refuse_key(
                &format!("{key}.{name}"),
                format!("routing rows are generated, `{name}` has no meaning for them"),
                None,
            );
        }
        if matches!(source.samples, RawSamples::Word(SamplesWord::All)) {
            let hint = "a number of rows, or `rest`";
            self.refuse_value(
                &format!("{key}.samples"),
                "routing rows are generated without end; `samples` must say how many",
                Some(hint.to_owned()),
            );
        }
    }

    pub(crate) fn registry_location(&mut self, key: &str, source: &Source, entry: &RegistryEntry) -> Location {
        if source.split.0 != "train" {
            self.refuse_split(
                key,
                source,
                if entry.files.test.is_empty() {
                    "it has only `train`"
                } else {
                    "train on `train`"
                },
            );
        }
        for (index, pattern) in source.files.iter().enumerate() {
            if entry.reaches_test_files(pattern) {
                let message = format!(
                    "`{pattern}` reaches the test split of {}, which is never trained on",
                    entry.id
                );
                let hint = format!(
                    "its training files are {}",
                    alternatives(entry.files.train.iter().map(String::as_str))
                );
                self.refuse_value(&format!("{key}.files.{index}"), message, Some(hint));
            }
        }
        if source.config.is_some() {
            let message = format!(
                "the registry names the files of {}, so `config` has no meaning",
                entry.id
            );
            let hint = "name other files under `files:`".to_owned();
            self.refuse_key(&format!("{key}.config"), message, Some(hint));
        }
        // Files named one by one are all wanted.
        let shards = if source.files.is_empty() { entry.shards } else { None };
        Location::Hub {
            id: entry.id.clone(),
            revision: source.revision.clone().or_else(|| entry.revision.clone()),
            files: if source.files.is_empty() {
                entry.files.train.clone()
            } else {
                source.files.clone()
            },
            config: None,
            portion: Portion {
                shards: source.shards.or(shards),
                first_rows: source.first_rows.or(entry.first_rows),
            },
        }
    }

    fn refuse_split(&mut self, key: &str, source: &Source, hint: &str) {
        let message = match source.split.0.as_str() {
            "test" => format!(
                "the test split of {} measures models and is never trained on",
                source.dataset
            ),
            other => format!("{} has no split `{other}` to train on", source.dataset),
        };
        self.refuse_value(&format!("{key}.split"), message, Some(hint.to_owned()));
    }

    /// A local file, a hub id, or an unknown name.
    pub(crate) fn unregistered_location(
        &mut self,
        key: &str,
        source: &Source,
        registry: Option<&Registry>,
    ) -> Location {
        let name = source.dataset.as_str();
        let value_key = format!("{key}.dataset");
        let path = self.input(&value_key, Path::new(name));
        let known = ROW_FILE_ENDINGS.contains(&row_file_ending(name).as_str());
        if known || path.is_file() || name.starts_with(['.', '/', '~']) {
            return self.local_location(key, source, path, known);
        }
        if let Some((id, revision)) = hub_id(name) {
            if source.split.0.contains("test") {
                self.refuse_split(key, source, "train on `train`");
            }
            for (index, pattern) in source.files.iter().enumerate() {
                let mut words = pattern.split(|letter: char| !letter.is_ascii_alphanumeric());
                if words.any(|word| word.eq_ignore_ascii_case("test")) {
                    let message =
                        format!("`{pattern}` names a test split, which measures models and is never trained on");
                    let hint = "name its training files".to_owned();
                    self.refuse_value(&format!("{key}.files.{index}"), message, Some(hint));
                }
            }
            if !source.files.is_empty() {
                let given = [
                    ("config", source.config.is_some()),
                    ("split", source.split.0 != "train"),
                ];
                for (name, _) in given.iter().filter(|(_, given)| *given) {
                    let message = format!("`files` already says which files are read, so `{name}` has no meaning");
                    self.refuse_key(
                        &format!("{key}.{name}"),
                        message,
                        Some(format!("remove `files` or `{name}`")),
                    );
                }
            }
            return Location::Hub {
                id,
                revision: source.revision.clone().or(revision),
                files: source.files.clone(),
                config: source.config.clone(),
                portion: Portion {
                    shards: source.shards,
                    first_rows: source.first_rows,
                },
            };
        }
        let names = registry.map(|registry| {
            registry
                .datasets
                .keys()
                .map(String::as_str)
                .chain([ROUTING])
                .collect::<Vec<_>>()
        });
        let hint = match &names {
            Some(names) => match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "known names are {}; hub ids (organization/name) and local files work too",
                    alternatives(names.iter().copied())
                ),
            },
            None => "there is no data/registry.yaml here or above; use a hub id (organization/name) or a local file"
                .to_owned(),
        };
        self.refuse_value(&value_key, format!("unknown dataset `{name}`"), Some(hint));
        Location::File(path)
    }

    fn local_location(&mut self, key: &str, source: &Source, path: PathBuf, known: bool) -> Location {
        let value_key = format!("{key}.dataset");
        if path.is_dir() {
            self.refuse_value(
                &value_key,
                format!("expected a file, {} is a folder", path.display()),
                None,
            );
        } else if !path.is_file() {
            self.refuse_value(&value_key, format!("no such file: {}", path.display()), None);
        } else if !known {
            let hint = format!(
                "files end in {}; text formats may be compressed (`.gz`, `.zst`)",
                alternatives(ROW_FILE_ENDINGS)
            );
            self.refuse_value(
                &value_key,
                format!("cannot tell what is in {}", path.display()),
                Some(hint),
            );
        }
        let given = [
            ("split", source.split.0 != "train"),
            ("files", !source.files.is_empty()),
            ("config", source.config.is_some()),
            ("shards", source.shards.is_some()),
            ("first_rows", source.first_rows.is_some()),
            ("revision", source.revision.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            self.refuse_key(
                &format!("{key}.{name}"),
                format!("`{name}` has no meaning for a local file"),
                None,
            );
        }
        Location::File(path)
    }
}
