//! The surroundings of a run: what was asked on the command line, who watches, and what several
//! recipes share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use synapse_checkpoint::ModelFolder;
use synapse_recipe::{Plan, Stage};
use synapse_trainer::DeviceChoice;

use crate::{PipelineError, Reporter, page::Live};

/// What the command line asks for besides the plan.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Run this stage and all after it again, whatever their records say.
    pub from: Option<Stage>,
    /// Stop after this stage.
    pub until: Option<Stage>,
    /// Run every stage again.
    pub force: bool,
    /// Ask the network for nothing.
    pub offline: bool,
    /// What computes the training steps; everything else runs on the CPU kernels.
    pub device: DeviceChoice,
    /// The command as typed, for the report.
    pub command: String,
}

/// One invocation.
pub struct Run<'a> {
    /// What was asked.
    pub options: RunOptions,
    /// Who watches.
    pub reporter: &'a dyn Reporter,
    /// Set to stop at the next safe place.
    pub stop: &'a AtomicBool,
    hashes: Mutex<BTreeMap<PathBuf, String>>,
}

impl<'a> Run<'a> {
    /// An invocation with nothing remembered yet.
    pub fn new(options: RunOptions, reporter: &'a dyn Reporter, stop: &'a AtomicBool) -> Self {
        Self {
            options,
            reporter,
            stop,
            hashes: Mutex::default(),
        }
    }

    /// Does `work` with the run's page written as it goes on, and once more when it ended, however it ended.
    pub(crate) fn with_page<T>(
        &self,
        document: Plan,
        work: impl FnOnce(&Run<'_>) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let live = Live::new(document, &self.options.command, self.reporter);
        let result = work(&Run::new(self.options.clone(), &live, self.stop));
        let written = live.finish(&result);
        // the run's own error says more than its page's
        let done = result?;
        written?;
        Ok(done)
    }

    /// Whether a stage's record is to be passed over.
    pub(crate) fn repeats(&self, stage: Stage) -> bool {
        self.options.force || self.options.from.is_some_and(|from| stage >= from)
    }

    /// Whether the user asked to stop.
    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the run ends before this stage.
    pub(crate) fn ends_before(&self, stage: Stage) -> bool {
        self.options.until.is_some_and(|until| stage > until)
    }

    /// The content hash of a model folder, taken once per invocation.
    pub(crate) fn model_hash(&self, folder: &Path) -> Result<String, PipelineError> {
        let cached = self.hashes.lock().ok().and_then(|hashes| hashes.get(folder).cloned());
        if let Some(hash) = cached {
            return Ok(hash);
        }
        let hash = ModelFolder::open(folder)?.content_hash()?;
        if let Ok(mut hashes) = self.hashes.lock() {
            hashes.insert(folder.to_owned(), hash.clone());
        }
        Ok(hash)
    }
}
