//! From files as written to plans: defaults, paths, and the conditions that a schema cannot express.
//!
//! Values that the schema refused do not end the checks: everything else is still checked, so that one run reports all
//! problems.

mod base;
mod data;
mod evaluate;
mod location;
mod output;
mod pipeline;
mod requests;
mod specialist;
mod stages;
mod training;

use std::path::{Path, PathBuf};

use crate::diagnostics::Problem;
use crate::parsed_file::ParsedFile;
use crate::paths::normalize;

pub(crate) use pipeline::{parse_overrides, pipeline};
pub(crate) use specialist::specialist;
pub(crate) use stages::stage_list;

/// A recipe's source with the problems found so far.
pub(crate) struct Resolver<'a> {
    pub(crate) source: &'a ParsedFile,
    pub(crate) problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// Reports a problem with a value, unless the schema already refused it.
    pub(crate) fn refuse_value(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        if !self.source.is_refused(key) {
            self.problems.push(self.source.at_value(key, message.into(), hint));
        }
    }

    /// Reports a problem with a key, unless the schema already refused it.
    pub(crate) fn refuse_key(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        if !self.source.is_refused(key) {
            self.problems.push(self.source.at_key(key, message.into(), hint));
        }
    }

    /// An input path, resolved from the file's folder, or from the working directory if it came from the command line.
    pub(crate) fn input(&self, key: &str, path: &Path) -> PathBuf {
        if self.source.is_override(key) {
            normalize(path)
        } else {
            normalize(&self.source.folder().join(path))
        }
    }
}
