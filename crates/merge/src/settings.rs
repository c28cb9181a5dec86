//! Parameter values as mergekit's YAML writes them: one value, a gradient over the layers, or a list of filters.

use std::collections::BTreeMap;

use serde_json::Value;

/// One parameter: a list of conditions, of which the first that fits a tensor's name counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    /// Part of the tensor's name; `None` fits all.
    filter: Option<String>,
    /// One value, or a gradient from the first layer to the last.
    values: Vec<f64>,
    /// The values are true and false, and are not interpolated.
    flags: bool,
}

impl Setting {
    /// The same number everywhere.
    pub fn number(value: f64) -> Self {
        Self(vec![Condition {
            filter: None,
            values: vec![value],
            flags: false,
        }])
    }

    /// The same answer everywhere.
    pub fn flag(value: bool) -> Self {
        Self(vec![Condition {
            filter: None,
            values: vec![f64::from(u8::from(value))],
            flags: true,
        }])
    }

    /// Reads mergekit's forms: a scalar, a list of scalars, or a list of `{filter, value}`.
    ///
    /// # Errors
    /// Says what the value should have been.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let conditions = match value {
            Value::Array(list) if list.iter().any(Value::is_object) => {
                list.iter().map(condition).collect::<Result<Vec<_>, _>>()?
            }
            Value::Object(_) => vec![condition(value)?],
            plain => vec![scalars(plain, None)?],
        };
        if conditions.is_empty() {
            return Err("is an empty list".to_owned());
        }
        Ok(Self(conditions))
    }

    /// The value for a tensor at a place between the first layer (0) and the last (1); `None` where no filter fits.
    pub fn at(&self, tensor: &str, position: f64) -> Option<f64> {
        let fits = |condition: &&Condition| {
            condition
                .filter
                .as_ref()
                .is_none_or(|part| tensor.contains(part.as_str()))
        };
        let Condition { values, flags, .. } = self.0.iter().find(fits)?;
        let scaled = position * (values.len() - 1) as f64;
        let left = scaled as usize;
        if *flags {
            return values.get(left).copied();
        }
        let right = (left + 1).min(values.len() - 1);
        let share = scaled - left as f64;
        Some((1.0 - share) * values[left] + share * values[right])
    }

    /// The value, where it is the same for every tensor.
    pub fn everywhere(&self) -> Option<f64> {
        match &self.0[..] {
            [
                Condition {
                    filter: None, values, ..
                },
            ] if values.len() == 1 => values.first().copied(),
            _ => None,
        }
    }

    /// All values, including the ends of gradients.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().flat_map(|condition| condition.values.iter().copied())
    }

    /// In words: `0.3`, `0.2 → 0.8 over the layers`, `0.5 in `mlp`, 0.2 elsewhere`. `rest` is the value where no filter fits.
    pub(crate) fn describe(&self, rest: Option<&str>) -> String {
        let values = |condition: &Condition| {
            let texts: Vec<String> = condition
                .values
                .iter()
                .map(|&value| {
                    if condition.flags {
                        (value != 0.0).to_string()
                    } else {
                        value.to_string()
                    }
                })
                .collect();
            match &texts[..] {
                [one] => one.clone(),
                many => format!("{} over the layers", many.join(" → ")),
            }
        };
        let mut parts = Vec::new();
        for condition in &self.0 {
            match &condition.filter {
                Some(filter) => parts.push(format!("{} in `{filter}`", values(condition))),
                // Nothing behind a condition that always fits counts.
                None if parts.is_empty() => return values(condition),
                None => {
                    parts.push(format!("{} elsewhere", values(condition)));
                    return parts.join(", ");
                }
            }
        }
        parts.extend(rest.map(|rest| format!("{rest} elsewhere")));
        parts.join(", ")
    }

    /// As YAML's flow style, which is JSON's.
    pub fn yaml(&self) -> String {
        let scalar = |condition: &Condition, value: f64| {
            if condition.flags {
                (value != 0.0).to_string()
            } else {
                format!("{value:?}")
            }
        };
        let values = |condition: &Condition| {
            let texts: Vec<String> = condition.values.iter().map(|&value| scalar(condition, value)).collect();
            match &texts[..] {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            }
        };
        match &self.0[..] {
            [only @ Condition { filter: None, .. }] => values(only),
            many => {
                let texts: Vec<String> = many
                    .iter()
                    .map(|condition| {
                        let filter = condition.filter.as_deref().unwrap_or("*");
                        format!("{{filter: {}, value: {}}}", Value::from(filter), values(condition))
                    })
                    .collect();
                format!("[{}]", texts.join(", "))
            }
        }
    }
}

fn condition(value: &Value) -> Result<Condition, String> {
    let Some(map) = value.as_object() else {
        return Err(format!(
            "mixes filters with the plain value {value}; give that one a filter of \"*\""
        ));
    };
    if let Some(key) = map.keys().find(|key| !["filter", "value"].contains(&key.as_str())) {
        return Err(format!(
            "has a filter with the unknown key `{key}` (filter and value are known)"
        ));
    }
    let filter = match map.get("filter") {
        None | Some(Value::Null) => None,
        Some(Value::String(part)) if part == "*" => None,
        Some(Value::String(part)) => Some(part.clone()),
        Some(other) => return Err(format!("has the filter {other}, which is not text")),
    };
    let value = map.get("value").ok_or("has a filter without a value")?;
    scalars(value, filter)
}

fn scalars(value: &Value, filter: Option<String>) -> Result<Condition, String> {
    let list = match value {
        Value::Array(list) if list.is_empty() => return Err("is an empty list".to_owned()),
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let flags = list.iter().all(Value::is_boolean);
    let number = |value: &Value| match value {
        Value::Bool(flag) if flags => Ok(f64::from(u8::from(*flag))),
        Value::Number(number) => number
            .as_f64()
            .ok_or_else(|| format!("holds {number}, which is not a number")),
        // 1e-5 without a point is text to YAML 1.1 readers, and a number to mergekit.
        Value::String(text) => text.parse().map_err(|_| format!("must be a number, found `{text}`")),
        Value::Null => Err("must be a number, found nothing".to_owned()),
        other => Err(format!("must be a number, found {other}")),
    };
    let values = list.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("must be finite, found {value}")),
        None => Ok(Condition { filter, values, flags }),
    }
}

/// The parameters of one level, by mergekit's names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(pub(crate) BTreeMap<String, Setting>);

impl Settings {
    /// Sets one parameter.
    pub fn set(&mut self, name: &str, setting: Setting) {
        self.0.insert(name.to_owned(), setting);
    }

    /// One parameter, if it is set.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Removes one parameter and returns it.
    pub fn take(&mut self, name: &str) -> Option<Setting> {
        self.0.remove(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(name, setting)| (name.as_str(), setting))
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Levels of settings, the most particular first, for one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels<'a> {
    pub(crate) levels: &'a [&'a Settings],
    pub(crate) tensor: &'a str,
    pub(crate) position: f64,
}

impl Levels<'_> {
    /// The number that the most particular level gives.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.levels
            .iter()
            .find_map(|settings| settings.get(name)?.at(self.tensor, self.position))
    }

    /// The same as a yes or no.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.number(name).map(|value| value != 0.0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use serde_json::json;

    use super::*;

    fn at(value: &Value, tensor: &str, position: f64) -> Option<f64> {
        Setting::parse(value).unwrap().at(tensor, position)
    }

    #[test]
    fn gradients_and_filters() {
        let slerp = json!([{"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]}, {"value": 0.5}]);
        assert_eq!(at(&slerp, "model.layers.3.self_attn.q_proj.weight", 0.5), Some(0.3));
        assert_eq!(at(&slerp, "model.layers.3.self_attn.q_proj.weight", 0.125), Some(0.25));
        assert_eq!(at(&slerp, "model.layers.3.mlp.up_proj.weight", 0.125), Some(0.5));
        assert_eq!(at(&slerp, "model.layers.3.self_attn.q_proj.weight", 1.0), Some(1.0));
        assert_eq!(at(&json!([{"filter": "mlp", "value": 1}]), "norm", 0.0), None);
        assert_eq!(at(&json!([true, false]), "norm", 0.9), Some(1.0));
        assert_eq!(at(&json!("1e-3"), "norm", 0.9), Some(1e-3));
        assert_eq!(Setting::parse(&json!([1, 2])).unwrap().everywhere(), None);
    }

    #[test]
    fn reads_what_it_writes() {
        for value in [
            json!(0.3),
            json!(true),
            json!([0.0, 1.5]),
            json!([{"filter": "a", "value": [1.0, 2.0]}, {"filter": "*", "value": 0.25}]),
        ] {
            let setting = Setting::parse(&value).unwrap();
            let read: Value = serde_yaml::from_str(&setting.yaml()).unwrap();
            assert_eq!(Setting::parse(&read), Ok(setting));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for (value, message) in [
            (json!([]), "empty list"),
            (json!("much"), "found `much`"),
            (json!([1, {"value": 2}]), "mixes filters"),
            (json!([{"filter": "a"}]), "without a value"),
            (json!([{"fliter": "a", "value": 1}]), "unknown key `fliter`"),
            (json!([true, 1]), "must be a number"),
        ] {
            let problem = Setting::parse(&value).unwrap_err();
            assert!(problem.contains(message), "{problem}");
        }
    }
}
