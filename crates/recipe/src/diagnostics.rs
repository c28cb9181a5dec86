//! What is wrong with a file, all of it at once, and how it reads in a terminal.

use std::fmt;
use std::path::PathBuf;

/// Every problem of a recipe or pipeline, sorted by file and position. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics {
    /// The problems in the order a reader meets them.
    pub problems: Vec<Problem>,
}

impl Diagnostics {
    /// Sorts the problems and drops repetitions.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { problems }
    }
}

/// One problem, where it is and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was named, or the `--set a.b=c` that brought the value.
    pub file: PathBuf,
    /// Line from 1; 0 when the problem belongs to no line.
    pub line: usize,
    /// Column from 1; 0 when unknown.
    pub column: usize,
    /// Dotted path of the key, such as `train.learning_rate`.
    pub key: String,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What would mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        if self.line > 0 && self.column > 0 {
            write!(out, ":{}", self.column)?;
        }
        write!(out, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}
