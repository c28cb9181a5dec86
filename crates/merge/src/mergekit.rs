//! Reads mergekit's YAML (models, slices or modules, with gradients and filters) and the `synapse:` block of our own
//! files.
//!
//! Keys that mergekit knows and this reader does not are refused by name, because leaving them out would change the
//! result. Keys that mergekit does not know either only give a warning, because mergekit ignores them.

mod inputs;
mod pinned;
mod slices;

use std::path::Path;

use serde_json::{Map, Value};

use crate::merge_file::{FileInput, MergeFile};
use crate::reader::Reader;
use crate::settings::Settings;
use crate::{MergeError, Method, Result};

const TOP: [&str; 13] = [
    "merge_method",
    "base_model",
    "models",
    "slices",
    "modules",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "name",
    "synapse",
];
const MODULE: [&str; 3] = ["models", "slices", "parameters"];
const TOKENIZER: [&str; 3] = ["source", "tokens", "pad_to_multiple_of"];

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

/// What nested levels inherit from the top level.
struct Above<'a> {
    method: Option<Method>,
    base: Option<&'a str>,
    /// Parameters of the whole merge.
    global: &'a Settings,
}

impl Reader {
    fn file(&mut self, value: &Value) -> Option<MergeFile> {
        let top = self.mapping(value, "the file")?;
        self.unknown(top, "", &TOP);
        let method = self.word::<Method>(top, "", "merge_method");
        if method.is_none() && !top.contains_key("merge_method") {
            self.problem("merge_method", "is missing (ties, linear, slerp, …)");
        }
        let base = top
            .get("base_model")
            .and_then(|value| self.reference(value, "base_model"));
        let mut global = self.settings(top, "", method);
        let module = self.module(top);
        let body = module.unwrap_or(top);
        if module.is_some() {
            global.0.extend(self.settings(body, "modules", method).0);
        }
        let compute = self.dtype(top, "", "dtype");
        let out = self.dtype(top, "", "out_dtype");
        let above = Above {
            method,
            base: base.as_deref(),
            global: &global,
        };
        let (inputs, slices) = match (body.get("models"), body.get("slices")) {
            (Some(models), None) => (self.entries(models, &above), Vec::new()),
            (None, Some(slices)) => self.slices(slices, &above),
            (Some(_), Some(_)) => {
                self.problem("slices", "and `models` exclude each other");
                Default::default()
            }
            (None, None) => {
                self.problem("models", "must be a list of models (or `slices`, a list of slices)");
                Default::default()
            }
        };
        // Every input has its own value at this point.
        for inherited in ["weight", "density"] {
            global.take(inherited);
        }
        let normalize = self.constant(&mut global, "normalize").map(|value| value != 0.0);
        let lambda = self.constant(&mut global, "lambda");
        let mut file = MergeFile {
            method: method?,
            base,
            inputs,
            slices,
            parameters: global,
            normalize,
            lambda,
            dtype: out.or(compute),
            tokenizer: self.tokenizer(top),
            chat_template: self.text(top, "", "chat_template"),
            synapse: None,
            warnings: Vec::new(),
        };
        if let Some(block) = top.get("synapse") {
            self.synapse(block, &mut file);
        } else {
            self.remark(&file, compute.map(|dtype| dtype.to_string()));
        }
        Some(file)
    }

    /// Warnings for users of mergekit.
    fn remark(&mut self, file: &MergeFile, compute: Option<String>) {
        if let Some(dtype) = compute {
            self.warnings.push(format!(
                "{}: dtype {dtype} sets the output's dtype only; the arithmetic is always f32",
                self.file
            ));
        }
        let kept_whole = |input: &FileInput| input.trim.is_none() && input.parameters.get("density").is_none();
        if file.slices.is_empty() && file.method.sparsity().is_some() && file.inputs.iter().any(kept_whole) {
            self.warnings.push(format!(
                "{}: an input without density keeps every entry, mergekit's default; --trim 0.8 keeps 20 %",
                self.file
            ));
        }
    }

    /// The only entry of `modules`, which is how mergekit writes models of several parts.
    fn module<'v>(&mut self, top: &'v Map<String, Value>) -> Option<&'v Map<String, Value>> {
        let modules = self.mapping(top.get("modules")?, "modules")?;
        if modules.len() != 1 || top.contains_key("models") || top.contains_key("slices") {
            self.problem(
                "modules",
                "must hold exactly one module, without `models` or `slices` beside it",
            );
            return None;
        }
        let (name, module) = modules.iter().next()?;
        let location = format!("modules.{name}");
        let module = self.mapping(module, &location)?;
        self.unknown(module, &location, &MODULE);
        Some(module)
    }

    /// `tokenizer_source`, or `tokenizer` with only a source.
    fn tokenizer(&mut self, top: &Map<String, Value>) -> Option<String> {
        let plain = match top.get("tokenizer_source") {
            None | Some(Value::Null) => None,
            Some(value) => self.reference(value, "tokenizer_source"),
        };
        let Some(value) = top.get("tokenizer").filter(|value| !value.is_null()) else {
            return plain;
        };
        let map = self.mapping(value, "tokenizer")?;
        self.unknown(map, "tokenizer", &TOKENIZER);
        if plain.is_some() {
            self.problem("tokenizer", "and `tokenizer_source` exclude each other");
        }
        for key in ["tokens", "pad_to_multiple_of"] {
            let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
            if map.get(key).is_some_and(|value| !empty(value)) {
                self.problem(
                    &format!("tokenizer.{key}"),
                    "is not supported: embeddings are merged row by row as the models store them",
                );
            }
        }
        match map.get("source") {
            None | Some(Value::Null) => Some("union".to_owned()),
            Some(value) => self.reference(value, "tokenizer.source"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn a_revision_follows_its_path() {
        let yaml = "merge_method: task_arithmetic
base_model: {model: {path: org/base, revision: main}}
models:
  - model: {model: {path: org/a, revision: v1}}
  - model: {model: {path: org/b}, lora: {path: x, revision: null}}
";
        let parse = |text: &str| MergeFile::parse(text, Path::new("in.yml"));
        let file = parse(yaml).unwrap();
        assert_eq!(file.base.as_deref(), Some("org/base@main"));
        let models: Vec<&str> = file.inputs.iter().map(|input| input.model.as_str()).collect();
        assert_eq!(models, ["org/a@v1", "org/b+x"]);
        // a number is no revision, and adapters have none
        for (written, wrong, named) in [
            ("revision: v1", "revision: 12", "models[0].model.model.revision"),
            ("revision: null", "revision: v2", "models[1].model.lora.revision"),
        ] {
            let message = parse(&yaml.replace(written, wrong)).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
