//! A merge with its inputs open and its output laid out, and its progress: what every kind of output shares.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::inputs::Inputs;
use crate::plan::TensorPlan;
use crate::sink::Format;
use crate::{MergeError, MergeRequest, Result};

/// Progress of a merge, reported after every tensor.
#[derive(Clone, Copy, Debug)]
pub struct MergeProgress<'a> {
    /// The tensor just written.
    pub tensor: &'a str,
    /// Tensors written so far.
    pub done: usize,
    /// Tensors of the output.
    pub total: usize,
    /// Bytes written so far.
    pub bytes: u64,
    /// Bytes of all output tensors.
    pub total_bytes: u64,
    /// Tensors that an earlier, interrupted run had finished.
    pub resumed: usize,
}

/// A function that is told of progress.
pub(crate) type OnProgress<'a> = &'a dyn Fn(MergeProgress<'_>);

/// A merge that is ready to run.
#[derive(Clone, Copy)]
pub(crate) struct MergeJob<'a> {
    pub(crate) request: &'a MergeRequest,
    pub(crate) inputs: &'a Inputs,
    pub(crate) plans: &'a [TensorPlan],
    /// How every output tensor is stored.
    pub(crate) formats: &'a BTreeMap<String, Format>,
}

impl MergeJob<'_> {
    /// Runs `work` while another thread hashes the inputs, and returns the hashes with its result.
    ///
    /// # Errors
    /// Those of `work`, an input that cannot be read, and one that is not the input that a merge.yaml pins.
    pub(crate) fn with_input_hashes<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, BTreeMap<PathBuf, String>)> {
        let (made, hashes) = std::thread::scope(|scope| {
            let hashes = scope.spawn(|| self.inputs.hashes());
            let made = work()?;
            let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, MergeError>((made, hashes))
        })?;
        Ok((made, check_pinned(self.request, hashes)?))
    }
}

/// Checks the inputs' hashes against those that a merge.yaml pins.
pub(crate) fn check_pinned(
    request: &MergeRequest,
    hashes: Vec<(PathBuf, String)>,
) -> Result<BTreeMap<PathBuf, String>> {
    let hashes: BTreeMap<_, _> = hashes.into_iter().collect();
    for (path, expected) in &request.pinned {
        match hashes.get(path) {
            Some(found) if found != expected => {
                let (path, expected, found) = (path.clone(), expected.clone(), found.clone());
                return Err(MergeError::InputChanged { path, expected, found });
            }
            _ => {}
        }
    }
    Ok(hashes)
}
