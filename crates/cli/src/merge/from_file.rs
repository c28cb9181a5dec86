//! `synapse-merge FILE`: a mergekit YAML, or the merge.yaml of an earlier merge.

use std::path::{Path, PathBuf};

use synapse_merge::{
    Compat, Input, MERGE_FILE, MergeError, MergeFile, MergeRequest, Slice, SliceSource, SynapseBlock, Trim,
};

use crate::model_source::{ModelSource, folder_name};
use crate::prepared::{PreparedMerge, request_error};

/// Reads the file and finds its models. Without `--out`, the merge of a merge.yaml is repeated in its own folder.
///
/// # Errors
/// Every problem of the file and of what it names.
pub(crate) fn prepare(
    path: &Path,
    out: Option<PathBuf>,
    source: &ModelSource<'_>,
) -> Result<PreparedMerge, MergeError> {
    let text = std::fs::read_to_string(path).map_err(|error| request_error(format!("{}: {error}", path.display())))?;
    let file = MergeFile::parse(&text, path)?;
    let own_folder = path
        .parent()
        .filter(|_| file.synapse.is_some() && path.file_name().is_some_and(|name| name == MERGE_FILE));
    let out = match (out, own_folder) {
        (Some(out), _) => out,
        // The folder of a merge.yaml without a path is the working directory, which cannot be replaced.
        (None, Some(folder)) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => return Err(request_error("no output folder; pass --out DIR")),
    };
    let mut request = MergeRequest::new(file.method, PathBuf::new(), out);
    let mut problems = Vec::new();
    let bases = find_inputs(&file, source, &mut request, &mut problems);
    match base_reference(&file, &bases, &request) {
        Some(base) => {
            for (name, other) in bases.iter().filter(|(_, other)| *other != base) {
                problems.push(format!(
                    "{name}: its adapter is on {other}, but the base is {base}; adapters must share the base"
                ));
            }
            match source.model(&base, None) {
                Ok(path) => request.base = path,
                Err(problem) => problems.push(format!("base_model: {problem}")),
            }
        }
        None => problems.push(format!(
            "{}: `base_model` is missing; {} merges changes to it",
            path.display(),
            file.method
        )),
    }
    if !problems.is_empty() {
        return Err(MergeError::Request(problems));
    }
    match &file.synapse {
        Some(block) => pin(&mut request, block),
        // A file without the block means what mergekit means by it.
        None => {
            request.apply_compat(Compat::Mergekit);
            request.uses_base = file.base.is_some() && file.method != synapse_merge::Method::Linear;
        }
    }
    request.normalize = file.normalize.unwrap_or(request.normalize);
    request.lambda = file.lambda.unwrap_or(request.lambda);
    request.dtype = file.dtype;
    request.parameters = file.parameters.clone();
    request.chat_template = file.chat_template.clone();
    request.tokenizer = file.tokenizer.clone();
    if !file.method.parameters().contains(&"density") {
        request.input_trims.clear();
    }
    share_trim(&mut request);
    Ok(PreparedMerge {
        request,
        notes: file.warnings,
    })
}

/// What a synapse block pins.
fn pin(request: &mut MergeRequest, block: &SynapseBlock) {
    request.ties = block.ties;
    request.uses_base = block.uses_base;
    request.base_view = block.base_view;
    request.seed = block.seed;
    request.rounding = block.rounding;
    request.gguf = block.gguf;
    request.extract_rank = block.extract_rank;
    request.max_shard_bytes = block.shard_bytes;
    if let Some(hash) = &block.base_sha256 {
        request.pinned.insert(request.base.clone(), hash.clone());
    }
}

/// Finds the file's inputs and puts them into the request, with their trims and pinned hashes. Returns the base that
/// each adapter is written on, by the adapter's name.
fn find_inputs(
    file: &MergeFile,
    source: &ModelSource<'_>,
    request: &mut MergeRequest,
    problems: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut bases = Vec::new();
    let mut names = Vec::new();
    for (index, entry) in file.inputs.iter().enumerate() {
        let (model, adapter) = split_reference(&entry.model);
        let name = entry.name.clone().unwrap_or_else(|| {
            let last = folder_name(adapter.unwrap_or(model));
            let taken = request.inputs().any(|input| input.name == last);
            if taken {
                format!("{last}-{}", index + 1)
            } else {
                last.to_owned()
            }
        });
        names.push(name.clone());
        if !entry.parameters.is_empty() {
            request.input_parameters.insert(name.clone(), entry.parameters.clone());
        }
        let found = match adapter {
            Some(adapter) => {
                bases.push((name.clone(), model.to_owned()));
                Ok(PathBuf::from(adapter))
            }
            None => source.model(model, None),
        };
        match found {
            Ok(path) => {
                if let Some(hash) = &entry.sha256 {
                    request.pinned.insert(path.clone(), hash.clone());
                }
                request
                    .input_trims
                    .insert(name.clone(), entry.trim.unwrap_or(Trim::NONE));
                let list = if adapter.is_some() {
                    &mut request.adapters
                } else {
                    &mut request.models
                };
                list.push(Input {
                    name,
                    path,
                    weight: entry.weight,
                });
            }
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    for slice in &file.slices {
        request.slices.push(Slice {
            sources: slice
                .sources
                .iter()
                .map(|(input, layers, parameters)| SliceSource {
                    input: input.map(|index| names[index].clone()),
                    layers: layers.clone(),
                    parameters: parameters.clone(),
                })
                .collect(),
            parameters: slice.parameters.clone(),
        });
    }
    bases
}

/// The base as the file writes it: its own, else the first adapter's, else (where a linear merge of checkpoints only
/// needs somebody's config and tokenizer, and wherever else no base takes part) the first model.
fn base_reference(file: &MergeFile, bases: &[(String, String)], request: &MergeRequest) -> Option<String> {
    let of_adapter = || bases.first().map(|(_, base)| base.clone());
    let of_model = || {
        let first = request.models.first().filter(|_| !file.method.needs_base())?;
        Some(first.path.to_string_lossy().into_owned())
    };
    file.base.clone().or_else(of_adapter).or_else(of_model)
}

/// If all inputs have the same trim, it becomes the request's.
fn share_trim(request: &mut MergeRequest) {
    let mut trims = request.input_trims.values();
    if let Some(&first) = trims.next()
        && trims.all(|&trim| trim == first)
    {
        request.trim = first;
        request.input_trims.clear();
    }
}

/// `model` or `model+adapter`. A + may also be part of a folder's name, so what exists decides.
fn split_reference(text: &str) -> (&str, Option<&str>) {
    if Path::new(text).is_dir() {
        return (text, None);
    }
    let splits = || text.match_indices('+').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let both_exist = splits().find(|(model, adapter)| Path::new(model).is_dir() && Path::new(adapter).is_dir());
    match both_exist
        .or_else(|| splits().find(|(_, adapter)| Path::new(adapter).is_dir()))
        .or_else(|| splits().next())
    {
        Some((model, adapter)) => (model, Some(adapter)),
        None => (text, None),
    }
}
