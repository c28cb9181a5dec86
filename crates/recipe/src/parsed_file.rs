//! A YAML file with the command line's overrides applied, checked against the schema, and turned
//! into the types it is written in. What the values mean is `resolve`'s business.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::check::{Finding, Schema};
use crate::diagnostics::{Diagnostics, Problem};
use crate::kind::Kind;
use crate::overrides::Override;
use crate::yaml::{self, Node, Position, Value};

/// A file as a tree, and who is to blame for what in it.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    pub(crate) file: PathBuf,
    pub(crate) tree: Node,
    overrides: Vec<Override>,
    /// Paths whose values the schema refused; later checks have nothing to say about them.
    refused: Vec<String>,
}

impl ParsedFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not YAML, or repeats keys.
    pub(crate) fn read(file: &Path) -> Result<Self, Diagnostics> {
        let mut problems = Vec::new();
        let mut fail = |at: Position, key: &str, message: String, hint: Option<String>| {
            problems.push(Problem {
                file: file.to_owned(),
                line: at.line,
                column: at.column,
                key: key.to_owned(),
                message,
                hint,
            });
        };
        let text = match std::fs::read(file) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
                format!(
                    "this is not UTF-8 text: byte {} is invalid",
                    error.utf8_error().valid_up_to()
                )
            }),
            Err(error) => Err(format!("cannot read this file: {error}")),
        };
        let text = match text {
            Ok(text) => text,
            Err(message) => {
                fail(Position::default(), "", message, None);
                return Err(Diagnostics::new(problems));
            }
        };
        let (tree, faults) = yaml::parse(&text);
        let readable = faults.is_empty();
        for fault in faults {
            let hint = fault.key.is_empty().then(|| yaml_hint(&text, fault.at.line)).flatten();
            fail(fault.at, &fault.key, fault.message, hint);
        }
        match &tree {
            Some(Node {
                value: Value::Map(_), ..
            }) => {}
            Some(other) => {
                let message = format!("expected a mapping of keys to values, found {}", other.describe());
                fail(other.at, "", message, None);
            }
            None if readable => {
                let hint = "a recipe needs at least name, base, data and output".to_owned();
                fail(Position::default(), "", "this file is empty".to_owned(), Some(hint));
            }
            None => {}
        }
        match tree.filter(|tree| matches!(tree.value, Value::Map(_))) {
            Some(tree) if problems.is_empty() => Ok(Self {
                file: file.to_owned(),
                tree,
                overrides: Vec::new(),
                refused: Vec::new(),
            }),
            _ => Err(Diagnostics::new(problems)),
        }
    }

    /// Puts values from the command line into the tree; the problems of those that do not fit in.
    pub(crate) fn apply(&mut self, overrides: Vec<Override>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, change) in overrides.iter().enumerate() {
            if let Err(message) = change.apply(&mut self.tree, index) {
                problems.push(change.problem(message));
            }
        }
        self.overrides = overrides;
        problems
    }

    /// What kind of file this is, by its keys.
    pub(crate) fn kind(&self) -> Kind {
        match &self.tree.value {
            Value::Map(entries) => {
                let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
                Kind::of(&keys)
            }
            _ => Kind::Recipe,
        }
    }

    /// Whether one of a recipe's sources is this dataset.
    pub(crate) fn names_dataset(&self, name: &str) -> bool {
        let sources = match self.tree.get("data").map(|data| &data.value) {
            Some(Value::List(sources)) => sources.as_slice(),
            _ => &[],
        };
        let dataset = |source: &Node| source.get("dataset").map(|dataset| dataset.value.clone());
        sources
            .iter()
            .any(|source| matches!(dataset(source), Some(Value::Text(text)) if text == name))
    }

    /// The folder that the file's relative paths start from.
    pub(crate) fn folder(&self) -> &Path {
        match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Checks the tree against the schema and reads it as `T`. Refused values are taken out, so
    /// that the rest can still be read and checked; `None` only when even that is impossible.
    pub(crate) fn deserialize<T: DeserializeOwned>(&mut self, kind: Kind) -> (Option<T>, Vec<Problem>) {
        let findings = Schema::of(kind).check(&self.tree);
        let mut problems: Vec<Problem> = findings.iter().map(|finding| self.finding(finding)).collect();
        // Later list items first, so that indices stay true while values are taken out.
        for finding in findings.iter().rev() {
            self.refused.push(finding.path.join("."));
            self.tree.remove(&finding.path);
        }
        match serde_json::from_value::<T>(self.tree.to_json()) {
            Ok(value) => (Some(value), problems),
            Err(error) => {
                if problems.is_empty() {
                    let message = format!("this file cannot be read: {error}");
                    problems.push(self.problem_at(Position::default(), "", message, None));
                }
                (None, problems)
            }
        }
    }

    /// Whether the schema already refused this key, its section, or something inside it.
    pub(crate) fn is_refused(&self, key: &str) -> bool {
        let inside = |outer: &str, inner: &str| {
            inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
        };
        self.refused
            .iter()
            .any(|refused| inside(refused, key) || inside(key, refused))
    }

    /// Whether the value at `key` came from the command line, so that its paths start there.
    pub(crate) fn is_override(&self, key: &str) -> bool {
        let path: Vec<&str> = key.split('.').collect();
        self.tree.locate(&path).at.set.is_some()
    }

    /// A problem with the value of a dotted key.
    pub(crate) fn at_value(&self, key: &str, message: String, hint: Option<String>) -> Problem {
        let path: Vec<&str> = key.split('.').collect();
        self.problem_at(self.tree.locate(&path).at, key, message, hint)
    }

    /// A problem with a dotted key itself.
    pub(crate) fn at_key(&self, key: &str, message: String, hint: Option<String>) -> Problem {
        let path: Vec<&str> = key.split('.').collect();
        self.problem_at(self.tree.key_position(&path), key, message, hint)
    }

    fn finding(&self, finding: &Finding) -> Problem {
        self.problem_at(
            finding.at,
            &finding.path.join("."),
            finding.message.clone(),
            finding.hint.clone(),
        )
    }

    fn problem_at(&self, at: Position, key: &str, message: String, hint: Option<String>) -> Problem {
        if let Some(change) = at.set.and_then(|index| self.overrides.get(index)) {
            return Problem {
                hint,
                key: key.to_owned(),
                ..change.problem(message)
            };
        }
        Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            key: key.to_owned(),
            message,
            hint,
        }
    }
}

/// The usual reasons for YAML that does not parse.
fn yaml_hint(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    if lines.iter().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
        return Some("YAML is indented with spaces, never with tabs".to_owned());
    }
    None
}
