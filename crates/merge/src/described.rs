//! What one input's parameters come to, in words: for the report, the card and the command line. A parameter may be one
//! number, a gradient over the layers, or differ by filter and slice.
//!
//! What this is not: the value for a tensor, which `parameters` finds.

use crate::settings::Setting;
use crate::{MergeRequest, Trim};

/// The share of an input's entries that a merge keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// The same of every tensor.
    Same(Trim),
    /// It differs from tensor to tensor: `0.2 → 0.8 over the layers`.
    Varies(String),
}

impl Kept {
    /// In words: "trim 0.8: zero the smallest 80 %, keep 20 %", or "keep 0.2 → 0.8 over the layers".
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Same(trim) => trim.describe(),
            Self::Varies(text) => format!("keep {text}"),
        }
    }
}

impl MergeRequest {
    /// How much of an input's change is kept, for a method that sparsifies.
    #[must_use]
    pub fn kept(&self, input: &str) -> Kept {
        let own = self.trim_of(input);
        let constant = |density: f64| match density {
            1.0.. => Some(Trim::NONE),
            density => Trim::from_density(&density.to_string()).ok(),
        };
        match self.varying(input, "density", &own.density()) {
            None => Kept::Same(own),
            Some(Varying::Number(density)) => match constant(density) {
                Some(trim) => Kept::Same(trim),
                None => Kept::Varies(density.to_string()),
            },
            Some(Varying::Text(text)) => Kept::Varies(text),
        }
    }

    /// An input's weight, in words where it differs from tensor to tensor.
    #[must_use]
    pub fn weight_text(&self, input: &str) -> String {
        let own = self.inputs().find(|other| other.name == input);
        let own = own.map_or(1.0, |own| own.weight).to_string();
        match self.varying(input, "weight", &own) {
            None => own,
            Some(Varying::Number(weight)) => weight.to_string(),
            Some(Varying::Text(text)) => text,
        }
    }

    /// λ, in words where it differs from tensor to tensor.
    #[must_use]
    pub fn lambda_text(&self) -> String {
        match self.parameters.get("lambda") {
            None => self.lambda.to_string(),
            Some(setting) => setting.describe(Some(&self.lambda.to_string())),
        }
    }

    /// A parameter as an input's settings have it; `None` where none is set. `rest` is its value where no filter fits.
    fn varying(&self, input: &str, parameter: &str, rest: &str) -> Option<Varying> {
        let own = self.input_parameters.get(input).and_then(|own| own.get(parameter));
        let global = self.parameters.get(parameter);
        let text = |setting: Option<&Setting>| match setting {
            None => Varying::Text(rest.to_owned()),
            Some(setting) => match setting.everywhere() {
                Some(number) => Varying::Number(number),
                None => Varying::Text(setting.describe(Some(rest))),
            },
        };
        let mut slices = Vec::new();
        for (index, slice) in self.slices.iter().enumerate() {
            let source = slice
                .sources
                .iter()
                .find(|source| source.input.as_deref() == Some(input));
            let Some(source) = source else {
                continue;
            };
            let setting = source
                .parameters
                .get(parameter)
                .or(own)
                .or_else(|| slice.parameters.get(parameter));
            slices.push((index, setting.or(global)));
        }
        match slices.as_slice() {
            [] => own.or(global).map(|setting| text(Some(setting))),
            [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => {
                first.map(|first| text(Some(first)))
            }
            several => {
                let texts = several
                    .iter()
                    .map(|(index, setting)| format!("{} in slices[{index}]", text(*setting).in_words()));
                Some(Varying::Text(texts.collect::<Vec<_>>().join(", ")))
            }
        }
    }
}

/// A parameter's value.
enum Varying {
    Number(f64),
    Text(String),
}

impl Varying {
    fn in_words(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use serde_json::{Value, json};

    use super::*;
    use crate::{Input, Method, Settings, Slice, SliceSource};

    fn request(own: Option<Value>, global: Option<Value>) -> MergeRequest {
        let mut request = MergeRequest::new(Method::Ties, "base", "out");
        request.models = vec![Input::new("a", "a")];
        if let Some(own) = own {
            let mut settings = Settings::default();
            settings.set("density", Setting::parse(&own).unwrap());
            request.input_parameters.insert("a".to_owned(), settings);
        }
        if let Some(global) = global {
            request.parameters.set("density", Setting::parse(&global).unwrap());
        }
        request
    }

    #[test]
    fn what_is_kept_in_words() {
        let kept = |own, global| request(own, global).kept("a").describe();
        assert_eq!(kept(None, None), "trim 0.8: zero the smallest 80 %, keep 20 %");
        assert_eq!(
            kept(None, Some(json!(0.5))),
            "trim 0.5: zero the smallest 50 %, keep 50 %"
        );
        assert_eq!(
            kept(Some(json!(1)), Some(json!(0.5))),
            "trim 0: zero the smallest 0 %, keep 100 %"
        );
        assert_eq!(kept(Some(json!([0.3, 0.9])), None), "keep 0.3 → 0.9 over the layers");
        assert_eq!(
            kept(None, Some(json!([0.2, 0.5, 1]))),
            "keep 0.2 → 0.5 → 1 over the layers"
        );
        let filters = json!([{"filter": "self_attn", "value": 0.5}, {"filter": "mlp", "value": [0.3, 0.9]}]);
        assert_eq!(
            kept(Some(filters), None),
            "keep 0.5 in `self_attn`, 0.3 → 0.9 over the layers in `mlp`, 0.2 elsewhere"
        );
        let mut sliced = request(Some(json!(0.5)), None);
        let mut own = Settings::default();
        own.set("density", Setting::parse(&json!([0.3, 0.9])).unwrap());
        for parameters in [Settings::default(), own] {
            sliced.slices.push(Slice {
                sources: vec![SliceSource {
                    input: Some("a".to_owned()),
                    layers: 0..1,
                    parameters,
                }],
                parameters: Settings::default(),
            });
        }
        assert_eq!(
            sliced.kept("a").describe(),
            "keep 0.5 in slices[0], 0.3 → 0.9 over the layers in slices[1]"
        );
    }
}
