//! Where everything is in a run's folder.
//!
//! What this is not: the reading and writing of those files.

use std::path::{Path, PathBuf};

use synapse_recipe::Stage;

/// A run's folder, by path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunDir<'a>(&'a Path);

impl<'a> RunDir<'a> {
    /// The folder `run_dir` of a plan.
    pub(crate) fn new(run_dir: &'a Path) -> Self {
        Self(run_dir)
    }

    /// The plan of the last run.
    pub(crate) fn plan(self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// A stage's record: its fingerprint, duration and result.
    pub(crate) fn record(self, stage: Stage) -> PathBuf {
        self.0.join("stages").join(format!("{}.json", stage.id()))
    }

    /// The model folder that a GGUF base was imported to.
    pub(crate) fn imported_base(self) -> PathBuf {
        self.0.join("base")
    }

    /// sha256 of the GGUF file that was imported.
    pub(crate) fn imported_base_hash(self) -> PathBuf {
        self.0.join("base.sha256")
    }

    /// The folder of the prepared data.
    pub(crate) fn data(self) -> PathBuf {
        self.0.join("data")
    }

    /// The prepared data's manifest.
    pub(crate) fn manifest(self) -> PathBuf {
        self.data().join("manifest.json")
    }

    /// The packed training rows.
    pub(crate) fn train_rows(self) -> PathBuf {
        self.data().join("train.arrow")
    }

    /// The held-out rows, tokenized.
    pub(crate) fn held_out_rows(self) -> PathBuf {
        self.data().join("held_out.arrow")
    }

    /// The held-out rows as text.
    pub(crate) fn held_out_text(self) -> PathBuf {
        self.data().join("held_out.jsonl")
    }

    /// Where each training row comes from.
    pub(crate) fn row_origins(self) -> PathBuf {
        self.data().join("origins.jsonl")
    }

    /// The folder of the evaluation logs.
    pub(crate) fn evaluation(self) -> PathBuf {
        self.0.join("evaluation")
    }

    /// The folder of the merged model.
    pub(crate) fn merged(self) -> PathBuf {
        self.0.join("merged")
    }

    /// Base, specialists and merge in one table.
    pub(crate) fn comparison(self) -> PathBuf {
        self.0.join("comparison.json")
    }

    /// The gate's decision.
    pub(crate) fn gate(self) -> PathBuf {
        self.0.join("gate.json")
    }

    /// The folder of a search for a merge.
    pub(crate) fn search(self) -> PathBuf {
        self.0.join("search")
    }

    /// Command and resources of the last invocation.
    pub(crate) fn usage(self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The run's page.
    pub(crate) fn report(self) -> PathBuf {
        self.0.join("report.html")
    }
}
