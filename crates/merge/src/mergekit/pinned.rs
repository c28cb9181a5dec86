//! The `synapse:` block of our own files: options that mergekit's keys cannot express, and hashes of the inputs.

use serde_json::{Map, Value};
use synapse_export::GgufType;

use crate::merge_file::{MergeFile, SynapseBlock};
use crate::reader::Reader;
use crate::request::DEFAULT_SHARD_BYTES;
use crate::{MergeRequest, TiesOptions, Trim};

const SYNAPSE: [&str; 21] = [
    "format",
    "sign",
    "zero_sign",
    "weighted_vote",
    "divide_by",
    "vote_in_f32",
    "scope",
    "selection",
    "counting",
    "rescale",
    "factors",
    "based",
    "base_view",
    "seed",
    "rounding",
    "extract_lora",
    "gguf",
    "dtype",
    "shard_bytes",
    "base",
    "inputs",
];
const PIN: [&str; 4] = ["name", "path", "trim", "sha256"];

impl Reader {
    /// The `synapse:` block: what it pins goes into `file`.
    pub(super) fn synapse(&mut self, value: &Value, file: &mut MergeFile) {
        let Some(block) = self.mapping(value, "synapse") else {
            return;
        };
        self.unknown(block, "synapse", &SYNAPSE);
        if block.get("format").and_then(Value::as_u64) != Some(1) {
            self.problem("synapse.format", "must be 1; a newer synapse-merge wrote this file");
        }
        let mut number = |key: &str, default: u64| match block.get(key).map(Value::as_u64) {
            None => default,
            Some(Some(number)) => number,
            Some(None) => {
                self.problem(&format!("synapse.{key}"), "must be a whole number");
                default
            }
        };
        let shard_bytes = number("shard_bytes", DEFAULT_SHARD_BYTES);
        let seed = number("seed", 0);
        let extract_rank = block.get("extract_lora").map(|_| number("extract_lora", 1));
        file.dtype = match block.get("dtype").and_then(Value::as_str) {
            Some("keep") => None,
            _ => self.dtype(block, "synapse", "dtype"),
        };
        let base = block.get("base").and_then(|base| self.pin(base, "synapse.base"));
        if let Some(path) = base.as_ref().and_then(|pin| pin.path.clone()) {
            file.base = Some(path);
        }
        self.pins(block, file);
        let gguf = self
            .text(block, "synapse", "gguf")
            .and_then(|word| match word.parse::<GgufType>() {
                Ok(gguf_type) => Some(gguf_type),
                Err(problem) => {
                    self.problem("synapse.gguf", &problem.to_string());
                    None
                }
            });
        let own = MergeRequest::new(file.method, "", "");
        let mut flag = |key: &str, default: bool| self.boolean(block, "synapse", key).unwrap_or(default);
        let weighted_vote = flag("weighted_vote", own.ties.weighted_vote);
        let vote_in_f32 = flag("vote_in_f32", own.ties.vote_in_f32);
        let factors = flag("factors", own.ties.factors);
        let uses_base = flag("based", own.uses_base);
        file.synapse = Some(SynapseBlock {
            ties: TiesOptions {
                sign: self.word(block, "synapse", "sign").unwrap_or_default(),
                tie_break: self.word(block, "synapse", "zero_sign").unwrap_or_default(),
                weighted_vote,
                divide_by: self.word(block, "synapse", "divide_by").unwrap_or_default(),
                vote_in_f32,
                scope: self.word(block, "synapse", "scope").unwrap_or_default(),
                selection: self.word(block, "synapse", "selection").unwrap_or_default(),
                counting: self.word(block, "synapse", "counting").unwrap_or_default(),
                rescale: self.word(block, "synapse", "rescale"),
                factors,
            },
            uses_base,
            base_view: self.word(block, "synapse", "base_view").unwrap_or_default(),
            seed,
            rounding: self.word(block, "synapse", "rounding").unwrap_or_default(),
            extract_rank: extract_rank.and_then(|rank| usize::try_from(rank).ok()),
            gguf,
            shard_bytes,
            base_sha256: base.and_then(|pin| pin.sha256),
        });
    }

    /// The block's folders, which must be those of the models.
    fn pins(&mut self, block: &Map<String, Value>, file: &mut MergeFile) {
        let pins = block
            .get("inputs")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if pins.len() != file.inputs.len() {
            let message = format!(
                "lists {} folders, but the file names {} models; make them agree",
                pins.len(),
                file.inputs.len()
            );
            self.problem("synapse.inputs", &message);
        }
        for (index, (pin, input)) in pins.iter().zip(&mut file.inputs).enumerate() {
            let Some(pin) = self.pin(pin, &format!("synapse.inputs[{index}]")) else {
                continue;
            };
            if let Some(path) = &pin.path
                && !input.model.ends_with(path.as_str())
            {
                let message = format!(
                    "is {path}, but model {index} of the file is {}; make them agree",
                    input.model
                );
                self.problem(&format!("synapse.inputs[{index}].path"), &message);
            }
            if pin.trim.is_some() && input.trim.is_some() && pin.trim != input.trim {
                self.problem(
                    &format!("synapse.inputs[{index}].trim"),
                    "and the model's density differ; make them agree",
                );
            }
            input.trim = input.trim.or(pin.trim);
            input.name = pin.name;
            input.sha256 = pin.sha256;
        }
    }

    fn pin(&mut self, value: &Value, location: &str) -> Option<Pin> {
        let map = self.mapping(value, location)?;
        self.unknown(map, location, &PIN);
        let trim = self.word::<Trim>(map, location, "trim");
        Some(Pin {
            name: self.text(map, location, "name"),
            path: self.text(map, location, "path"),
            trim,
            sha256: self.text(map, location, "sha256"),
        })
    }
}

/// One pinned folder of the `synapse:` block.
struct Pin {
    name: Option<String>,
    path: Option<String>,
    trim: Option<Trim>,
    sha256: Option<String>,
}
