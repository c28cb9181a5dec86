//! `synapse-merge` with no inputs: the specialists of a pipeline, from the folders their recipes publish.

use std::path::PathBuf;

use synapse_merge::MergeError;
use synapse_pipeline::{merge_request, missing_adapters};
use synapse_recipe::Plan;

use crate::adapter_bases::{base_of, other_bases};
use crate::arguments::Arguments;
use crate::model_source::{ModelSource, tidy};
use crate::prepared::{PreparedMerge, request_error};

/// The pipeline that a bare `synapse-merge` means.
const DEFAULT: &str = "pipelines/synapse-3b.yaml";

/// Reads the pipeline and finds exactly its recipes' outputs.
///
/// # Errors
/// Lists every output that is missing, and the bases where they disagree.
pub(crate) fn prepare(arguments: &Arguments, source: &ModelSource<'_>) -> Result<PreparedMerge, MergeError> {
    let path = arguments.pipeline.clone().unwrap_or_else(|| PathBuf::from(DEFAULT));
    if arguments.pipeline.is_none() && !path.is_file() {
        return Err(request_error(format!(
            "nothing to merge: no --adapter, --model or YAML file is given, and {DEFAULT} is not here; \
             name a pipeline with --pipeline"
        )));
    }
    let plan = match synapse_recipe::load(&path, &[]).map_err(|problems| request_error(problems.to_string()))? {
        Plan::Pipeline(plan) => plan,
        Plan::Specialist(_) => {
            return Err(request_error(format!(
                "{} is a recipe; --pipeline takes a pipeline",
                path.display()
            )));
        }
    };
    let mut notes = vec![format!("{}: {} specialists", path.display(), plan.specialists.len())];
    let mut problems = missing_adapters(&plan);
    let out = arguments.out.clone().unwrap_or_else(|| tidy(&plan.output));
    let mut request = merge_request(&plan, arguments.method, PathBuf::new(), out).map_err(|error| match error {
        MergeError::Request(problems) => {
            let located = problems.iter().map(|problem| format!("{}: {problem}", path.display()));
            MergeError::Request(located.collect())
        }
        other => other,
    })?;
    for adapter in &mut request.adapters {
        adapter.path = tidy(&adapter.path);
        notes.push(format!(
            "  {}: {} (weight {})",
            adapter.name,
            adapter.path.display(),
            adapter.weight
        ));
    }
    let base = match &arguments.base {
        Some(base) => source
            .model(base, None)
            .map_err(|problem| vec![format!("base: {problem}")]),
        None => {
            let published = request.adapters.iter().filter(|adapter| adapter.path.is_dir());
            base_of(&published.cloned().collect::<Vec<_>>(), source)
        }
    };
    match base {
        Ok(base) if problems.is_empty() => {
            if arguments.base.is_some() {
                notes.extend(other_bases(&request.adapters, &base));
            }
            request.base = base;
            Ok(PreparedMerge { request, notes })
        }
        Ok(_) => Err(MergeError::Request(problems)),
        Err(more) => {
            problems.extend(more);
            Err(MergeError::Request(problems))
        }
    }
}
