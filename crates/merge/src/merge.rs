//! The merge itself: tensors go from the inputs into a staged folder, which is published whole; into one GGUF file; or,
//! to verify a folder, into a comparison.

mod folder;
mod job;
mod report_builder;

use synapse_checkpoint::{DType, ModelFolder, Staged, write_atomic};
use synapse_export::{GgufExport, GgufTarget, GgufType};

use crate::heat_map::HEAT_MAP_FILE;
use crate::inputs::Inputs;
use crate::parallel::merge_all;
use crate::plan::plan;
use crate::report::REPORT_FILE;
use crate::sink::{CompareSink, GgufSink, Sink, formats};
use crate::tensor_merger::TensorMerger;
use crate::{MergeError, MergeReport, MergeRequest, Result, auxiliary_files, card, heat_map, merge_file};
use folder::{write_delta, write_tensors};
pub use job::MergeProgress;
pub(crate) use job::check_pinned;
use job::{MergeJob, OnProgress};
use report_builder::ReportBuilder;

/// Merges as requested and publishes a model folder at `request.out`: weights, configuration, tokenizer, merge.yaml
/// (which makes the same bytes again) and merge_report.json. Tensors are merged in parallel as far as their changes fit
/// into `request.tile_budget`.
///
/// # Errors
/// [`MergeError::Request`] lists everything wrong with the request and its folders before anything is written;
/// every other error leaves the output as it was.
pub fn merge(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, &inputs.config);
    let formats = formats(request, &inputs, &plans);
    let job = MergeJob {
        request,
        inputs: &inputs,
        plans: &plans,
        formats: &formats,
    };
    if let Some(gguf_type) = request.gguf {
        return merge_gguf(&job, gguf_type, progress);
    }
    let staged = if request.sparse {
        Staged::beside(&request.out)?
    } else {
        Staged::resume(&request.out)?
    };
    let ((report, delta), hashes) = job.with_input_hashes(|| {
        if request.sparse {
            let (report, delta) = write_delta(&job, staged.path(), progress)?;
            Ok((report, Some(delta)))
        } else {
            Ok((write_tensors(&job, staged.path(), progress)?, None))
        }
    })?;
    if let Some(delta) = delta {
        delta.describe(request, &hashes, staged.path())?;
    }
    auxiliary_files::write(&inputs, request, staged.path())?;
    let stored = inputs.base.names().find_map(|name| Some(inputs.base.info(name)?.dtype));
    let text = merge_file::write(request, &hashes, stored.unwrap_or(DType::F32));
    write_atomic(&staged.path().join(merge_file::FILE), text.as_bytes())?;
    write_atomic(&staged.path().join(REPORT_FILE), &report.to_json())?;
    let picture = heat_map::draw(&report);
    if let Some(picture) = &picture {
        write_atomic(&staged.path().join(HEAT_MAP_FILE), picture.as_bytes())?;
    }
    let card = card::card(request, &report, picture.is_some())?;
    write_atomic(&staged.path().join("README.md"), card.as_bytes())?;
    staged.publish()?;
    Ok(report)
}

/// Merges all tensors into a sink.
fn merge_into(job: &MergeJob<'_>, sink: &dyn Sink, progress: OnProgress<'_>) -> Result<MergeReport> {
    let merger = TensorMerger::new(job.request, job.inputs, job.plans)?;
    let mut report = ReportBuilder::new(job);
    let all: Vec<usize> = (0..job.plans.len()).collect();
    merge_all(&merger, &all, sink, |index, result| {
        report.add(index, result, 0, progress);
    })?;
    Ok(report.build())
}

/// Streams a merge into one GGUF file. An interrupted run leaves nothing and starts from the beginning.
fn merge_gguf(job: &MergeJob<'_>, gguf_type: GgufType, progress: OnProgress<'_>) -> Result<MergeReport> {
    let request = job.request;
    let name = request.out.file_stem().unwrap_or_default().to_string_lossy();
    if let Some(parent) = request.out.parent() {
        std::fs::create_dir_all(parent).map_err(MergeError::file("create", parent))?;
    }
    let export = GgufExport {
        model: &job.inputs.base,
        config: &job.inputs.config,
        gguf_type,
        name: &name,
        license: None,
    };
    let target = GgufTarget::create(&export, &request.out)?;
    let (report, hashes) = job.with_input_hashes(|| merge_into(job, &GgufSink(&target), progress))?;
    target.publish()?;
    let beside = |ending: &str| request.out.with_extension(ending);
    let text = merge_file::write(request, &hashes, DType::F32);
    write_atomic(&beside(merge_file::FILE), text.as_bytes())?;
    write_atomic(&beside(REPORT_FILE), &report.to_json())?;
    Ok(report)
}

/// Merges again without writing anything, and compares every value with the folder at `request.out`.
///
/// # Errors
/// As [`merge`], and [`MergeError::Differs`] at the first tensor that differs from the merge.
pub fn verify(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, &inputs.config);
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
    let job = MergeJob {
        request,
        inputs: &inputs,
        plans: &plans,
        formats: &formats,
    };
    let sink = CompareSink {
        folder: &folder,
        formats: &formats,
    };
    let (report, _) = job.with_input_hashes(|| merge_into(&job, &sink, progress))?;
    Ok(report)
}
