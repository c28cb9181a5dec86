//! Selects the files of a dataset: by globs, or by the configuration and split of the dataset's card. Of many shards it
//! can sample a few by a seed.
//!
//! What this is not: it fetches nothing except the card.

use hf_hub::RepoType;
use sha2::{Digest, Sha256};

use crate::card::{Card, SelectionFailure};
use crate::error::{HubError, Result, io};
use crate::glob::PathPattern;
use crate::hub::{DatasetListing, Hub, select_matching};
use crate::progress::DownloadProgress;
use crate::repository::Repository;

/// Which files of a dataset to select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetQuery {
    /// Globs over the repository's paths, in which `*` stays inside a folder and `**` crosses folders. Without any,
    /// the dataset's card or the file names determine the split's files.
    pub patterns: Vec<String>,
    /// Configuration of the card; by default the card's default configuration.
    pub config: Option<String>,
    /// Such as `train`; used only without patterns.
    pub split: String,
    /// At most this many of the files.
    pub shards: Option<u64>,
    /// Seed of the sampled shards.
    pub seed: u64,
}

/// The selected files of a dataset at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSelection {
    /// The commit.
    pub revision: String,
    /// Paths inside the repository, sorted.
    pub files: Vec<String>,
    /// Number of matching files before shards were sampled.
    pub candidates: usize,
    /// The license that the card states, where the card was read.
    pub license: Option<String>,
}

impl Hub {
    /// Resolves the matching files; downloads nothing except the README when no patterns are given.
    ///
    /// # Errors
    /// If the dataset, configuration or split does not exist, or nothing matches. The error lists what exists.
    pub fn select(
        &self,
        id: &str,
        revision: Option<&str>,
        query: &DatasetQuery,
        progress: &dyn DownloadProgress,
    ) -> Result<DatasetSelection> {
        let repository = Repository::new(RepoType::Dataset, id, revision, &self.settings().cache)?;
        let listing = self.dataset_listing(id, revision)?;
        let (mut files, license) = if query.patterns.is_empty() {
            let card = self.card(&repository, &listing.revision, &listing.files, progress)?;
            let selected = card.files(query.config.as_deref(), &query.split, &listing.files);
            let files = selected.map_err(|failure| selection_error(&repository, &listing, query, failure))?;
            (files, card.license)
        } else {
            let patterns = PathPattern::all(&query.patterns)?;
            let files = select_matching(&repository, &listing.revision, &patterns, &listing.files)?;
            (files, None)
        };
        let candidates = files.len();
        if let Some(shards) = query.shards {
            sample_shards(&mut files, shards, query.seed);
        }
        files.sort();
        Ok(DatasetSelection {
            revision: listing.revision,
            files,
            candidates,
            license,
        })
    }

    fn card(
        &self,
        repository: &Repository,
        commit: &str,
        files: &[String],
        progress: &dyn DownloadProgress,
    ) -> Result<Card> {
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

/// Keeps the `shards` files with the smallest seeded hashes: the same ones on every machine.
fn sample_shards(files: &mut Vec<String>, shards: u64, seed: u64) {
    files.sort_by_cached_key(|file| {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(file.as_bytes());
        hash.finalize().to_vec()
    });
    files.truncate(usize::try_from(shards).unwrap_or(usize::MAX));
}

fn selection_error(
    repository: &Repository,
    listing: &DatasetListing,
    query: &DatasetQuery,
    failure: SelectionFailure,
) -> HubError {
    let repo = repository.describe();
    let list = |known: Vec<String>| {
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    };
    match failure {
        SelectionFailure::Config(known) => HubError::NoConfig {
            repo,
            asked: match &query.config {
                Some(config) => format!("no configuration {config:?}"),
                None => "several configurations, and `config` names none of them".to_owned(),
            },
            known: list(known),
        },
        SelectionFailure::Split(known) => HubError::NoSplit {
            repo,
            split: query.split.clone(),
            known: list(known),
        },
        SelectionFailure::NoRows => {
            let patterns = vec!["*.parquet, *.arrow, *.jsonl, *.json, *.csv, *.tsv or *.txt".to_owned()];
            HubError::no_match(repo, &listing.revision, patterns, &listing.files)
        }
        SelectionFailure::NoMatch(globs) => HubError::no_match(repo, &listing.revision, globs, &listing.files),
        SelectionFailure::BadPattern(reason) => HubError::BadCard { repo, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_shards_depend_on_the_seed_alone() {
        let all: Vec<String> = (0..114).map(|index| format!("data/train-{index:05}.parquet")).collect();
        let sampled = |seed: u64, mut files: Vec<String>| {
            sample_shards(&mut files, 3, seed);
            files
        };
        let reversed = all.iter().rev().cloned().collect();
        assert_eq!(sampled(42, all.clone()), sampled(42, reversed));
        assert_ne!(sampled(42, all.clone()), sampled(43, all.clone()));
        assert_eq!(sampled(1, all).len(), 3);
    }
}
