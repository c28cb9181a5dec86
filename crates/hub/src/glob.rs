//! Glob patterns over repository paths, with the syntax of Hugging Face's data-file patterns: `*`, `?`, `[0-9]` and
//! `{a,b}` stay inside a folder, `**` crosses folders.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{HubError, Result};

/// One pattern; a path that equals its text matches too, so that file names with brackets can be given as they are.
#[derive(Debug)]
pub(crate) struct PathPattern {
    text: String,
    matcher: GlobMatcher,
}

impl PathPattern {
    pub(crate) fn new(text: &str) -> Result<Self> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| HubError::BadPattern {
            pattern: text.to_owned(),
            reason: error.kind().to_string(),
        })?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }

    /// Every pattern of a list.
    pub(crate) fn all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Self>> {
        texts.iter().map(|text| Self::new(text.as_ref())).collect()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches the whole path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        path == self.text || self.matcher.is_match(path)
    }
}

/// The paths that match any of the patterns, in their order.
pub(crate) fn matching<'f>(patterns: &[PathPattern], paths: impl IntoIterator<Item = &'f String>) -> Vec<String> {
    let matches = |path: &&String| patterns.iter().any(|pattern| pattern.matches(path));
    paths.into_iter().filter(matches).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::new(pattern).unwrap().matches(path)
    }

    #[test]
    fn stars_stay_in_their_folder() {
        assert!(matches("main/train-*.parquet", "main/train-00000-of-00001.parquet"));
        assert!(!matches("main/train-*.parquet", "main/test-00000-of-00001.parquet"));
        assert!(!matches("*.json", "data/a.json"));
        assert!(matches("**/*.json", "data/deep/a.json") && matches("**/*.json", "a.json"));
        assert!(matches("data/**", "data/deep/a.json"));
        assert!(matches("a?c", "abc") && !matches("a?c", "a/c"));
        assert!(matches("tokenizer*", "tokenizer.json") && !matches("tokenizer*", "x/tokenizer.json"));
        assert!(!matches("", "a") && matches("", ""));
    }

    #[test]
    fn classes_and_alternatives_are_those_of_hugging_face() {
        let shard = "data/train-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].parquet";
        assert!(matches(shard, "data/train-00000-of-00002.parquet"));
        assert!(!matches(shard, "data/train-0000a-of-00002.parquet"));
        assert!(matches("data/{train,valid}-*.json", "data/valid-0.json"));
        assert!(!matches("data/{train,valid}-*.json", "data/test-0.json"));
        assert!(matches("[!._]*.csv", "a.csv") && !matches("[!._]*.csv", ".a.csv"));
        assert!(
            matches("a[1].json", "a1.json") && matches("a[1].json", "a[1].json"),
            "a name that is given as it is"
        );
    }

    #[test]
    fn broken_patterns_are_refused_by_name() {
        for broken in ["data/[0-9.json", "{a,b"] {
            let error = PathPattern::new(broken).unwrap_err().to_string();
            assert!(error.contains(broken), "{error}");
        }
    }
}
