//! Reads mergekit's YAML: the keys of a same-shape merge by linear, task_arithmetic or ties, and the `synapse:` block
//! of our own files.
//!
//! Keys that mergekit knows and this reader does not are refused by name, because leaving them out would change the
//! result. Keys that mergekit does not know either only give a warning, as mergekit takes them without a word.

use std::path::Path;

use serde_json::{Map, Value};

use crate::merge_file::{FileInput, MergeFile, SynapseBlock};
use crate::reader::Reader;
use crate::request::DEFAULT_SHARD_BYTES;
use crate::{MergeError, Method, Result, Sign, Trim, ZeroSign};

const TOP: [&str; 7] = [
    "merge_method",
    "base_model",
    "models",
    "parameters",
    "dtype",
    "out_dtype",
    "synapse",
];
const TOP_REFUSED: [&str; 5] = ["slices", "modules", "tokenizer_source", "tokenizer", "chat_template"];
const ENTRY: [&str; 2] = ["model", "parameters"];
const PARAMETERS: [&str; 6] = ["weight", "density", "normalize", "lambda", "rescale", "int8_mask"];
const SYNAPSE: [&str; 7] = ["format", "sign", "zero_sign", "dtype", "shard_bytes", "base", "inputs"];
const PIN: [&str; 4] = ["name", "path", "trim", "sha256"];

impl MergeFile {
    /// Reads a file's text; `path` is only for messages.
    ///
    /// # Errors
    /// [`MergeError::Request`] with every problem, each naming the file and the key.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let value: Value = serde_yaml::from_str(text)
            .map_err(|error| MergeError::request(format!("{shown}: not readable as YAML: {error}")))?;
        let mut reader = Reader {
            file: shown,
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let file = reader.file(&value);
        match file {
            Some(mut file) if reader.problems.is_empty() => {
                file.warnings = reader.warnings;
                Ok(file)
            }
            _ => Err(MergeError::Request(reader.problems)),
        }
    }
}

/// The parameters of one level, inherited by the levels below it.
#[derive(Clone, Copy, Default)]
struct Parameters {
    weight: Option<f64>,
    trim: Option<Trim>,
    normalize: Option<bool>,
    lambda: Option<f64>,
}

impl Reader {
    fn file(&mut self, value: &Value) -> Option<MergeFile> {
        let top = self.mapping(value, "the file")?;
        self.unknown(top, "", &TOP, &TOP_REFUSED);
        let method = self.word::<Method>(top, "", "merge_method");
        if method.is_none() && !top.contains_key("merge_method") {
            self.problem("merge_method", "is missing (one of: ties, linear, task_arithmetic)");
        }
        let base = self.text(top, "", "base_model");
        let global = top
            .get("parameters")
            .map(|value| self.parameters(value, "parameters"))
            .unwrap_or_default();
        let compute = self.dtype(top, "", "dtype");
        let out = self.dtype(top, "", "out_dtype");
        let entries = self.entries(top, global, method, base.as_deref());
        let mut file = MergeFile {
            method: method?,
            base,
            inputs: entries,
            normalize: global.normalize,
            lambda: global.lambda,
            dtype: out.or(compute),
            synapse: None,
            warnings: Vec::new(),
        };
        if let Some(block) = top.get("synapse") {
            self.synapse(block, &mut file);
        } else {
            if let Some(dtype) = compute {
                self.warnings.push(format!(
                    "{}: dtype {dtype} is the output's; the arithmetic is f32 whatever it says",
                    self.file
                ));
            }
            if file.method == Method::Ties && file.inputs.iter().any(|input| input.trim.is_none()) {
                self.warnings.push(format!(
                    "{}: an input without density keeps every entry, mergekit's default; --trim 0.8 keeps 20 %",
                    self.file
                ));
            }
        }
        Some(file)
    }

    /// `models`, without the base's own entry where the method has no use for it.
    fn entries(
        &mut self,
        top: &Map<String, Value>,
        global: Parameters,
        method: Option<Method>,
        base: Option<&str>,
    ) -> Vec<FileInput> {
        let Some(list) = top.get("models").and_then(Value::as_array) else {
            if !TOP_REFUSED.iter().any(|key| top.contains_key(*key)) {
                self.problem("models", "must be a list of models");
            }
            return Vec::new();
        };
        let mut inputs = Vec::new();
        for (index, entry) in list.iter().enumerate() {
            let place = format!("models[{index}]");
            let Some(entry) = self.mapping(entry, &place) else {
                continue;
            };
            self.unknown(entry, &place, &ENTRY, &[]);
            let own = entry
                .get("parameters")
                .map(|value| self.parameters(value, &format!("{place}.parameters")));
            let Some(model) = self.text(entry, &place, "model") else {
                if !entry.contains_key("model") {
                    self.problem(&format!("{place}.model"), "is missing");
                }
                continue;
            };
            if base == Some(&model) && method != Some(Method::Linear) {
                continue;
            }
            let own = own.unwrap_or_default();
            if own.normalize.is_some() || own.lambda.is_some() {
                self.problem(
                    &format!("{place}.parameters"),
                    "has normalize or lambda, which belong to the whole merge",
                );
            }
            let weight = own.weight.or(global.weight).unwrap_or(1.0);
            inputs.push(FileInput {
                name: None,
                model,
                weight,
                trim: own.trim.or(global.trim),
                sha256: None,
            });
        }
        if method == Some(Method::Linear)
            && let Some(base) = base
            && !inputs.iter().any(|input| input.model == base)
        {
            self.problem(
                "base_model",
                "counts as one more model in a linear merge; list it in models with its weight, or remove it",
            );
        }
        inputs
    }

    fn parameters(&mut self, value: &Value, place: &str) -> Parameters {
        let Some(map) = self.mapping(value, place) else {
            return Parameters::default();
        };
        self.unknown(map, place, &PARAMETERS, &[]);
        if self.boolean(map, place, "rescale") == Some(true) {
            self.problem(
                &format!("{place}.rescale"),
                "is not supported; remove it or set it to false",
            );
        }
        // int8_mask only sets how wide mergekit's sign mask is; it changes no result.
        self.boolean(map, place, "int8_mask");
        let density = self.number(map, place, "density");
        let trim = density.and_then(|density| match Trim::from_density(&density.to_string()) {
            Ok(trim) => Some(trim),
            Err(problem) => {
                self.problem(&format!("{place}.density"), &problem);
                None
            }
        });
        Parameters {
            weight: self.number(map, place, "weight"),
            trim,
            normalize: self.boolean(map, place, "normalize"),
            lambda: self.number(map, place, "lambda"),
        }
    }

    /// The `synapse:` block: what it pins goes into `file`.
    fn synapse(&mut self, value: &Value, file: &mut MergeFile) {
        let Some(block) = self.mapping(value, "synapse") else {
            return;
        };
        self.unknown(block, "synapse", &SYNAPSE, &[]);
        if block.get("format").and_then(Value::as_u64) != Some(1) {
            self.problem("synapse.format", "must be 1; a newer synapse-merge wrote this file");
        }
        let shard_bytes = match block.get("shard_bytes").map(Value::as_u64) {
            None => DEFAULT_SHARD_BYTES,
            Some(Some(bytes)) => bytes,
            Some(None) => {
                self.problem("synapse.shard_bytes", "must be a number of bytes");
                DEFAULT_SHARD_BYTES
            }
        };
        file.dtype = match block.get("dtype").and_then(Value::as_str) {
            Some("keep") => None,
            _ => self.dtype(block, "synapse", "dtype"),
        };
        let base = block.get("base").and_then(|base| self.pin(base, "synapse.base"));
        if let Some(path) = base.as_ref().and_then(|pin| pin.path.clone()) {
            file.base = Some(path);
        }
        let pins = block
            .get("inputs")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if pins.len() != file.inputs.len() {
            let message = format!(
                "lists {} folders, but models lists {}; make them agree",
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
                let message = format!("is {path}, but models[{index}] is {}; make them agree", input.model);
                self.problem(&format!("synapse.inputs[{index}].path"), &message);
            }
            if pin.trim.is_some() && pin.trim != input.trim {
                self.problem(
                    &format!("synapse.inputs[{index}].trim"),
                    "and the model's density differ; make them agree",
                );
            }
            input.name = pin.name;
            input.sha256 = pin.sha256;
        }
        file.synapse = Some(SynapseBlock {
            sign: self.word::<Sign>(block, "synapse", "sign").unwrap_or_default(),
            zero_sign: self.word::<ZeroSign>(block, "synapse", "zero_sign").unwrap_or_default(),
            shard_bytes,
            base_sha256: base.and_then(|pin| pin.sha256),
        });
    }

    fn pin(&mut self, value: &Value, place: &str) -> Option<Pin> {
        let map = self.mapping(value, place)?;
        self.unknown(map, place, &PIN, &[]);
        let trim = self.word::<Trim>(map, place, "trim");
        Some(Pin {
            name: self.text(map, place, "name"),
            path: self.text(map, place, "path"),
            trim,
            sha256: self.text(map, place, "sha256"),
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
