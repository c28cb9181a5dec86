//! `synapse-merge` with no inputs: the specialists of a pipeline, from the folders their recipes publish.

use std::path::{Path, PathBuf};

use synapse_merge::{Input, MergeError, MergeRequest, Setting, Settings, Trim, parse_dtype};
use synapse_recipe::{Document, PipelinePlan};

use crate::arguments::Arguments;
use crate::model_source::{ModelSource, tidy};
use crate::request::{Prepared, base_of, other_bases, wrong};

/// The pipeline that a bare `synapse-merge` means.
const DEFAULT: &str = "pipelines/synapse-3b.yaml";

/// Reads the pipeline and finds exactly its recipes' outputs.
///
/// # Errors
/// Lists every output that is missing, and the bases where they disagree.
pub(crate) fn prepare(arguments: &Arguments, source: &ModelSource<'_>) -> Result<Prepared, MergeError> {
    let path = arguments.pipeline.clone().unwrap_or_else(|| PathBuf::from(DEFAULT));
    if arguments.pipeline.is_none() && !path.is_file() {
        return Err(wrong(format!(
            "nothing to merge: no --adapter, --model or YAML file is given, and {DEFAULT} is not here; \
             name a pipeline with --pipeline"
        )));
    }
    let plan = match synapse_recipe::load(&path, &[]).map_err(|problems| wrong(problems.to_string()))? {
        Document::Pipeline(plan) => plan,
        Document::Specialist(_) => {
            return Err(wrong(format!(
                "{} is a recipe; --pipeline wants a pipeline",
                path.display()
            )));
        }
    };
    let mut notes = vec![format!("{}: {} specialists", path.display(), plan.specialists.len())];
    let mut problems = Vec::new();
    let mut adapters = Vec::new();
    let mut models = Vec::new();
    for specialist in &plan.specialists {
        let folder = tidy(&specialist.output);
        let weight = plan.merge.weights.get(&specialist.name).copied().unwrap_or(1.0);
        let input = Input {
            name: specialist.name.clone(),
            path: folder.clone(),
            weight,
        };
        let found = format!("  {}: {} (weight {weight})", specialist.name, folder.display());
        if folder.join("adapter_config.json").is_file() {
            adapters.push(input);
        } else if folder.join("config.json").is_file() {
            models.push(input);
        } else {
            let recipe = tidy(&specialist.file);
            problems.push(format!(
                "{}: no adapter in {}; train it with `synapse-train run {}`",
                specialist.name,
                folder.display(),
                recipe.display()
            ));
            continue;
        }
        notes.push(found);
    }
    let base = if let Some(base) = &arguments.base {
        source
            .model(base, None)
            .map_err(|problem| vec![format!("base: {problem}")])
    } else if adapters.is_empty() && problems.is_empty() {
        Err(vec![
            "the specialists are full checkpoints, which name no base; name it with --base".to_owned(),
        ])
    } else {
        base_of(&adapters, source)
    };
    match base {
        Ok(base) if problems.is_empty() => {
            if arguments.base.is_some() {
                notes.extend(other_bases(&adapters, &base));
            }
            let mut request = configure(arguments, &plan, &path, base)?;
            (request.adapters, request.models) = (adapters, models);
            Ok(Prepared { request, notes })
        }
        Ok(_) => Err(MergeError::Request(problems)),
        Err(more) => {
            problems.extend(more);
            Err(MergeError::Request(problems))
        }
    }
}

/// The pipeline's merge and export sections as a request without inputs.
fn configure(
    arguments: &Arguments,
    plan: &PipelinePlan,
    path: &Path,
    base: PathBuf,
) -> Result<MergeRequest, MergeError> {
    let at = |key: &str| {
        let path = path.display().to_string();
        let key = key.to_owned();
        move |problem: String| wrong(format!("{path}: {key}: {problem}"))
    };
    let method = match arguments.method {
        Some(method) => method,
        None => plan.merge.method.parse().map_err(at("merge.method"))?,
    };
    let out = arguments.out.clone().unwrap_or_else(|| tidy(&plan.output));
    let request = MergeRequest::new(method, base, out);
    let trim = Trim::from_f64(plan.merge.trim).map_err(at("merge.trim"))?;
    let known = method.parameters();
    let mut parameters = Settings::default();
    for (name, &value) in &plan.merge.parameters {
        if !known.contains(&name.as_str()) {
            let problem = format!("means nothing to {method} (it knows: {})", known.join(", "));
            return Err(at(&format!("merge.parameters.{name}"))(problem));
        }
        parameters.set(name, Setting::number(value));
    }
    Ok(MergeRequest {
        trim: if known.contains(&"density") { trim } else { request.trim },
        parameters,
        seed: plan.merge.seed,
        sign: plan.merge.sign.parse().map_err(at("merge.sign"))?,
        lambda: plan.merge.lambda,
        dtype: Some(parse_dtype(&plan.export.dtype).map_err(at("export.dtype"))?),
        max_shard_bytes: plan.export.shard_size,
        ..request
    })
}
