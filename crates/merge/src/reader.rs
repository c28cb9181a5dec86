//! Reads typed values from a YAML tree and collects all problems instead of stopping at the first.
//!
//! What this is not: the keys of a file, which are in mergekit.rs.

use std::str::FromStr;

use serde_json::{Map, Value};
use synapse_checkpoint::DType;

use crate::parse_dtype;

/// Collects problems and warnings while walking the tree.
pub(crate) struct Reader {
    pub(crate) file: String,
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Reader {
    /// The mapping at `location`.
    pub(crate) fn mapping<'v>(&mut self, value: &'v Value, location: &str) -> Option<&'v Map<String, Value>> {
        let map = value.as_object();
        if map.is_none() {
            self.problem(location, &format!("must be a mapping, found {}", shape(value)));
        }
        map
    }

    /// A text, if the key is there.
    pub(crate) fn text(&mut self, map: &Map<String, Value>, location: &str, key: &str) -> Option<String> {
        let value = map.get(key)?;
        let text = value.as_str();
        if text.is_none() {
            self.problem(&join(location, key), &format!("must be text, found {}", shape(value)));
        }
        text.map(str::to_owned)
    }

    /// True or false, if the key is there.
    pub(crate) fn boolean(&mut self, map: &Map<String, Value>, location: &str, key: &str) -> Option<bool> {
        let value = map.get(key)?;
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.problem(
                &join(location, key),
                &format!("must be true or false, found {}", shape(value)),
            );
        }
        boolean
    }

    /// A dtype, if the key is there and not null.
    pub(crate) fn dtype(&mut self, map: &Map<String, Value>, location: &str, key: &str) -> Option<DType> {
        if map.get(key)?.is_null() {
            return None;
        }
        let word = self.text(map, location, key)?;
        match parse_dtype(&word) {
            Ok(dtype) => Some(dtype),
            Err(problem) => {
                self.problem(&join(location, key), &problem);
                None
            }
        }
    }

    /// One of a set of names, if the key is there.
    pub(crate) fn word<T: FromStr<Err = String>>(
        &mut self,
        map: &Map<String, Value>,
        location: &str,
        key: &str,
    ) -> Option<T> {
        let word = self.text(map, location, key)?;
        match word.parse() {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problem(&join(location, key), &problem);
                None
            }
        }
    }

    /// A list.
    pub(crate) fn list<'v>(&mut self, value: &'v Value, location: &str) -> Option<&'v Vec<Value>> {
        let list = value.as_array();
        if list.is_none() {
            self.problem(location, &format!("must be a list, found {}", shape(value)));
        }
        list
    }

    /// Warns about unknown keys.
    pub(crate) fn unknown(&mut self, map: &Map<String, Value>, location: &str, known: &[&str]) {
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let key_path = join(location, key);
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .min()
                .filter(|(distance, _)| *distance <= 2)
                .map(|(_, known)| format!("; did you mean `{known}`?"))
                .unwrap_or_default();
            self.warnings.push(format!(
                "{}: unknown key `{key_path}` is ignored, as mergekit does{nearest}",
                self.file
            ));
        }
    }

    /// Records a problem with a key.
    pub(crate) fn problem(&mut self, key: &str, message: &str) {
        self.problems.push(format!("{}: `{key}` {message}", self.file));
    }
}

fn join(location: &str, key: &str) -> String {
    if location.is_empty() {
        key.to_owned()
    } else {
        format!("{location}.{key}")
    }
}

/// The kind of a value, for messages.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        scalar => format!("`{scalar}`"),
    }
}
