//! The dataset registry, `data/registry.yaml`: short names for datasets with their hub id, revision, files, format and
//! license.
//!
//! What this is not: the reading of the file (`registry_file`), or any fetching.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enums::Format;

/// Datasets by short name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Short name to dataset.
    pub datasets: BTreeMap<String, RegistryEntry>,
    /// Suite to the dataset that it asks, where no recipe trains on that.
    #[serde(default)]
    pub benchmarks: BTreeMap<String, BenchmarkEntry>,
}

/// A dataset that is only ever measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkEntry {
    /// Hub id, organization/name.
    #[schemars(length(min = 3))]
    pub id: String,
    /// Pinned commit; the default branch when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Globs of the files that are asked.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// License of the data, as its publisher states it.
    #[schemars(length(min = 1))]
    #[serde(alias = "licence")]
    pub license: String,
    /// What a user should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One dataset of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryEntry {
    /// Hub id, organization/name.
    #[schemars(length(min = 3))]
    pub id: String,
    /// Pinned commit; the default branch when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Files of each split, as globs over the repository's paths.
    pub files: RegistryFiles,
    /// Files fetched when a recipe does not say: this many, drawn by its seed. For datasets too large to fetch whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub shards: Option<u64>,
    /// Rows fetched when a recipe does not say: this many from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub first_rows: Option<u64>,
    /// Shape of a row.
    pub format: Format,
    /// License of the data, as its publisher states it.
    #[schemars(length(min = 1))]
    #[serde(alias = "licence")]
    pub license: String,
    /// What a user should know before training on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Files of each split.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryFiles {
    /// Globs of the training split.
    #[schemars(length(min = 1))]
    pub train: Vec<String>,
    /// Globs of the test split; these files are refused for training.
    #[serde(default)]
    pub test: Vec<String>,
}

impl Registry {
    /// Where a suite's questions lie: hub id, pinned commit, globs. Of a dataset with a training split, its test files.
    #[must_use]
    pub fn benchmark(&self, suite: &str, id: &str) -> Option<(&str, Option<&str>, &[String])> {
        let own = self.benchmarks.get(suite);
        let own = own.map(|entry| (entry.id.as_str(), entry.revision.as_deref(), entry.files.as_slice()));
        own.or_else(|| {
            let (_, entry) = self.by_id(id)?;
            let files = entry.files.test.as_slice();
            (!files.is_empty()).then_some((entry.id.as_str(), entry.revision.as_deref(), files))
        })
    }

    /// The entry whose hub id is `id`, and its short name.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<(&str, &RegistryEntry)> {
        self.datasets
            .iter()
            .find(|(_, entry)| entry.id.eq_ignore_ascii_case(id))
            .map(|(name, entry)| (name.as_str(), entry))
    }
}

impl RegistryEntry {
    /// Whether a file or glob of the repository is, or may match, one of the test split's files.
    #[must_use]
    pub fn reaches_test_files(&self, pattern: &str) -> bool {
        self.files
            .test
            .iter()
            .any(|test| glob_matches(pattern, test) || glob_matches(test, pattern))
    }
}

/// `*` stands for any run of characters, `?` for one; slashes are ordinary, which errs towards matching.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // `reach[t]`: the pattern so far can end after `t` characters of the text.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        for t in 0..=text.len() {
            next[t] = match p {
                '*' => reach[t] || (t > 0 && next[t - 1]),
                '?' => t > 0 && reach[t - 1],
                p => t > 0 && reach[t - 1] && text[t - 1] == p,
            };
        }
        reach = next;
    }
    reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_that_reach_the_test_split_are_seen() {
        let entry = RegistryEntry {
            id: "openai/gsm8k".into(),
            revision: None,
            files: RegistryFiles {
                train: vec!["main/train-*.parquet".into()],
                test: vec!["main/test-*.parquet".into()],
            },
            shards: None,
            first_rows: None,
            format: Format::QuestionAnswer,
            license: "MIT".into(),
            note: None,
        };
        assert!(entry.reaches_test_files("main/*.parquet"));
        assert!(entry.reaches_test_files("**/*.parquet"));
        assert!(entry.reaches_test_files("main/test-00000-of-00001.parquet"));
        assert!(!entry.reaches_test_files("main/train-*.parquet"));
    }
}
