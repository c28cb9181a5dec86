//! merge.yaml: what a merge was, as a file that makes it again.
//!
//! The file is mergekit's YAML, so mergekit users can read it, plus a `synapse:` block that pins what mergekit's words
//! leave open: the trim as a decimal, the election, output dtype and shards, and the sha256 of every input. Reading
//! mergekit's own files is [`MergeFile::parse`]'s business, in mergekit.rs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use synapse_checkpoint::DType;

use crate::request::torch_name;
use crate::{Input, MergeRequest, Method, Sign, Trim, ZeroSign};

/// Name of the file in the output folder.
pub const FILE: &str = "merge.yaml";

/// A merge as a mergekit or merge.yaml file describes it. Models are still text: folders, hub ids, or either with
/// `+adapter` behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeFile {
    /// `merge_method`.
    pub method: Method,
    /// `base_model`, or the synapse block's base.
    pub base: Option<String>,
    /// `models`, without an entry that only repeats the base.
    pub inputs: Vec<FileInput>,
    /// `parameters.normalize`.
    pub normalize: Option<bool>,
    /// `parameters.lambda`.
    pub lambda: Option<f64>,
    /// The output's dtype: `out_dtype`, else `dtype`; the synapse block's when there is one.
    pub dtype: Option<DType>,
    /// Present when Synapse wrote the file.
    pub synapse: Option<SynapseBlock>,
    /// What a reader should be told: unknown keys, words that change nothing here.
    pub warnings: Vec<String>,
}

/// One entry of `models`.
#[derive(Clone, Debug, PartialEq)]
pub struct FileInput {
    /// Synapse's name for it, when the file has a synapse block.
    pub name: Option<String>,
    /// `path` or `path+adapter`.
    pub model: String,
    /// `weight`; mergekit wants it written, here it is 1 when it is not.
    pub weight: f64,
    /// `density`, turned into a trim.
    pub trim: Option<Trim>,
    /// What the folder's contents must hash to.
    pub sha256: Option<String>,
}

/// What the `synapse:` block pins.
#[derive(Clone, Debug, PartialEq)]
pub struct SynapseBlock {
    /// Who wins an entry.
    pub sign: Sign,
    /// What a draw does.
    pub zero_sign: ZeroSign,
    /// Largest size of an output file in bytes.
    pub shard_bytes: u64,
    /// What the base's contents must hash to.
    pub base_sha256: Option<String>,
}

/// The merge.yaml of a request. `hashes` are the inputs' contents by folder, `stored` is the base's own dtype.
pub(crate) fn write(request: &MergeRequest, hashes: &BTreeMap<PathBuf, String>, stored: DType) -> String {
    let mut text =
        String::from("# Made by synapse-merge. Running `synapse-merge` on this file makes the same bytes again.\n");
    // Writing to a String cannot fail, so the results say nothing.
    let _ = lines(&mut text, request, hashes, stored);
    text
}

fn lines(
    text: &mut String,
    request: &MergeRequest,
    hashes: &BTreeMap<PathBuf, String>,
    stored: DType,
) -> std::fmt::Result {
    let ties = request.method == Method::Ties;
    let base = request.called(&request.base);
    writeln!(text, "merge_method: {}", request.method)?;
    // mergekit counts a linear merge's base_model as one more input.
    if request.method != Method::Linear {
        writeln!(text, "base_model: {}", quoted(&base))?;
    }
    writeln!(text, "models:")?;
    let adapters = request
        .adapters
        .iter()
        .map(|input| (input, format!("{base}+{}", request.called(&input.path))));
    let models = request.models.iter().map(|input| (input, request.called(&input.path)));
    for (input, model) in adapters.chain(models) {
        writeln!(text, "  - model: {}", quoted(&model))?;
        let density = if ties {
            format!(", density: {}", request.trim_of(&input.name).density())
        } else {
            String::new()
        };
        writeln!(text, "    parameters: {{weight: {:?}{density}}}", input.weight)?;
    }
    writeln!(text, "parameters:\n  normalize: {}", request.normalize)?;
    if request.method != Method::Linear {
        writeln!(text, "  lambda: {:?}", request.lambda)?;
    }
    writeln!(
        text,
        "dtype: float32\nout_dtype: {}",
        torch_name(request.dtype.unwrap_or(stored))
    )?;
    writeln!(text, "synapse:\n  format: 1")?;
    if ties {
        writeln!(text, "  sign: {}\n  zero_sign: {}", request.sign, request.zero_sign)?;
    }
    writeln!(text, "  dtype: {}", request.dtype.map_or("keep", torch_name))?;
    writeln!(text, "  shard_bytes: {}", request.max_shard_bytes)?;
    writeln!(text, "  base: {}", pin("", &request.base, "", request, hashes))?;
    writeln!(text, "  inputs:")?;
    for Input { name, path, .. } in request.inputs() {
        let before = format!("name: {}, ", quoted(name));
        let after = match ties {
            true => format!(", trim: \"{}\"", request.trim_of(name)),
            false => String::new(),
        };
        writeln!(text, "    - {}", pin(&before, path, &after, request, hashes))?;
    }
    Ok(())
}

/// One folder of the synapse block: `{path, sha256}` with what stands before the path and after it.
fn pin(before: &str, folder: &Path, after: &str, request: &MergeRequest, hashes: &BTreeMap<PathBuf, String>) -> String {
    let path = quoted(&request.called(folder));
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
