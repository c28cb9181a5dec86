//! The merge stage: the adapters of a pipeline become one model in the run's folder.

use std::path::PathBuf;

use synapse_merge::{MergeReport, MergeRequest};
use synapse_recipe::Stage;

use crate::{
    PipelineError, ProgressUnit, merge_request, record::fingerprint, run_dir::RunDir, trained_pipeline::TrainedPipeline,
};

/// The merge as the pipeline asks for it.
pub(crate) fn request(pipeline: &TrainedPipeline<'_>) -> Result<MergeRequest, PipelineError> {
    let mut request = merge_request(
        pipeline.plan,
        None,
        &pipeline.base,
        RunDir::new(&pipeline.plan.run_dir).merged(),
    )?;
    if let Some((specialist, _)) = pipeline.specialists.first()
        && let synapse_recipe::Base::Hub { id, .. } = &specialist.base
    {
        request.aliases.insert(pipeline.base.clone(), id.clone());
    }
    Ok(request)
}

/// The merged folder and what the merge did to each tensor.
pub(crate) fn merge(pipeline: &TrainedPipeline<'_>) -> Result<(PathBuf, MergeReport), PipelineError> {
    let request = request(pipeline)?;
    let parts = (
        &pipeline.plan.merge,
        &pipeline.plan.export.dtype,
        pipeline.plan.export.shard_size,
        pipeline.hashes(),
        &pipeline.base_hash,
    );
    let stage = pipeline.stage(Stage::Merge, fingerprint(Stage::Merge, &parts)?);
    let report = stage.execute(
        |_: &MergeReport| request.out.join("config.json").is_file(),
        || {
            Ok(synapse_merge::merge(&request, &|progress| {
                pipeline.run.reporter.progress(
                    "tensors merged",
                    ProgressUnit::Items,
                    progress.done as u64,
                    Some(progress.total as u64),
                );
            })?)
        },
        |report| {
            format!(
                "{} of {} adapters; {} tensors changed",
                pipeline.plan.merge.method,
                pipeline.specialists.len(),
                report.tensors.len()
            )
        },
    )?;
    Ok((request.out, report))
}
