//! From arguments to a request: inputs come from flags, a YAML file or a pipeline, and flags win over what those say.

use std::path::{Path, PathBuf};

use synapse_merge::{Input, MERGE_FILE, MergeError, MergeRequest, Method, PeftAdapter};

use crate::arguments::{Arguments, Format, WeightedInput};
use crate::from_file;
use crate::model_source::{ModelSource, tidy};
use crate::pipeline;

/// A request, and what to tell the user before it runs.
pub(crate) struct Prepared {
    pub(crate) request: MergeRequest,
    pub(crate) notes: Vec<String>,
}

/// Turns what the user typed into a request.
///
/// # Errors
/// [`MergeError::Request`] with every problem found on the way.
pub(crate) fn prepare(arguments: &Arguments, source: &ModelSource<'_>) -> Result<Prepared, MergeError> {
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

/// The request that a merged folder's merge.yaml stands for.
///
/// # Errors
/// The folder holds none, or something in it cannot be found.
pub(crate) fn of_folder(dir: &Path, source: &ModelSource<'_>) -> Result<Prepared, MergeError> {
    let mut prepared = from_file::prepare(&dir.join(MERGE_FILE), Some(dir.to_owned()), source)?;
    prepared.request.aliases = source.aliases();
    Ok(prepared)
}

/// One problem.
pub(crate) fn wrong(problem: impl Into<String>) -> MergeError {
    MergeError::Request(vec![problem.into()])
}

/// Flags that set one field each, over what a file, a pipeline or a peer's habits say.
fn override_with(arguments: &Arguments, request: &mut MergeRequest) -> Result<(), MergeError> {
    let method = request.method;
    let (trims, elects) = (method.parameters().contains(&"density"), method.elects());
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
        ("--sign", arguments.sign.is_some(), elects, "a method that elects signs"),
        (
            "--zero-sign",
            arguments.zero_sign.is_some(),
            elects,
            "a method that elects signs",
        ),
        (
            "--weighted-vote",
            arguments.weighted_vote.is_some(),
            elects,
            "a method that elects signs",
        ),
        (
            "--divide-by",
            arguments.divide_by.is_some(),
            elects,
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
        .map(|(flag, _, _, owner)| format!("{flag} means nothing to {method}; it belongs to {owner}"))
        .collect();
    let known = method.parameters();
    for (name, _) in arguments
        .parameters
        .iter()
        .filter(|(name, _)| !known.contains(&name.as_str()))
    {
        problems.push(format!(
            "--set {name} means nothing to {method} (it knows: {})",
            known.join(", ")
        ));
    }
    if !problems.is_empty() {
        return Err(MergeError::Request(problems));
    }
    if let Some(peer) = arguments.compat {
        request.follow(peer);
    }
    if let Some(trim) = arguments.trim.or(arguments.density) {
        request.trim = trim;
        request.input_trims.clear();
    }
    request.sign = arguments.sign.unwrap_or(request.sign);
    request.zero_sign = arguments.zero_sign.unwrap_or(request.zero_sign);
    request.election.weighted = arguments.weighted_vote.unwrap_or(request.election.weighted);
    request.election.divide_by = arguments.divide_by.unwrap_or(request.election.divide_by);
    request.scope = arguments.trim_scope.unwrap_or(request.scope);
    request.selection = arguments.selection.unwrap_or(request.selection);
    request.rescale = arguments.rescale.or(request.rescale);
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
            let problem = "--quant and --out-shard-size mean nothing to --format delta";
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
fn from_flags(arguments: &Arguments, source: &ModelSource<'_>) -> Result<Prepared, MergeError> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let adapters: Vec<Input> = arguments
        .adapters
        .iter()
        .map(|input| named(input, PathBuf::from(&input.place)))
        .collect();
    let mut models = Vec::new();
    for input in &arguments.models {
        match source.model(&input.place, None) {
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
        (None, [], _) => Err(vec![format!(
            "{method} measures changes to a base; name it with --base"
        )]),
        (None, adapters, _) => base_of(adapters, source),
    };
    let base = base.unwrap_or_else(|found| {
        problems.extend(found);
        PathBuf::new()
    });
    if arguments.out.is_none() {
        problems.push("where to? name the output folder with --out".to_owned());
    }
    if !problems.is_empty() {
        return Err(MergeError::Request(problems));
    }
    if arguments.base.is_some() {
        notes.extend(other_bases(&adapters, &base));
    }
    let out = arguments.out.clone().unwrap_or_default();
    let request = MergeRequest::new(method, base, out);
    Ok(Prepared {
        request: MergeRequest {
            // Linear counts its inputs only; elsewhere a base that is named takes part.
            based: request.based || arguments.base.is_some() && method != Method::Linear,
            adapters,
            models,
            ..request
        },
        notes,
    })
}

fn named(input: &WeightedInput, path: PathBuf) -> Input {
    Input {
        name: input.name.clone(),
        path,
        weight: input.weight,
    }
}

/// The base that all adapters name in their adapter_config.json.
///
/// # Errors
/// Every adapter that cannot be read or names none, or all names where they disagree.
pub(crate) fn base_of(adapters: &[Input], source: &ModelSource<'_>) -> Result<PathBuf, Vec<String>> {
    let mut problems = Vec::new();
    let mut named = Vec::new();
    for input in adapters {
        match PeftAdapter::open(&input.path) {
            Err(error) => problems.push(format!("{}: {error}", input.name)),
            Ok(folder) => match folder.config().base_model_name_or_path.clone() {
                Some(base) if !base.is_empty() => {
                    named.push((input, base, folder.config().revision.clone()));
                }
                _ => problems.push(format!(
                    "{}: its adapter_config.json names no base; name it with --base",
                    input.name
                )),
            },
        }
    }
    // The same folder may be written in two ways.
    let same = |(_, base, revision): &(&Input, String, Option<String>)| {
        (
            Path::new(base).canonicalize().unwrap_or_else(|_| PathBuf::from(base)),
            revision.clone(),
        )
    };
    if named.windows(2).any(|pair| same(&pair[0]) != same(&pair[1])) {
        problems.push("the adapters were trained on different bases:".to_owned());
        for (input, base, revision) in &named {
            let revision = revision
                .as_ref()
                .map(|revision| format!(" at {revision}"))
                .unwrap_or_default();
            problems.push(format!("  {}: {base}{revision} ({})", input.name, input.path.display()));
        }
    }
    match named.first() {
        Some((_, base, revision)) if problems.is_empty() => {
            // An absolute path under the working directory reads, and moves, better as a relative one.
            let base = tidy(Path::new(base)).to_string_lossy().into_owned();
            source.model(&base, revision.as_deref()).map_err(|problem| {
                vec![format!(
                    "the base that the adapters name: {problem}; name it with --base if it has moved"
                )]
            })
        }
        _ => Err(problems),
    }
}

/// Adapters that name another base than the one they are merged onto.
pub(crate) fn other_bases(adapters: &[Input], base: &Path) -> Vec<String> {
    let differs = |input: &Input| {
        let folder = PeftAdapter::open(&input.path).ok()?;
        let named = folder.config().base_model_name_or_path.clone()?;
        let other = Path::new(&named).canonicalize().ok()?;
        (base.canonicalize().ok()? != other).then(|| {
            format!(
                "{} was trained on {named}, and is merged onto {}",
                input.name,
                base.display()
            )
        })
    };
    adapters.iter().filter_map(differs).collect()
}

/// The last part of a path or hub id.
pub(crate) fn folder_name(place: &str) -> &str {
    place.trim_end_matches('/').rsplit('/').next().unwrap_or(place)
}
