//! A pipeline's merge in the terms of the merge crate: its adapters, and the request that merges them.
//!
//! What this is not: the run of a pipeline. Programs that merge or serve what a pipeline has trained start here, too.

use std::path::{Path, PathBuf};

use synapse_merge::{AdapterInput, MergeError, MergeRequest, Method, Setting, Trim};
use synapse_recipe::PipelinePlan;

use crate::translate;

/// One message for every adapter that its recipe has not published yet, with the command that trains it.
pub fn missing_adapters(plan: &PipelinePlan) -> Vec<String> {
    plan.specialists
        .iter()
        .filter(|specialist| !is_adapter(&specialist.output))
        .map(|specialist| {
            let (output, recipe) = (specialist.output.display(), specialist.file.display());
            format!(
                "{}: no adapter in {output}; train it with `synapse-train run {recipe}`",
                specialist.name
            )
        })
        .collect()
}

fn is_adapter(folder: &Path) -> bool {
    folder.join("adapter_config.json").is_file()
}

/// The merge that a pipeline asks for, of its adapters over the folder `base`, to be written to `out`. `method`
/// replaces the pipeline's own.
///
/// # Errors
/// [`MergeError::Request`] for a parameter that the method does not have, or a value that it does not take.
pub fn merge_request(
    plan: &PipelinePlan,
    method: Option<Method>,
    base: impl Into<PathBuf>,
    out: impl Into<PathBuf>,
) -> Result<MergeRequest, MergeError> {
    let at = |key: String| move |problem: String| MergeError::Request(vec![format!("{key}: {problem}")]);
    let merge = &plan.merge;
    let method = method.unwrap_or_else(|| translate::merge_method(merge.method));
    let mut request = MergeRequest::new(method, base, out);
    let known = method.parameters();
    if known.contains(&"density") {
        request.trim = Trim::from_f64(merge.trim).map_err(at("merge.trim".to_owned()))?;
    }
    for (name, &value) in &merge.parameters {
        if !known.contains(&name.as_str()) {
            let problem = format!("{method} has no parameter `{name}`; it takes {}", known.join(", "));
            return Err(at(format!("merge.parameters.{name}"))(problem));
        }
        request.parameters.set(name, Setting::number(value));
    }
    request.seed = merge.seed;
    request.ties.sign = translate::sign(merge.sign);
    request.lambda = merge.lambda;
    request.dtype = Some(translate::dtype(plan.export.dtype));
    request.max_shard_bytes = plan.export.shard_size;
    request.adapters = plan
        .specialists
        .iter()
        .map(|specialist| AdapterInput {
            name: specialist.name.clone(),
            path: specialist.output.clone(),
            weight: merge.weights.get(&specialist.name).copied().unwrap_or(1.0),
        })
        .collect();
    Ok(request)
}
