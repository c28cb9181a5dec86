//! The merge itself: tensors pass from the inputs into a staged folder, which is published whole; or into one GGUF file;
//! or, to verify, nowhere.

mod folder;
mod sums;

use std::collections::BTreeMap;

use synapse_checkpoint::{DType, ModelFolder, Staged, write_atomic};
use synapse_export::{GgufExport, GgufTarget, GgufType};

use crate::crew::merge_all;
use crate::engine::Engine;
use crate::heat_map::HEAT_MAP_FILE;
use crate::inputs::Inputs;
use crate::plan::{TensorPlan, plan};
use crate::report::REPORT_FILE;
use crate::sink::{CompareSink, Format, GgufSink};
use crate::{MergeError, MergeReport, MergeRequest, Result, auxiliary_files, card, heat_map, merge_file};
use folder::{write_changes, write_tensors};
use sums::Sums;

/// How far a merge has come; reported after every tensor.
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
    /// Tensors found finished by an earlier run that was stopped.
    pub resumed: usize,
}

/// Merges as requested and publishes a model folder at `request.out`: weights, configuration, tokenizer, merge.yaml
/// (which makes the same bytes again) and merge_report.json. Memory holds as many tensors' changes at a time as
/// `request.tile_budget` allows.
///
/// # Errors
/// [`MergeError::Request`] lists everything wrong with the request and its folders before anything is written;
/// every other error leaves the output as it was.
pub fn merge(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, inputs.base.config());
    if let Some(gguf_type) = request.gguf {
        return merge_gguf(request, gguf_type, &inputs, &plans, progress);
    }
    let staged = if request.sparse {
        Staged::beside(&request.out)?
    } else {
        Staged::resume(&request.out)?
    };
    let (report, changes, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let (report, changes) = if request.sparse {
            let (report, changes) = write_changes(request, &inputs, &plans, staged.path(), progress)?;
            (report, Some(changes))
        } else {
            let report = write_tensors(request, &inputs, &plans, staged.path(), progress)?;
            (report, None)
        };
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((report, changes, hashes))
    })?;
    let hashes = pinned(request, hashes)?;
    if let Some(changes) = changes {
        changes.describe(request, &hashes, staged.path())?;
    }
    auxiliary_files::write(&inputs.base, request, staged.path())?;
    let stored = inputs.base.names().find_map(|name| Some(inputs.base.info(name)?.dtype));
    let text = merge_file::write(request, &hashes, stored.unwrap_or(DType::F32));
    write_atomic(&staged.path().join(merge_file::FILE), text.as_bytes())?;
    write_atomic(&staged.path().join(REPORT_FILE), &report.to_json())?;
    let picture = heat_map::draw(&report);
    if let Some(picture) = &picture {
        write_atomic(&staged.path().join(HEAT_MAP_FILE), picture.as_bytes())?;
    }
    let card = card::card(request, &report, picture.is_some());
    write_atomic(&staged.path().join("README.md"), card.as_bytes())?;
    staged.publish()?;
    Ok(report)
}

/// Streams a merge into one GGUF file. A run that is killed leaves nothing, and begins again.
fn merge_gguf(
    request: &MergeRequest,
    gguf_type: GgufType,
    inputs: &Inputs,
    plans: &[TensorPlan],
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<MergeReport> {
    let formats = formats(request, inputs, plans);
    let name = request
        .out
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if let Some(parent) = request.out.parent() {
        std::fs::create_dir_all(parent).map_err(MergeError::file("create", parent))?;
    }
    let export = GgufExport {
        model: &inputs.base,
        gguf_type,
        name: &name,
        license: None,
    };
    let target = GgufTarget::create(&export, &request.out)?;
    let (report, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let engine = Engine::new(request, inputs, plans)?;
        let mut sums = Sums::new(request, plans, &formats);
        let all: Vec<usize> = (0..plans.len()).collect();
        merge_all(&engine, &all, &GgufSink(&target), |index, outcome| {
            sums.add(index, outcome, 0, progress);
        })?;
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((sums.report(), hashes))
    })?;
    let hashes = pinned(request, hashes)?;
    target.publish()?;
    let beside = |ending: &str| request.out.with_extension(ending);
    write_atomic(
        &beside(merge_file::FILE),
        merge_file::write(request, &hashes, DType::F32).as_bytes(),
    )?;
    write_atomic(&beside(REPORT_FILE), &report.to_json())?;
    Ok(report)
}

/// Merges again without writing anything, and compares every value with the folder at `request.out`.
///
/// # Errors
/// As [`merge`], and [`MergeError::Differs`] at the first tensor that is not what the merge makes.
pub fn verify(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, inputs.base.config());
    let folder = ModelFolder::open(&request.out)?;
    let formats = formats(request, &inputs, &plans);
    for plan in &plans {
        let found = folder.info(&plan.name).map(|info| (info.dtype, info.shape.clone()));
        let expected = (formats[&plan.name].dtype, plan.shape.clone());
        if found.as_ref() != Some(&expected) {
            return Err(MergeError::request(format!(
                "{}: {} should be {} {:?}, found {found:?}",
                request.out.display(),
                plan.name,
                expected.0,
                expected.1
            )));
        }
    }
    let (report, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let sink = CompareSink {
            folder: &folder,
            formats: &formats,
        };
        let engine = Engine::new(request, &inputs, &plans)?;
        let mut sums = Sums::new(request, &plans, &formats);
        let all: Vec<usize> = (0..plans.len()).collect();
        merge_all(&engine, &all, &sink, |index, outcome| {
            sums.add(index, outcome, 0, progress);
        })?;
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((sums.report(), hashes))
    })?;
    pinned(request, hashes)?;
    Ok(report)
}

/// Checks inputs' hashes against those a merge.yaml pins.
pub(crate) fn pinned(
    request: &MergeRequest,
    hashes: Vec<(std::path::PathBuf, String)>,
) -> Result<BTreeMap<std::path::PathBuf, String>> {
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

/// How every output tensor is stored.
pub(crate) fn formats(request: &MergeRequest, inputs: &Inputs, plans: &[TensorPlan]) -> BTreeMap<String, Format> {
    let format = |plan: &TensorPlan| Format {
        dtype: request.dtype.unwrap_or_else(|| inputs.base_rows(plan).dtype()),
        rounding: request.rounding,
        seed: request.seed,
    };
    plans.iter().map(|plan| (plan.name.clone(), format(plan))).collect()
}
