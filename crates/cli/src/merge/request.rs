//! From arguments to a request: inputs come from flags, a YAML file or a pipeline, and flags override the others.

use std::path::{Path, PathBuf};

use synapse_merge::{Input, MERGE_FILE, MergeError, MergeRequest, Method};

use crate::adapter_bases::{base_of, other_bases};
use crate::arguments::{Arguments, Format, WeightedInput};
use crate::model_source::ModelSource;
use crate::prepared::PreparedMerge;
use crate::{from_file, pipeline};

/// Turns the arguments into a request.
///
/// # Errors
/// [`MergeError::Request`] with every problem found on the way.
pub(crate) fn prepare(arguments: &Arguments, source: &ModelSource<'_>) -> Result<PreparedMerge, MergeError> {
    let mut prepared = if let Some(file) = &arguments.file {
        from_file::prepare(file, arguments.out.clone(), source)?
    } else if arguments.adapters.is_empty() && arguments.models.is_empty() {
        pipeline::prepare(arguments, source)?
    } else {
        from_flags(arguments, source)?
    };
    override_with(arguments, &mut prepared.request)?;
    prepared.request.aliases = source.aliases();
    Ok(prepared)
}

/// The request of a merged folder's merge.yaml.
///
/// # Errors
/// The folder holds none, or something in it cannot be found.
pub(crate) fn of_folder(dir: &Path, source: &ModelSource<'_>) -> Result<PreparedMerge, MergeError> {
    let mut prepared = from_file::prepare(&dir.join(MERGE_FILE), Some(dir.to_owned()), source)?;
    prepared.request.aliases = source.aliases();
    Ok(prepared)
}

/// Flags that set one field each, over a file, a pipeline or a preset.
fn override_with(arguments: &Arguments, request: &mut MergeRequest) -> Result<(), MergeError> {
    let method = request.method;
    let (trims, elects_signs) = (method.parameters().contains(&"density"), method.elects_signs());
    let flags = [
        ("--trim", arguments.trim.is_some(), trims, "a method that sparsifies"),
        (
            "--density",
            arguments.density.is_some(),
            trims,
            "a method that sparsifies",
        ),
        (
            "--rescale",
            arguments.rescale.is_some(),
            trims,
            "a method that sparsifies",
        ),
        (
            "--sign",
            arguments.sign.is_some(),
            elects_signs,
            "a method that elects signs",
        ),
        (
            "--zero-sign",
            arguments.tie_break.is_some(),
            elects_signs,
            "a method that elects signs",
        ),
        (
            "--weighted-vote",
            arguments.weighted_vote.is_some(),
            elects_signs,
            "a method that elects signs",
        ),
        (
            "--divide-by",
            arguments.divide_by.is_some(),
            elects_signs,
            "a method that elects signs",
        ),
        (
            "--trim-scope",
            arguments.trim_scope.is_some(),
            method == Method::Ties,
            "ties",
        ),
        (
            "--selection",
            arguments.selection.is_some(),
            method == Method::Ties,
            "ties",
        ),
    ];
    let mut problems: Vec<String> = flags
        .iter()
        .filter(|(_, given, fits, _)| *given && !fits)
        .map(|(flag, _, _, owner)| format!("{method} has no {flag}; it belongs to {owner}"))
        .collect();
    let known = method.parameters();
    for (name, _) in arguments
        .parameters
        .iter()
        .filter(|(name, _)| !known.contains(&name.as_str()))
    {
        problems.push(format!(
            "--set {name}: {method} has no parameter `{name}`; it takes {}",
            known.join(", ")
        ));
    }
    if !problems.is_empty() {
        return Err(MergeError::Request(problems));
    }
    if let Some(preset) = arguments.compat {
        request.apply_compat(preset);
    }
    if let Some(trim) = arguments.trim.or(arguments.density) {
        request.trim = trim;
        request.input_trims.clear();
    }
    request.ties.sign = arguments.sign.unwrap_or(request.ties.sign);
    request.ties.tie_break = arguments.tie_break.unwrap_or(request.ties.tie_break);
    request.ties.weighted_vote = arguments.weighted_vote.unwrap_or(request.ties.weighted_vote);
    request.ties.divide_by = arguments.divide_by.unwrap_or(request.ties.divide_by);
    request.ties.scope = arguments.trim_scope.unwrap_or(request.ties.scope);
    request.ties.selection = arguments.selection.unwrap_or(request.ties.selection);
    request.ties.rescale = arguments.rescale.or(request.ties.rescale);
    request.lambda = arguments.lambda.unwrap_or(request.lambda);
    request.normalize = arguments.normalize.unwrap_or(request.normalize);
    request.seed = arguments.seed.unwrap_or(request.seed);
    request.rounding = arguments.rounding.unwrap_or(request.rounding);
    request.base_view = arguments.base_view.unwrap_or(request.base_view);
    if arguments.quant.is_some() {
        request.gguf = arguments.quant;
        request.dtype = None;
    }
    if arguments.format == Some(Format::Delta) {
        if arguments.quant.is_some() || arguments.out_shard_size.is_some() {
            let problem = "--format delta takes neither --quant nor --out-shard-size";
            return Err(MergeError::Request(vec![problem.to_owned()]));
        }
        (request.sparse, request.gguf) = (true, None);
    }
    request.extract_rank = arguments.extract_lora.or(request.extract_rank);
    request.dtype = arguments.dtype.or(request.dtype);
    request.max_shard_bytes = arguments.out_shard_size.unwrap_or(request.max_shard_bytes);
    if let Some(bytes) = arguments.memory {
        request.tile_budget = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    for (name, setting) in &arguments.parameters {
        request.parameters.set(name, setting.clone());
    }
    Ok(())
}

/// `--base`, `--adapter` and `--model`.
fn from_flags(arguments: &Arguments, source: &ModelSource<'_>) -> Result<PreparedMerge, MergeError> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let adapters: Vec<Input> = arguments
        .adapters
        .iter()
        .map(|input| named(input, PathBuf::from(&input.location)))
        .collect();
    let mut models = Vec::new();
    for input in &arguments.models {
        match source.model(&input.location, None) {
            Ok(path) => models.push(named(input, path)),
            Err(problem) => problems.push(format!("{}: {problem}", input.name)),
        }
    }
    let method = arguments.method.unwrap_or(Method::Ties);
    let base = match (&arguments.base, &adapters[..], &models[..]) {
        (Some(base), ..) => source
            .model(base, None)
            .map_err(|problem| vec![format!("base: {problem}")]),
        (None, [], [first, ..]) if !method.needs_base() => Ok(first.path.clone()),
        (None, [], _) => Err(vec![format!("{method} merges changes to a base; pass --base")]),
        (None, adapters, _) => base_of(adapters, source),
    };
    let base = base.unwrap_or_else(|found| {
        problems.extend(found);
        PathBuf::new()
    });
    if arguments.out.is_none() {
        problems.push("no output folder; pass --out DIR".to_owned());
    }
    if !problems.is_empty() {
        return Err(MergeError::Request(problems));
    }
    if arguments.base.is_some() {
        notes.extend(other_bases(&adapters, &base));
    }
    let out = arguments.out.clone().unwrap_or_default();
    let mut request = MergeRequest::new(method, base, out);
    // Linear counts its inputs only; elsewhere a base that is named takes part.
    request.uses_base |= arguments.base.is_some() && method != Method::Linear;
    (request.adapters, request.models) = (adapters, models);
    Ok(PreparedMerge { request, notes })
}

fn named(input: &WeightedInput, path: PathBuf) -> Input {
    Input {
        name: input.name.clone(),
        path,
        weight: input.weight,
    }
}
