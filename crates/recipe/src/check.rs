//! Walks a tree against the JSON Schema and finds everything in it that does not fit.
//!
//! It understands the part of JSON Schema that the types generate, and words its findings for
//! people: the key, what is allowed there, the nearest valid word. Conditions that span several
//! keys or need the file system are checked while resolving.

mod words;

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::check::words::{constants, expected, explain, follow, mistyped_hint, non_null, plain, type_name, types_of};
use crate::kind::Kind;
use crate::schema::schema;
use crate::suggest::{accepted, alternatives, nearest};
use crate::yaml::{Node, Position, Value};

/// The schema is the same for the whole process.
static SCHEMA: LazyLock<Json> = LazyLock::new(schema);

/// Something that does not fit.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// Path of the value that is refused.
    pub(crate) path: Vec<String>,
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// One definition of the schema.
#[derive(Clone, Copy)]
pub(crate) struct Schema {
    root: &'static Json,
}

impl Schema {
    /// The definition of a kind of file.
    pub(crate) fn of(kind: Kind) -> Self {
        Self {
            root: &SCHEMA["$defs"][kind.definition()],
        }
    }

    /// The keys the definition has at its top.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'static str> {
        self.root["properties"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys().map(String::as_str))
    }

    /// Everything in the tree that does not fit, in file order of its sections.
    pub(crate) fn check(self, tree: &Node) -> Vec<Finding> {
        let mut walk = Walk {
            path: Vec::new(),
            findings: Vec::new(),
            root: self.root,
        };
        walk.node(tree, self.root);
        walk.findings
    }
}

struct Walk {
    path: Vec<String>,
    findings: Vec<Finding>,
    root: &'static Json,
}

impl Walk {
    fn refuse(&mut self, at: Position, message: String, hint: Option<String>) {
        self.findings.push(Finding {
            path: self.path.clone(),
            at,
            message,
            hint,
        });
    }

    fn node(&mut self, node: &Node, schema: &'static Json) {
        let outer = schema;
        let schema = follow(schema);
        if let Some(words) = constants(schema) {
            return self.word(node, outer, &words);
        }
        if let Some(branches) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return self.any_of(node, outer, branches);
        }
        let found = type_name(node);
        let types = types_of(schema);
        let fits = types.is_empty()
            || types
                .iter()
                .any(|kind| *kind == found || (*kind == "number" && found == "integer"));
        if !fits {
            let message = format!(
                "{} must be {}, found {}",
                self.name(),
                expected(schema),
                node.describe()
            );
            let hint = mistyped_hint(node, &types).or_else(|| explain(outer, schema));
            return self.refuse(node.at, message, hint);
        }
        match &node.value {
            Value::Map(entries) => self.mapping(node, entries, schema),
            Value::List(items) => {
                if let Some(least) = schema["minItems"]
                    .as_u64()
                    .filter(|least| (items.len() as u64) < *least)
                {
                    let plural = if least == 1 { "item" } else { "items" };
                    let message = format!("{} needs at least {least} {plural}, found {}", self.name(), items.len());
                    self.refuse(node.at, message, explain(outer, schema));
                }
                for (index, item) in items.iter().enumerate() {
                    self.inside(index.to_string(), |walk| walk.node(item, &schema["items"]));
                }
            }
            Value::Integer(_) | Value::Float(_) => self.number(node, outer, schema),
            Value::Text(text) => {
                let length = text.chars().count() as u64;
                if schema["minLength"].as_u64().is_some_and(|least| length < least) {
                    self.refuse(
                        node.at,
                        format!("{} must not be empty", self.name()),
                        explain(outer, schema),
                    );
                } else if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
                    let message = format!("{} has {length} characters, at most {most} are allowed", self.name());
                    self.refuse(node.at, message, None);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn mapping(&mut self, node: &Node, entries: &[crate::yaml::Entry], schema: &'static Json) {
        let properties = schema["properties"].as_object();
        let others = &schema["additionalProperties"];
        for entry in entries {
            match properties.and_then(|known| known.get(accepted(&entry.key))) {
                Some(inner) => self.inside(entry.key.clone(), |walk| walk.node(&entry.node, inner)),
                // Whoever reads this section knows its keys.
                None if *others == Json::Bool(true) => {}
                None if others.is_object() => {
                    self.inside(entry.key.clone(), |walk| walk.node(&entry.node, others));
                }
                None => {
                    let place = if self.path.is_empty() {
                        String::new()
                    } else {
                        format!(" in {}", self.place())
                    };
                    let known: Vec<&str> = properties
                        .map(|map| map.keys().map(String::as_str).collect())
                        .unwrap_or_default();
                    let hint = self.unknown_key_hint(&entry.key, &known);
                    let message = format!("unknown key `{}`{place}", entry.key);
                    self.inside(entry.key.clone(), |walk| {
                        walk.refuse(entry.at, message, hint);
                    });
                }
            }
        }
        for required in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !entries.iter().any(|entry| accepted(&entry.key) == required) {
                let place = if self.path.is_empty() {
                    String::new()
                } else {
                    format!(" in {}", self.place())
                };
                let hint = properties
                    .and_then(|known| known.get(required))
                    .and_then(|inner| explain(inner, follow(inner)))
                    .map(|text| format!("{required}: {text}"));
                let at = if self.path.is_empty() {
                    Position {
                        set: node.at.set,
                        ..Position::default()
                    }
                } else {
                    node.at
                };
                let message = format!("missing key `{required}`{place}");
                self.inside(required.to_owned(), |walk| walk.refuse(at, message, hint));
            }
        }
    }

    /// The nearest key here, or the section that has such a key.
    fn unknown_key_hint(&self, key: &str, known: &[&str]) -> Option<String> {
        if key == "<<" {
            return Some("YAML 1.2 has no merge keys; write the keys out".to_owned());
        }
        if let Some(near) = nearest(key, known.iter().copied()) {
            return Some(format!("did you mean `{near}`?"));
        }
        let sections = self.root["properties"].as_object()?;
        let owner = sections.iter().find_map(|(section, inner)| {
            let keys = follow(non_null(follow(inner)))["properties"].as_object()?;
            nearest(key, keys.keys().map(String::as_str)).map(|near| (section, near))
        });
        if let Some((section, near)) = owner {
            return Some(format!("`{near}` belongs under `{section}`"));
        }
        if let Some(near) = nearest(key, sections.keys().map(String::as_str)).filter(|_| !self.path.is_empty()) {
            return Some(format!("`{near}` belongs at the top of the file"));
        }
        (!known.is_empty()).then(|| format!("keys here are {}", known.join(", ")))
    }

    /// Values that may take several shapes: one of them must fit wholly.
    fn any_of(&mut self, node: &Node, outer: &'static Json, branches: &'static [Json]) {
        let mut attempts = Vec::new();
        for branch in branches {
            let mut walk = Walk {
                path: self.path.clone(),
                findings: Vec::new(),
                root: self.root,
            };
            walk.node(node, branch);
            if walk.findings.is_empty() {
                return;
            }
            attempts.push((branch, walk.findings));
        }
        // The shape that was meant is the one whose outermost type fits, if there is just one.
        let mut meant = attempts.iter().filter(|(branch, _)| {
            let schema = follow(branch);
            types_of(schema).iter().any(|kind| *kind == type_name(node))
        });
        match (meant.next(), meant.next()) {
            (Some((branch, findings)), None) if constants(follow(branch)).is_none() => {
                self.findings.extend(findings.iter().cloned());
            }
            _ => {
                let shapes: Vec<String> = branches
                    .iter()
                    .filter(|branch| types_of(follow(branch)) != ["null"])
                    .map(|branch| expected(follow(branch)))
                    .collect();
                let message = format!(
                    "{} must be {}, found {}",
                    self.name(),
                    shapes.join(" or "),
                    node.describe()
                );
                let words = branches.iter().filter_map(|branch| constants(follow(branch))).flatten();
                let near = match &node.value {
                    Value::Text(text) => nearest(text, words.collect::<Vec<_>>().into_iter().filter_map(Json::as_str)),
                    _ => None,
                };
                let hint = near.map(|word| format!("did you mean `{word}`?"));
                let kinds: Vec<&str> = branches.iter().flat_map(|branch| types_of(follow(branch))).collect();
                let hint = hint
                    .or_else(|| mistyped_hint(node, &kinds))
                    .or_else(|| explain(outer, follow(outer)));
                self.refuse(node.at, message, hint);
            }
        }
    }

    /// A value out of a fixed list.
    fn word(&mut self, node: &Node, outer: &'static Json, words: &[&'static Json]) {
        let value = node.to_json();
        if words.iter().any(|word| **word == value) {
            return;
        }
        let texts: Vec<String> = words.iter().map(|word| plain(word)).collect();
        let list = alternatives(texts.iter().map(String::as_str));
        let message = format!("{} must be {list}, found {}", self.name(), node.describe());
        let hint = match &node.value {
            Value::Text(text) => {
                nearest(text, texts.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
            }
            _ => None,
        };
        self.refuse(node.at, message, hint.or_else(|| explain(outer, follow(outer))));
    }

    fn number(&mut self, node: &Node, outer: &'static Json, schema: &'static Json) {
        let value = match node.value {
            #[expect(
                clippy::cast_precision_loss,
                reason = "limits are far from where integers lose digits"
            )]
            Value::Integer(value) => value as f64,
            Value::Float(value) => value,
            _ => return,
        };
        let bound = |name: &str| schema[name].as_f64();
        let limit = |name: &str| plain(&schema[name]);
        let problem = if !value.is_finite() {
            Some("be a finite number".to_owned())
        } else if bound("minimum").is_some_and(|least| value < least) {
            Some(format!("be at least {}", limit("minimum")))
        } else if bound("exclusiveMinimum").is_some_and(|least| value <= least) {
            Some(format!("be greater than {}", limit("exclusiveMinimum")))
        } else if bound("maximum").is_some_and(|most| value > most) {
            Some(format!("be at most {}", limit("maximum")))
        } else if bound("exclusiveMaximum").is_some_and(|most| value >= most) {
            Some(format!("be less than {}", limit("exclusiveMaximum")))
        } else {
            None
        };
        if let Some(problem) = problem {
            let message = format!("{} must {problem}, found {}", self.name(), node.describe());
            self.refuse(node.at, message, explain(outer, schema));
        }
    }

    fn inside(&mut self, step: String, check: impl FnOnce(&mut Self)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }

    fn name(&self) -> String {
        if self.path.is_empty() {
            "this file".to_owned()
        } else {
            format!("`{}`", self.place())
        }
    }

    /// The path as a reader writes it: `data[0].samples`.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            if step.bytes().all(|byte| byte.is_ascii_digit()) {
                place.push_str(&format!("[{step}]"));
            } else {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(step);
            }
        }
        place
    }
}
