//! One invocation: the command line's options, the reporter, the stop flag, and hashes that several recipes share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use synapse_checkpoint::ModelFolder;
use synapse_recipe::Stage;
use synapse_trainer::DeviceChoice;

use crate::{PipelineError, Reporter};

/// The command line's options besides the plan.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Run this stage and all after it again, whatever their records say.
    pub from: Option<Stage>,
    /// Stop after this stage.
    pub until: Option<Stage>,
    /// Run every stage again.
    pub force: bool,
    /// Use no network.
    pub offline: bool,
    /// What computes the training steps; everything else runs on the CPU kernels.
    pub device: DeviceChoice,
    /// The command as typed, for the report.
    pub command: String,
}

/// One invocation.
pub struct Run<'a> {
    /// The command line's options.
    pub options: RunOptions,
    /// Receives the progress.
    pub reporter: &'a dyn Reporter,
    /// Set to stop at the next point where nothing is lost.
    pub stop: &'a AtomicBool,
    /// Content hashes of model folders, each taken once per invocation.
    hashes: Arc<Mutex<BTreeMap<PathBuf, String>>>,
}

impl<'a> Run<'a> {
    /// An invocation without cached hashes.
    pub fn new(options: RunOptions, reporter: &'a dyn Reporter, stop: &'a AtomicBool) -> Self {
        Self {
            options,
            reporter,
            stop,
            hashes: Arc::default(),
        }
    }

    /// The same invocation with another reporter.
    pub(crate) fn reporting_to<'b>(&self, reporter: &'b dyn Reporter) -> Run<'b>
    where
        'a: 'b,
    {
        Run {
            options: self.options.clone(),
            reporter,
            stop: self.stop,
            hashes: Arc::clone(&self.hashes),
        }
    }

    /// Whether a stage runs again whatever its record says.
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
