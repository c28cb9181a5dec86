//! From files as written to plans: defaults, paths, and the conditions that no schema can say.
//!
//! Every check that can still be made is made, also beside values the schema refused, so that one
//! look at the messages is enough.

mod base;
mod data;
mod pipeline;
mod specialist;
mod stages;

use std::path::{Path, PathBuf};

use crate::diagnostics::Problem;
use crate::document::Source;
use crate::paths::tidy;

pub(crate) use pipeline::{parse_overrides, pipeline};
pub(crate) use specialist::specialist;
pub(crate) use stages::stage_list;

/// A recipe's source with the problems found so far.
pub(crate) struct Resolver<'a> {
    pub(crate) source: &'a Source,
    pub(crate) problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// Notes a problem with a value, unless the schema already refused it.
    pub(crate) fn value(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        if !self.source.is_refused(key) {
            self.problems.push(self.source.at_value(key, message.into(), hint));
        }
    }

    /// Notes a problem with a key, unless the schema already refused it.
    pub(crate) fn key(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        if !self.source.is_refused(key) {
            self.problems.push(self.source.at_key(key, message.into(), hint));
        }
    }

    /// Where an input path leads: from the file's folder, or from the working directory when it
    /// was given on the command line.
    pub(crate) fn input(&self, key: &str, path: &Path) -> PathBuf {
        if self.source.is_override(key) {
            tidy(path)
        } else {
            tidy(&self.source.folder().join(path))
        }
    }
}
