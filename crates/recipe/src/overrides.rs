//! `--set a.b=c`: values from the command line, put into a file's tree before it is checked.

use std::path::PathBuf;

use crate::diagnostics::Problem;
use crate::yaml::{self, Entry, Node, Position, Value};

/// One `--set`.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    /// As it was typed, without the flag.
    text: String,
    path: Vec<String>,
    value: Value,
}

impl Override {
    /// Reads `a.b=c`, where `c` is a YAML scalar, list or mapping in flow style.
    ///
    /// # Errors
    /// When there is no `=`, an empty key, or a value that starts with a quote or bracket and is not YAML.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let refuse = |message: String| Problem {
            file: PathBuf::from(format!("--set {text}")),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            hint: Some("overrides have the form --set train.epochs=1".to_owned()),
        };
        let Some((key, value)) = text.split_once('=') else {
            return Err(refuse("expected KEY=VALUE, found no `=`".to_owned()));
        };
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(refuse(format!("`{key}` is not a dotted key")));
        }
        let value = parse_value(value).map_err(refuse)?;
        Ok(Self {
            text: text.to_owned(),
            path,
            value,
        })
    }

    /// The key's first step: a section, or a recipe's name.
    pub(crate) fn head(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// The same override one level down: `math.train.epochs` becomes `train.epochs`.
    pub(crate) fn without_head(&self) -> Option<Self> {
        let path = self.path.get(1..).filter(|rest| !rest.is_empty())?.to_vec();
        Some(Self { path, ..self.clone() })
    }

    /// Puts the value into the tree, making the sections on its way.
    pub(crate) fn apply(&self, tree: &mut Node, index: usize) -> Result<(), String> {
        let at = Position {
            set: Some(index),
            ..Position::default()
        };
        let mut node = tree;
        for (depth, step) in self.path.iter().enumerate() {
            if matches!(node.value, Value::Null) {
                node.value = Value::Map(Vec::new());
            }
            let description = node.describe();
            node = match &mut node.value {
                Value::Map(entries) => {
                    let found = entries.iter().position(|entry| entry.key == *step);
                    let place = found.unwrap_or_else(|| {
                        entries.push(Entry {
                            key: step.clone(),
                            at,
                            node: Node { at, value: Value::Null },
                        });
                        entries.len() - 1
                    });
                    &mut entries[place].node
                }
                Value::List(items) => {
                    let count = items.len();
                    step.parse::<usize>()
                        .ok()
                        .and_then(|place| items.get_mut(place))
                        .ok_or_else(|| {
                            format!(
                                "`{}` has {count} items, counted from 0; there is no `{step}`",
                                self.path[..depth].join(".")
                            )
                        })?
                }
                _ => {
                    return Err(format!(
                        "`{}` is {description}, it has no key `{step}`",
                        self.path[..depth].join(".")
                    ));
                }
            };
        }
        *node = Node {
            at,
            value: self.value.clone(),
        };
        stamp(node, at);
        Ok(())
    }

    /// A problem that this override causes.
    pub(crate) fn problem(&self, message: String) -> Problem {
        Problem {
            file: PathBuf::from(format!("--set {}", self.text)),
            line: 0,
            column: 0,
            key: self.path.join("."),
            message,
            hint: None,
        }
    }
}

/// Everything inside an override's value came from that override.
fn stamp(node: &mut Node, at: Position) {
    node.at = at;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| stamp(item, at)),
        Value::Map(entries) => {
            for entry in entries {
                entry.at = at;
                stamp(&mut entry.node, at);
            }
        }
        _ => {}
    }
}

/// Quotes and brackets are YAML; everything else is one plain scalar, so `a: b` stays a text.
fn parse_value(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let (node, faults) = yaml::parse(text);
    let structured = text.starts_with(['{', '[', '"', '\'']);
    match node {
        Some(node) if faults.is_empty() && (structured || !matches!(node.value, Value::Map(_) | Value::List(_))) => {
            Ok(node.value)
        }
        _ if structured => {
            let reason = faults
                .first()
                .map_or_else(|| "it is incomplete".to_owned(), |fault| fault.message.clone());
            Err(format!("the value `{text}` cannot be read: {reason}"))
        }
        _ => Ok(Value::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn applied(yaml: &str, text: &str) -> serde_json::Value {
        let (tree, _) = yaml::parse(yaml);
        let mut tree = tree.unwrap();
        Override::parse(text).unwrap().apply(&mut tree, 0).unwrap();
        tree.to_json()
    }

    #[test]
    fn values_are_yaml_and_sections_are_made() {
        assert_eq!(
            applied("a: 1", "train.epochs=0.5"),
            serde_json::json!({"a": 1, "train": {"epochs": 0.5}})
        );
        assert_eq!(applied("a: 1", "a=[x, 2]"), serde_json::json!({"a": ["x", 2]}));
        assert_eq!(applied("a: 1", "a=note: this"), serde_json::json!({"a": "note: this"}));
        assert_eq!(applied("a: 1", "a=\"1\""), serde_json::json!({"a": "1"}));
        assert_eq!(
            applied("d: [{s: 1}, {s: 2}]", "d.1.s=all"),
            serde_json::json!({"d": [{"s": 1}, {"s": "all"}]})
        );
    }
}
