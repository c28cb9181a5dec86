//! Reads mergekit's YAML (models, slices or modules, with gradients and filters) and the `synapse:` block of our own
//! files.
//!
//! Keys that mergekit knows and this reader does not are refused by name, because leaving them out would change the
//! result. Keys that mergekit does not know either only give a warning, as mergekit takes them without a word.

use std::path::Path;

use serde_json::{Map, Value};
use synapse_export::GgufType;

use crate::merge_file::{FileInput, FileSlice, MergeFile, SynapseBlock};
use crate::reader::Reader;
use crate::request::DEFAULT_SHARD_BYTES;
use crate::settings::{Setting, Settings};
use crate::{Election, MergeError, MergeRequest, Method, Result, Trim};

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
const ENTRY: [&str; 2] = ["model", "parameters"];
const SLICE: [&str; 3] = ["sources", "base_model", "parameters"];
const SOURCE: [&str; 3] = ["model", "layer_range", "parameters"];
const REFERENCE: [&str; 3] = ["model", "lora", "override_architecture"];
const TOKENIZER: [&str; 3] = ["source", "tokens", "pad_to_multiple_of"];
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
/// Every parameter of any method.
const PARAMETERS: [&str; 18] = [
    "weight",
    "density",
    "normalize",
    "lambda",
    "rescale",
    "int8_mask",
    "gamma",
    "epsilon",
    "t",
    "nuslerp_flatten",
    "nuslerp_row_wise",
    "normalize_weights",
    "eps",
    "max_iter",
    "tol",
    "filter_wise",
    "select_topk",
    "scale",
];

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

/// What the places below the top inherit from it.
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
                self.problem("slices", "stands beside `models`; a file has one of them");
                Default::default()
            }
            (None, None) => {
                self.problem("models", "must be a list of models (or `slices`, a list of slices)");
                Default::default()
            }
        };
        // Every input has its own by now.
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

    /// What a mergekit user should know before the merge.
    fn remark(&mut self, file: &MergeFile, compute: Option<String>) {
        if let Some(dtype) = compute {
            self.warnings.push(format!(
                "{}: dtype {dtype} is the output's; the arithmetic is f32 whatever it says",
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
                "must hold exactly one module, and stand beside neither `models` nor `slices`",
            );
            return None;
        }
        let (name, module) = modules.iter().next()?;
        let place = format!("modules.{name}");
        let module = self.mapping(module, &place)?;
        self.unknown(module, &place, &MODULE);
        Some(module)
    }

    /// `models`, without the base's own entry where the method has no use for it.
    fn entries(&mut self, list: &Value, above: &Above<'_>) -> Vec<FileInput> {
        let Some(list) = self.list(list, "models") else {
            return Vec::new();
        };
        let mut inputs: Vec<FileInput> = Vec::new();
        let mut seen_base = false;
        for (index, entry) in list.iter().enumerate() {
            let place = format!("models[{index}]");
            let Some(entry) = self.mapping(entry, &place) else {
                continue;
            };
            self.unknown(entry, &place, &ENTRY);
            let own = self.settings(entry, &place, above.method);
            let Some(model) = self.model(entry, &place) else {
                continue;
            };
            if above.base == Some(&model) {
                seen_base = true;
                if above.method != Some(Method::Linear) {
                    continue;
                }
            }
            if own.get("normalize").is_some() || own.get("lambda").is_some() {
                self.problem(
                    &format!("{place}.parameters"),
                    "has normalize or lambda, which belong to the whole merge",
                );
            }
            inputs.push(self.input(model, own, above.global, &place));
        }
        if above.method == Some(Method::Linear) && above.base.is_some() && !seen_base {
            self.problem(
                "base_model",
                "counts as one more model in a linear merge; list it in models with its weight, or remove it",
            );
        }
        inputs
    }

    /// An input with its parameters: weight and density have fields of their own where they are the same everywhere.
    fn input(&mut self, model: String, mut own: Settings, global: &Settings, place: &str) -> FileInput {
        for inherited in ["weight", "density"] {
            if own.get(inherited).is_none()
                && let Some(setting) = global.get(inherited)
            {
                own.set(inherited, setting.clone());
            }
        }
        let weight = self.constant(&mut own, "weight").unwrap_or(1.0);
        let everywhere = own.get("density").and_then(Setting::everywhere);
        let trim = everywhere.and_then(|density| match density {
            1.0.. => Some(Trim::NONE),
            density => match Trim::from_density(&density.to_string()) {
                Ok(trim) => Some(trim),
                Err(problem) => {
                    self.problem(&format!("{place}.parameters.density"), &problem);
                    None
                }
            },
        });
        if everywhere.is_some_and(|density| density > 1.0) {
            self.problem(
                &format!("{place}.parameters.density"),
                &format!(
                    "density {} must be above 0 and at most 1 (the share that is kept)",
                    everywhere.unwrap_or(1.0)
                ),
            );
        }
        if everywhere.is_some() {
            own.take("density");
        }
        FileInput {
            name: None,
            model,
            weight,
            trim,
            parameters: own,
            sha256: None,
        }
    }

    /// Takes a parameter out that is the same for every tensor.
    fn constant(&mut self, settings: &mut Settings, name: &str) -> Option<f64> {
        let value = settings.get(name)?.everywhere()?;
        settings.take(name);
        Some(value)
    }

    /// `slices`, and the models they take from.
    fn slices(&mut self, list: &Value, above: &Above<'_>) -> (Vec<FileInput>, Vec<FileSlice>) {
        let mut inputs: Vec<FileInput> = Vec::new();
        let mut slices = Vec::new();
        for (index, slice) in self.list(list, "slices").into_iter().flatten().enumerate() {
            let place = format!("slices[{index}]");
            let Some(slice) = self.mapping(slice, &place) else {
                continue;
            };
            self.unknown(slice, &place, &SLICE);
            let own_base = slice
                .get("base_model")
                .and_then(|value| self.reference(value, &format!("{place}.base_model")));
            if own_base.is_some() && own_base.as_deref() != above.base {
                self.problem(
                    &format!("{place}.base_model"),
                    "differs from the whole merge's; all slices share one base",
                );
            }
            let mut read = FileSlice {
                sources: Vec::new(),
                parameters: self.settings(slice, &place, above.method),
            };
            let Some(sources) = slice
                .get("sources")
                .and_then(|sources| self.list(sources, &format!("{place}.sources")))
            else {
                self.problem(&format!("{place}.sources"), "is missing");
                continue;
            };
            for (at, source) in sources.iter().enumerate() {
                let place = format!("{place}.sources[{at}]");
                let Some(source) = self.mapping(source, &place) else {
                    continue;
                };
                self.unknown(source, &place, &SOURCE);
                let (Some(model), Some(layers)) = (self.model(source, &place), self.layers(source, &place)) else {
                    continue;
                };
                let own = self.settings(source, &place, above.method);
                let input = (above.base != Some(&model)).then(|| {
                    inputs.iter().position(|input| input.model == model).unwrap_or_else(|| {
                        inputs.push(self.input(model, Settings::default(), above.global, &place));
                        inputs.len() - 1
                    })
                });
                read.sources.push((input, layers, own));
            }
            slices.push(read);
        }
        (inputs, slices)
    }

    /// `layer_range: [first, behind the last]`.
    fn layers(&mut self, source: &Map<String, Value>, place: &str) -> Option<std::ops::Range<usize>> {
        let range = source.get("layer_range").and_then(Value::as_array).map(Vec::as_slice);
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        if let Some([first, last]) = range
            && let (Some(first), Some(last)) = (number(first), number(last))
            && first <= last
        {
            return Some(first..last);
        }
        self.problem(
            &format!("{place}.layer_range"),
            "must be [first, behind the last], two layer numbers",
        );
        None
    }

    /// `model` of an entry.
    fn model(&mut self, entry: &Map<String, Value>, place: &str) -> Option<String> {
        let place = format!("{place}.model");
        match entry.get("model") {
            Some(value) => self.reference(value, &place),
            None => {
                self.problem(&place, "is missing");
                None
            }
        }
    }

    /// A model reference: text, or a mapping of model and lora.
    fn reference(&mut self, value: &Value, place: &str) -> Option<String> {
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        if value.is_null() {
            return None;
        }
        let map = self.mapping(value, place)?;
        self.unknown(map, place, &REFERENCE);
        if map.get("override_architecture").is_some_and(|value| !value.is_null()) {
            self.problem(
                &format!("{place}.override_architecture"),
                "is not supported; the architecture is config.json's",
            );
        }
        let part = |reader: &mut Self, key: &str| match map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(inner)) => reader.text(inner, &format!("{place}.{key}"), "path"),
            Some(_) => reader.text(map, place, key),
        };
        let model = part(self, "model");
        let lora = part(self, "lora");
        match (model, lora) {
            (Some(model), Some(lora)) => Some(format!("{model}+{lora}")),
            (model, _) => model,
        }
    }

    /// `parameters` of one level.
    fn settings(&mut self, level: &Map<String, Value>, place: &str, method: Option<Method>) -> Settings {
        let mut settings = Settings::default();
        let place = if place.is_empty() {
            "parameters".to_owned()
        } else {
            format!("{place}.parameters")
        };
        let Some(map) = level
            .get("parameters")
            .filter(|value| !value.is_null())
            .and_then(|value| self.mapping(value, &place))
        else {
            return settings;
        };
        self.unknown(map, &place, &PARAMETERS);
        let understood = method.map(Method::parameters).unwrap_or_default();
        for (name, value) in map.iter().filter(|(name, _)| PARAMETERS.contains(&name.as_str())) {
            if method.is_some() && !understood.contains(&name.as_str()) {
                let method = method.map(|method| method.to_string()).unwrap_or_default();
                self.warnings
                    .push(format!("{}: `{place}.{name}` means nothing to {method}", self.file));
                continue;
            }
            match Setting::parse(value) {
                // int8_mask only sets how wide mergekit's sign mask is; it changes no result.
                Ok(_) if name == "int8_mask" => {}
                Ok(setting) => settings.set(name, setting),
                Err(problem) => self.problem(&format!("{place}.{name}"), &problem),
            }
        }
        settings
    }

    /// `tokenizer_source`, or `tokenizer` where it says no more than a source.
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
            self.problem("tokenizer", "stands beside `tokenizer_source`; a file has one of them");
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

    /// The `synapse:` block: what it pins goes into `file`.
    fn synapse(&mut self, value: &Value, file: &mut MergeFile) {
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
        let weighted = flag("weighted_vote", own.election.weighted);
        let single = flag("vote_in_f32", own.election.single);
        let factors = flag("factors", own.factors);
        let based = flag("based", own.based);
        file.synapse = Some(SynapseBlock {
            sign: self.word(block, "synapse", "sign").unwrap_or_default(),
            zero_sign: self.word(block, "synapse", "zero_sign").unwrap_or_default(),
            election: Election {
                weighted,
                divide_by: self.word(block, "synapse", "divide_by").unwrap_or_default(),
                single,
            },
            scope: self.word(block, "synapse", "scope").unwrap_or_default(),
            selection: self.word(block, "synapse", "selection").unwrap_or_default(),
            counting: self.word(block, "synapse", "counting").unwrap_or_default(),
            rescale: self.word(block, "synapse", "rescale"),
            factors,
            based,
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

    fn pin(&mut self, value: &Value, place: &str) -> Option<Pin> {
        let map = self.mapping(value, place)?;
        self.unknown(map, place, &PIN);
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
