//! Which files of a dataset are wanted: globs, or what the dataset's card says of a configuration and split; of many
//! files a few, drawn by a seed.
//!
//! Nothing but the card is fetched here.

use hf_hub::RepoType;
use sha2::{Digest, Sha256};

use crate::card::{Card, Unchosen};
use crate::error::{HubError, Result, io};
use crate::glob::matches;
use crate::hub::{Hub, Progress};
use crate::repository::Repository;

/// What is wanted of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Globs over the repository's paths, in which `*` stays inside a folder and `**` does not. Without any, the
    /// dataset's card or its files' names say which files make the split.
    pub patterns: Vec<String>,
    /// Configuration of the card; its default when absent.
    pub config: Option<String>,
    /// Such as `train`; used without patterns.
    pub split: String,
    /// At most this many of the files.
    pub shards: Option<u64>,
    /// Draws the shards.
    pub seed: u64,
}

/// Files of a dataset at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The commit.
    pub revision: String,
    /// Paths inside the repository, sorted.
    pub files: Vec<String>,
    /// Files that were to choose from.
    pub of: usize,
    /// License in the card's words, where the card was read.
    pub license: Option<String>,
}

impl Hub {
    /// The files that are meant, of which none is fetched but, without patterns, the README.
    ///
    /// # Errors
    /// When there is no such dataset, configuration or split, or nothing matches; what there is, is named.
    pub fn select(
        &self,
        id: &str,
        revision: Option<&str>,
        wanted: &Wanted,
        progress: &dyn Progress,
    ) -> Result<Selection> {
        let repository = Repository::new(RepoType::Dataset, id, revision, &self.settings().cache)?;
        let listing = self.dataset_listing(id, revision)?;
        let (mut files, mut license) = (Vec::new(), None);
        if wanted.patterns.is_empty() {
            let card = self.card(&repository, &listing.revision, &listing.files, progress)?;
            let chosen = card.files(wanted.config.as_deref(), &wanted.split, &listing.files);
            files =
                chosen.map_err(|reason| unchosen(&repository, &listing.revision, wanted, &listing.files, reason))?;
            license = card.license;
        } else {
            let any = |pattern: &&String| !listing.files.iter().any(|file| matches(pattern, file));
            let unmatched: Vec<String> = wanted.patterns.iter().filter(any).cloned().collect();
            if !unmatched.is_empty() {
                return Err(HubError::no_match(
                    &repository,
                    &listing.revision,
                    unmatched,
                    &listing.files,
                ));
            }
            let meant = |file: &&String| wanted.patterns.iter().any(|pattern| matches(pattern, file));
            files.extend(listing.files.iter().filter(meant).cloned());
        }
        let of = files.len();
        if let Some(shards) = wanted.shards {
            draw(&mut files, shards, wanted.seed);
        }
        files.sort();
        Ok(Selection {
            revision: listing.revision,
            files,
            of,
            license,
        })
    }

    fn card(&self, repository: &Repository, commit: &str, files: &[String], progress: &dyn Progress) -> Result<Card> {
        let readme = "README.md".to_owned();
        if !files.contains(&readme) {
            return Ok(Card::default());
        }
        let fetched = self.fetch_all(repository, commit, &[readme], progress)?;
        let Some(path) = fetched.first() else {
            return Ok(Card::default());
        };
        let text = std::fs::read(path).map_err(io(path, "reading"))?;
        Card::parse(&String::from_utf8_lossy(&text)).map_err(|reason| HubError::BadCard {
            repo: repository.describe(),
            reason,
        })
    }
}

/// Keeps `shards` of the files, those whose seeded hash comes first: the same on every machine.
fn draw(files: &mut Vec<String>, shards: u64, seed: u64) {
    files.sort_by_cached_key(|file| {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(file.as_bytes());
        hash.finalize().to_vec()
    });
    files.truncate(usize::try_from(shards).unwrap_or(usize::MAX));
}

fn unchosen(repository: &Repository, commit: &str, wanted: &Wanted, files: &[String], reason: Unchosen) -> HubError {
    let repo = repository.describe();
    let list = |known: Vec<String>| {
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    };
    match reason {
        Unchosen::Config(known) => HubError::NoConfig {
            repo,
            asked: match &wanted.config {
                Some(config) => format!("no configuration {config:?}"),
                None => "several configurations, and `config` names none of them".to_owned(),
            },
            known: list(known),
        },
        Unchosen::Split(known) => HubError::NoSplit {
            repo,
            split: wanted.split.clone(),
            known: list(known),
        },
        Unchosen::NoRows => {
            let patterns = vec!["*.parquet, *.jsonl, *.json, *.csv, *.tsv or *.txt".to_owned()];
            HubError::no_match(repository, commit, patterns, files)
        }
        Unchosen::NoMatch(globs) => HubError::no_match(repository, commit, globs, files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_drawn_by_the_seed_alone() {
        let all: Vec<String> = (0..114).map(|index| format!("data/train-{index:05}.parquet")).collect();
        let drawn = |seed: u64, mut files: Vec<String>| {
            draw(&mut files, 3, seed);
            files
        };
        let reversed = all.iter().rev().cloned().collect();
        assert_eq!(drawn(42, all.clone()), drawn(42, reversed));
        assert_ne!(drawn(42, all.clone()), drawn(43, all.clone()));
        assert_eq!(drawn(1, all).len(), 3);
    }
}
