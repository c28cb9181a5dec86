//! merge.yaml: a merge as a file that reproduces it.
//!
//! The file is mergekit's YAML plus a `synapse:` block with what mergekit's keys cannot express: the trim as a decimal,
//! the election, output dtype and shards, and the sha256 of every input. [`MergeFile::parse`] reads both kinds of file
//! (mergekit.rs).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use synapse_checkpoint::DType;
use synapse_export::GgufType;

use crate::options::{BaseView, Rounding, TiesOptions};
use crate::request::torch_name;
use crate::settings::Settings;
use crate::{Input, MergeRequest, Method, Trim};

/// Name of the file in the output folder.
pub const FILE: &str = "merge.yaml";

/// A merge as a mergekit or merge.yaml file describes it. Models are still text: folders, hub ids, or either with
/// `+adapter` behind it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MergeFile {
    /// `merge_method`.
    pub method: Method,
    /// `base_model`, or the synapse block's base.
    pub base: Option<String>,
    /// The models, without one that only repeats the base; of slices, each once.
    pub inputs: Vec<FileInput>,
    /// `slices`, if there are any.
    pub slices: Vec<FileSlice>,
    /// `parameters`, beside those below.
    pub parameters: Settings,
    /// `parameters.normalize`.
    pub normalize: Option<bool>,
    /// `parameters.lambda`.
    pub lambda: Option<f64>,
    /// The output's dtype: `out_dtype`, else `dtype`; the synapse block's when there is one.
    pub dtype: Option<DType>,
    /// `tokenizer_source` or `tokenizer.source`.
    pub tokenizer: Option<String>,
    /// `chat_template`.
    pub chat_template: Option<String>,
    /// Present when Synapse wrote the file.
    pub synapse: Option<SynapseBlock>,
    /// Warnings: unknown keys, and keys without effect.
    pub warnings: Vec<String>,
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct FileInput {
    /// Synapse's name for it, when the file has a synapse block.
    pub name: Option<String>,
    /// `path` or `path+adapter`.
    pub model: String,
    /// `weight`; 1 if it is missing, which mergekit refuses.
    pub weight: f64,
    /// `density`, turned into a trim.
    pub trim: Option<Trim>,
    /// Its other parameters, gradients and filters.
    pub parameters: Settings,
    /// The required sha256 of the folder's contents.
    pub sha256: Option<String>,
}

/// One slice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSlice {
    /// Its sources: an index into [`MergeFile::inputs`] or `None` for the base, the layers, and the parameters.
    pub sources: Vec<(Option<usize>, Range<usize>, Settings)>,
    /// Parameters of the slice.
    pub parameters: Settings,
}

/// What the `synapse:` block pins.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SynapseBlock {
    /// How TIES and its relatives select entries and elect signs.
    pub ties: TiesOptions,
    /// The base takes part.
    pub uses_base: bool,
    /// The base that changes are added to.
    pub base_view: BaseView,
    /// Seed of all random numbers.
    pub seed: u64,
    /// How values are rounded.
    pub rounding: Rounding,
    /// An adapter of this rank instead of a folder.
    pub extract_rank: Option<usize>,
    /// One GGUF file of this type instead of a folder.
    pub gguf: Option<GgufType>,
    /// Largest size of an output file in bytes.
    pub shard_bytes: u64,
    /// The required sha256 of the base's contents.
    pub base_sha256: Option<String>,
}

/// The merge.yaml of a request. `hashes` are the inputs' contents by folder, `stored` is the base's own dtype.
pub(crate) fn write(request: &MergeRequest, hashes: &BTreeMap<PathBuf, String>, stored: DType) -> String {
    let mut text =
        String::from("# Made by synapse-merge. Running `synapse-merge` on this file makes the same bytes again.\n");
    // Writing to a String cannot fail.
    let _ = mergekit_part(&mut text, request, stored);
    let _ = synapse_part(&mut text, request, hashes);
    text
}

/// Parameters as a flow mapping.
fn flow<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<String> = entries.map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

fn all(settings: &Settings) -> impl Iterator<Item = (&str, String)> {
    settings.iter().map(|(name, setting)| (name, setting.yaml()))
}

/// One input's parameters; weight and density first.
fn input_parameters(request: &MergeRequest, input: &Input) -> String {
    let own = request.input_parameters.get(&input.name);
    let has = |name: &str| own.is_some_and(|own| own.get(name).is_some());
    let mut entries = Vec::new();
    if request.method.uses_weights() && !has("weight") {
        entries.push(("weight", format!("{:?}", input.weight)));
    }
    if request.method.sparsity().is_some() && !has("density") {
        entries.push(("density", request.trim_of(&input.name).density()));
    }
    flow(entries.into_iter().chain(own.into_iter().flat_map(all)))
}

fn mergekit_part(text: &mut String, request: &MergeRequest, stored: DType) -> std::fmt::Result {
    let base = request.reference_of(&request.base);
    writeln!(text, "merge_method: {}", request.method)?;
    // mergekit counts a linear merge's base_model as one more input.
    if request.uses_base && request.method != Method::Linear {
        writeln!(text, "base_model: {}", quoted(&base))?;
    }
    let is_adapter = |input: &Input| request.adapters.iter().any(|adapter| adapter.name == input.name);
    let model = |input: &Input| match is_adapter(input) {
        true => format!("{base}+{}", request.reference_of(&input.path)),
        false => request.reference_of(&input.path),
    };
    if request.slices.is_empty() {
        writeln!(text, "models:")?;
        for input in request.inputs() {
            writeln!(text, "  - model: {}", quoted(&model(input)))?;
            let parameters = input_parameters(request, input);
            if parameters != "{}" {
                writeln!(text, "    parameters: {parameters}")?;
            }
        }
    } else {
        writeln!(text, "slices:")?;
        for slice in &request.slices {
            writeln!(text, "  - sources:")?;
            for source in &slice.sources {
                let input = source
                    .input
                    .as_ref()
                    .and_then(|name| request.inputs().find(|input| input.name == *name));
                let reference_of = input.map_or_else(|| base.clone(), &model);
                writeln!(
                    text,
                    "      - {{model: {}, layer_range: [{}, {}], parameters: {}}}",
                    quoted(&reference_of),
                    source.layers.start,
                    source.layers.end,
                    flow(all(&source.parameters))
                )?;
            }
            if !slice.parameters.is_empty() {
                writeln!(text, "    parameters: {}", flow(all(&slice.parameters)))?;
            }
        }
    }
    let method = request.method;
    let mut parameters = Vec::new();
    if method.combines_deltas() {
        parameters.push(("normalize", request.normalize.to_string()));
    }
    if method.combines_deltas() && method != Method::Linear {
        parameters.push(("lambda", format!("{:?}", request.lambda)));
    }
    let has = |name: &str| request.parameters.get(name).is_some();
    parameters.retain(|(name, _)| !has(name));
    let parameters: Vec<(&str, String)> = parameters.into_iter().chain(all(&request.parameters)).collect();
    if !parameters.is_empty() {
        writeln!(text, "parameters:")?;
        for (name, value) in parameters {
            writeln!(text, "  {name}: {value}")?;
        }
    }
    if let Some(tokenizer) = &request.tokenizer {
        writeln!(text, "tokenizer_source: {}", quoted(tokenizer))?;
    }
    if let Some(template) = &request.chat_template {
        writeln!(text, "chat_template: {}", quoted(template))?;
    }
    writeln!(
        text,
        "dtype: float32\nout_dtype: {}",
        torch_name(request.dtype.unwrap_or(stored))
    )
}

fn synapse_part(text: &mut String, request: &MergeRequest, hashes: &BTreeMap<PathBuf, String>) -> std::fmt::Result {
    let own = MergeRequest::new(request.method, PathBuf::new(), PathBuf::new());
    let trims = request.method.sparsity().is_some();
    writeln!(text, "synapse:\n  format: 1")?;
    if request.method.elects_signs() {
        writeln!(
            text,
            "  sign: {}\n  zero_sign: {}",
            request.ties.sign, request.ties.tie_break
        )?;
        let TiesOptions {
            weighted_vote,
            divide_by,
            vote_in_f32,
            ..
        } = request.ties;
        if (weighted_vote, divide_by, vote_in_f32) != (own.ties.weighted_vote, own.ties.divide_by, own.ties.vote_in_f32)
        {
            writeln!(
                text,
                "  weighted_vote: {weighted_vote}\n  divide_by: {divide_by}\n  vote_in_f32: {vote_in_f32}"
            )?;
        }
    }
    if trims {
        let rescale = request.ties.rescale.map(|rescale| rescale.to_string());
        let options = [
            (
                "scope",
                (request.ties.scope != own.ties.scope).then(|| request.ties.scope.to_string()),
            ),
            (
                "selection",
                (request.ties.selection != own.ties.selection).then(|| request.ties.selection.to_string()),
            ),
            (
                "counting",
                (request.ties.counting != own.ties.counting).then(|| request.ties.counting.to_string()),
            ),
            ("rescale", rescale),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                writeln!(text, "  {name}: {value}")?;
            }
        }
    }
    if request.ties.factors {
        writeln!(text, "  factors: true")?;
    }
    if request.uses_base != own.uses_base {
        writeln!(text, "  based: {}", request.uses_base)?;
    }
    if request.base_view != own.base_view {
        writeln!(text, "  base_view: {}", request.base_view)?;
    }
    if request.method.is_random() || request.rounding != own.rounding {
        writeln!(text, "  seed: {}", request.seed)?;
    }
    if request.rounding != own.rounding {
        writeln!(text, "  rounding: {}", request.rounding)?;
    }
    if let Some(rank) = request.extract_rank {
        writeln!(text, "  extract_lora: {rank}")?;
    }
    if let Some(gguf_type) = request.gguf {
        writeln!(text, "  gguf: {}", gguf_type.name())?;
    }
    writeln!(text, "  dtype: {}", request.dtype.map_or("keep", torch_name))?;
    writeln!(text, "  shard_bytes: {}", request.max_shard_bytes)?;
    writeln!(text, "  base: {}", pin("", &request.base, "", request, hashes))?;
    writeln!(text, "  inputs:")?;
    for Input { name, path, .. } in request.inputs() {
        let before = format!("name: {}, ", quoted(name));
        let after = match trims {
            true => format!(", trim: \"{}\"", request.trim_of(name)),
            false => String::new(),
        };
        writeln!(text, "    - {}", pin(&before, path, &after, request, hashes))?;
    }
    Ok(())
}

/// One folder of the synapse block: `{path, sha256}` with text before and after the path.
fn pin(before: &str, folder: &Path, after: &str, request: &MergeRequest, hashes: &BTreeMap<PathBuf, String>) -> String {
    let path = quoted(&request.reference_of(folder));
    let hash = hashes
        .get(folder)
        .map(|hash| format!(", sha256: {hash}"))
        .unwrap_or_default();
    format!("{{{before}path: {path}{after}{hash}}}")
}

/// Text as a double-quoted scalar; JSON's quoting is YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
