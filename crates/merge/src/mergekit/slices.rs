//! Stacked layers: the slices of a file and the models they take layers from.

use serde_json::{Map, Value};

use super::Above;
use crate::merge_file::{FileInput, FileSlice};
use crate::reader::Reader;
use crate::settings::Settings;

const SLICE: [&str; 3] = ["sources", "base_model", "parameters"];
const SOURCE: [&str; 3] = ["model", "layer_range", "parameters"];

impl Reader {
    /// `slices`, and the models they take from.
    pub(super) fn slices(&mut self, list: &Value, above: &Above<'_>) -> (Vec<FileInput>, Vec<FileSlice>) {
        let mut inputs: Vec<FileInput> = Vec::new();
        let mut slices = Vec::new();
        for (index, slice) in self.list(list, "slices").into_iter().flatten().enumerate() {
            let location = format!("slices[{index}]");
            let Some(slice) = self.mapping(slice, &location) else {
                continue;
            };
            self.unknown(slice, &location, &SLICE);
            let own_base = slice
                .get("base_model")
                .and_then(|value| self.reference(value, &format!("{location}.base_model")));
            if own_base.is_some() && own_base.as_deref() != above.base {
                self.problem(
                    &format!("{location}.base_model"),
                    "differs from the whole merge's; all slices share one base",
                );
            }
            let mut read = FileSlice {
                sources: Vec::new(),
                parameters: self.settings(slice, &location, above.method),
            };
            let Some(sources) = slice
                .get("sources")
                .and_then(|sources| self.list(sources, &format!("{location}.sources")))
            else {
                self.problem(&format!("{location}.sources"), "is missing");
                continue;
            };
            for (at, source) in sources.iter().enumerate() {
                let location = format!("{location}.sources[{at}]");
                let Some(source) = self.mapping(source, &location) else {
                    continue;
                };
                self.unknown(source, &location, &SOURCE);
                let (Some(model), Some(layers)) = (self.model(source, &location), self.layers(source, &location))
                else {
                    continue;
                };
                let own = self.settings(source, &location, above.method);
                let input = (above.base != Some(&model)).then(|| {
                    inputs.iter().position(|input| input.model == model).unwrap_or_else(|| {
                        inputs.push(self.input(model, Settings::default(), above.global, &location));
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
    fn layers(&mut self, source: &Map<String, Value>, location: &str) -> Option<std::ops::Range<usize>> {
        let range = source.get("layer_range").and_then(Value::as_array).map(Vec::as_slice);
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        if let Some([first, last]) = range
            && let (Some(first), Some(last)) = (number(first), number(last))
            && first <= last
        {
            return Some(first..last);
        }
        self.problem(
            &format!("{location}.layer_range"),
            "must be [first, behind the last], two layer numbers",
        );
        None
    }
}
