//! The input of data preparation, and the events it reports.

use std::path::{Path, PathBuf};

use synapse_checkpoint::sha256_file;
use synapse_recipe::{DataPlan, TrainPlan};
use synapse_tokenizer::ChatTokenizer;

use crate::Result;

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in the repository (or the file's own): tells the format, and goes into messages and the manifest.
    pub name: String,
    /// Its path.
    pub local: PathBuf,
    /// sha256 of its bytes, lower-case hex.
    pub sha256: String,
}

/// The local files of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFiles {
    /// The hub commit they come from; none for local files.
    pub revision: Option<String>,
    /// The files in reading order; none for generated sources.
    pub files: Vec<SourceFile>,
    /// The number of rows present over all files, if only the first ones were fetched.
    pub first_rows: Option<u64>,
    /// The number of files that these were sampled from, if they were.
    pub drawn_from: Option<usize>,
    /// License that the dataset's card states; one in the plan takes precedence.
    pub license: Option<String>,
}

/// Evaluation texts that training data must not contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Benchmark {
    /// Its name, for the manifest.
    pub name: String,
    /// Questions, answers and tests.
    pub texts: Vec<String>,
}

impl SourceFiles {
    /// A local file as a source.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn local(path: &Path) -> Result<Self> {
        Ok(Self {
            files: vec![SourceFile::local(path)?],
            ..Self::default()
        })
    }
}

impl SourceFile {
    /// A local file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn local(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            local: path.to_owned(),
            sha256: sha256_file(path)?,
        })
    }
}

/// The input of [`crate::prepare`].
#[derive(Debug)]
pub struct PrepareRequest<'a> {
    /// What to read.
    pub plan: &'a DataPlan,
    /// How it will be trained on: length, packing, loss.
    pub train: &'a TrainPlan,
    /// The recipe's system prompt, for rows and sources without their own.
    pub system_prompt: Option<&'a str>,
    /// The files of each source of the plan, in its order.
    pub files: Vec<SourceFiles>,
    /// The files of each recipe that a generated source references, in the plan's order.
    pub request_files: Vec<Vec<SourceFiles>>,
    /// Texts of the evaluation suites; used if the plan says `decontaminate`.
    pub benchmarks: &'a [Benchmark],
    /// The model's tokenizer and template.
    pub chat: &'a ChatTokenizer,
    /// An existing folder, usually a staging one.
    pub out: &'a Path,
}

/// An event of data preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareEvent {
    /// A source is being read.
    Reading {
        /// The source as the recipe names it.
        dataset: String,
    },
    /// A source has been read.
    Read {
        /// The source as the recipe names it.
        dataset: String,
        /// Rows read.
        rows: u64,
        /// Rows that passed the filters.
        available: u64,
    },
    /// Rows tokenized so far.
    Tokenized {
        /// Rows done.
        done: usize,
        /// Rows in all.
        total: usize,
    },
    /// Something the user should know; the manifest records it too.
    Warning(String),
}
