//! What can go wrong while measuring a model.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T> = std::result::Result<T, EvaluateError>;

/// Everything that can go wrong while measuring a model.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The model under test failed.
    #[error("{model} failed while {doing}: {source}")]
    Model {
        /// The model's name.
        model: String,
        /// What was asked of it.
        doing: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model under test answered with the wrong number of results.
    #[error(
        "the evaluation of {model} stopped: it returned {found} results for {expected} {what}, which is a defect of the model's backend"
    )]
    WrongCount {
        /// The model's name.
        model: String,
        /// What was handed in.
        what: &'static str,
        /// How many were handed in.
        expected: usize,
        /// How many came back.
        found: usize,
    },
    /// A conversation could not be turned into tokens.
    #[error("item {item}: {source}")]
    Chat {
        /// The item's id.
        item: String,
        /// What the template or tokenizer said.
        source: synapse_tokenizer::TokenizerError,
    },
    /// A prompt does not fit the model. Cutting it would change the question.
    #[error(
        "{suite}: item {item} needs {tokens} tokens, the model has {limit}; leave the item out or evaluate a model with a longer context"
    )]
    TooLong {
        /// The suite's id.
        suite: &'static str,
        /// The item's id.
        item: String,
        /// Tokens the item needs.
        tokens: usize,
        /// Positions the model has.
        limit: usize,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a JSONL file is not what its suite needs.
    #[error("{path}:{line}: {message}", path = path.display())]
    JsonLine {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// No suite has this id.
    #[error("unknown suite `{id}`; the suites are {known}", known = crate::suites::ids::SUITE_IDS.join(", "))]
    UnknownSuite {
        /// The id asked for.
        id: String,
    },
    /// An item cannot be measured as it is.
    #[error("{suite}: item {item}: {message}")]
    Item {
        /// The suite's id.
        suite: &'static str,
        /// The item's id.
        item: String,
        /// What is wrong, and the way out.
        message: String,
    },
    /// Two outcomes that were to be compared are not of the same items.
    #[error(
        "{left} and {right} cannot be compared on {suite} ({domain}): {message}; evaluate both on the same rows with the same --limit"
    )]
    Unpaired {
        /// The suite's id.
        suite: String,
        /// The domain.
        domain: String,
        /// First model.
        left: String,
        /// Second model.
        right: String,
        /// First difference found.
        message: String,
    },
    /// A row of a suite's file is not laid out as the suite's dataset is.
    #[error("{suite}: {location}: {message}")]
    DatasetRow {
        /// The suite's id.
        suite: &'static str,
        /// The file and the row.
        location: String,
        /// What is wrong with it.
        message: String,
    },
    /// The user asked to stop; what was answered is kept where a journal is.
    #[error("stopped")]
    Stopped,
    /// The comparison lacks something it cannot do without.
    #[error("{0}")]
    Incomplete(String),
    /// The sandbox itself failed (not the code in it).
    #[error("sandbox: {message}: {source}")]
    Sandbox {
        /// What was being done.
        message: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The report's template could not be rendered.
    #[error("report.html could not be rendered: {source}")]
    Page {
        /// What the template engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A plot could not be drawn.
    #[error("plot `{plot}`: {message}")]
    Plot {
        /// The plot's title.
        plot: String,
        /// What the drawing library said.
        message: String,
    },
}

impl EvaluateError {
    /// An error of the model under test; what implementations of [`crate::model::EvalModel`] return.
    pub fn model(
        model: impl Into<String>,
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Model {
            model: model.into(),
            doing,
            source: source.into(),
        }
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            doing: "write",
            path: path.to_owned(),
            source,
        }
    }
}
