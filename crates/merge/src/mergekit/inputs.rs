//! The models of a file, their names and parameters.

use serde_json::{Map, Value};

use super::Above;
use crate::merge_file::FileInput;
use crate::reader::Reader;
use crate::settings::{Setting, Settings};
use crate::{Method, Trim};

const ENTRY: [&str; 2] = ["model", "parameters"];
const REFERENCE: [&str; 3] = ["model", "lora", "override_architecture"];
const PATH: [&str; 2] = ["path", "revision"];
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

impl Reader {
    /// `models`, without the base's own entry where the method has no use for it.
    pub(super) fn entries(&mut self, list: &Value, above: &Above<'_>) -> Vec<FileInput> {
        let Some(list) = self.list(list, "models") else {
            return Vec::new();
        };
        let mut inputs: Vec<FileInput> = Vec::new();
        let mut seen_base = false;
        for (index, entry) in list.iter().enumerate() {
            let location = format!("models[{index}]");
            let Some(entry) = self.mapping(entry, &location) else {
                continue;
            };
            self.unknown(entry, &location, &ENTRY);
            let own = self.settings(entry, &location, above.method);
            let Some(model) = self.model(entry, &location) else {
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
                    &format!("{location}.parameters"),
                    "has normalize or lambda, which belong to the whole merge",
                );
            }
            inputs.push(self.input(model, own, above.global, &location));
        }
        if above.method == Some(Method::Linear) && above.base.is_some() && !seen_base {
            self.problem(
                "base_model",
                "counts as one more model in a linear merge; list it in models with its weight, or remove it",
            );
        }
        inputs
    }

    /// An input with its parameters: weight and density become fields where they are constant.
    pub(super) fn input(&mut self, model: String, mut own: Settings, global: &Settings, location: &str) -> FileInput {
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
                    self.problem(&format!("{location}.parameters.density"), &problem);
                    None
                }
            },
        });
        if everywhere.is_some_and(|density| density > 1.0) {
            self.problem(
                &format!("{location}.parameters.density"),
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
    pub(super) fn constant(&mut self, settings: &mut Settings, name: &str) -> Option<f64> {
        let value = settings.get(name)?.everywhere()?;
        settings.take(name);
        Some(value)
    }

    /// `model` of an entry.
    pub(super) fn model(&mut self, entry: &Map<String, Value>, location: &str) -> Option<String> {
        let location = format!("{location}.model");
        match entry.get("model") {
            Some(value) => self.reference(value, &location),
            None => {
                self.problem(&location, "is missing");
                None
            }
        }
    }

    /// A model reference: text, or a mapping of model and lora.
    pub(super) fn reference(&mut self, value: &Value, location: &str) -> Option<String> {
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        if value.is_null() {
            return None;
        }
        let map = self.mapping(value, location)?;
        self.unknown(map, location, &REFERENCE);
        if map.get("override_architecture").is_some_and(|value| !value.is_null()) {
            self.problem(
                &format!("{location}.override_architecture"),
                "is not supported; the architecture is config.json's",
            );
        }
        let part = |reader: &mut Self, key: &str| match map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(inner)) => reader.path(inner, &format!("{location}.{key}")),
            Some(_) => reader.text(map, location, key),
        };
        let model = part(self, "model");
        let lora = part(self, "lora");
        let has_revision = |value: &Value| value.get("revision").is_some_and(|revision| !revision.is_null());
        if map.get("lora").is_some_and(has_revision) {
            self.problem(
                &format!("{location}.lora.revision"),
                "is not supported: adapters are local folders",
            );
        }
        match (model, lora) {
            (Some(model), Some(lora)) => Some(format!("{model}+{lora}")),
            (model, _) => model,
        }
    }

    /// A path with its revision, in the form `path@revision`.
    fn path(&mut self, map: &Map<String, Value>, location: &str) -> Option<String> {
        self.unknown(map, location, &PATH);
        let path = self.text(map, location, "path")?;
        let revision = match map.get("revision") {
            None | Some(Value::Null) => None,
            Some(_) => self.text(map, location, "revision"),
        };
        Some(match revision {
            Some(revision) => format!("{path}@{revision}"),
            None => path,
        })
    }

    /// `parameters` of one level.
    pub(super) fn settings(&mut self, level: &Map<String, Value>, location: &str, method: Option<Method>) -> Settings {
        let mut settings = Settings::default();
        let location = if location.is_empty() {
            "parameters".to_owned()
        } else {
            format!("{location}.parameters")
        };
        let Some(map) = level
            .get("parameters")
            .filter(|value| !value.is_null())
            .and_then(|value| self.mapping(value, &location))
        else {
            return settings;
        };
        self.unknown(map, &location, &PARAMETERS);
        let understood = method.map(Method::parameters).unwrap_or_default();
        for (name, value) in map.iter().filter(|(name, _)| PARAMETERS.contains(&name.as_str())) {
            if method.is_some() && !understood.contains(&name.as_str()) {
                let method = method.map(|method| method.to_string()).unwrap_or_default();
                self.warnings.push(format!(
                    "{}: `{location}.{name}` is ignored: {method} has no such parameter",
                    self.file
                ));
                continue;
            }
            match Setting::parse(value) {
                // int8_mask only sets how wide mergekit's sign mask is; it changes no result.
                Ok(_) if name == "int8_mask" => {}
                Ok(setting) => settings.set(name, setting),
                Err(problem) => self.problem(&format!("{location}.{name}"), &problem),
            }
        }
        settings
    }
}
