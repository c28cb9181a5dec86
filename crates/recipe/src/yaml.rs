//! YAML as a tree that remembers where everything stood.
//!
//! Built from parser events rather than loaded, because a loader stops at the first duplicate key
//! and forgets positions. It knows no recipe: only mappings, lists and scalars.

use std::collections::BTreeMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Marker, Parser};

/// Deeper nesting is refused: no recipe needs it, and walks over the tree recurse.
const MAX_DEPTH: usize = 64;
/// Aliases may expand to this many nodes in all, so that a small file cannot become a huge tree.
const MAX_ALIAS_NODES: usize = 10_000;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Line from 1.
    pub(crate) line: usize,
    /// Column from 1.
    pub(crate) column: usize,
    /// Index of the `--set` that put the node there, instead of the file.
    pub(crate) set: Option<usize>,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
            set: None,
        }
    }
}

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping, in file order. Keys are unique.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// Something the YAML itself gets wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Position,
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Node {
    /// The value under `key`, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Follows a path of keys and list indices as far as it exists; the node it ends at.
    pub(crate) fn locate(&self, path: &[&str]) -> &Node {
        let mut node = self;
        for step in path {
            let next = match &node.value {
                Value::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Where the key at the end of `path` stands, or the nearest thing to it that exists.
    pub(crate) fn key_position(&self, path: &[&str]) -> Position {
        let Some((last, parents)) = path.split_last() else {
            return self.at;
        };
        let parent = self.locate(parents);
        match &parent.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == *last)
                .map_or(parent.at, |entry| entry.at),
            _ => self.locate(path).at,
        }
    }

    /// Takes the value at `path` out of the tree, so that its default takes its place.
    pub(crate) fn remove(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            self.value = Value::Map(Vec::new());
            return;
        };
        match &mut self.value {
            Value::Map(entries) if rest.is_empty() => entries.retain(|entry| entry.key != *first),
            Value::Map(entries) => {
                if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *first) {
                    entry.node.remove(rest);
                }
            }
            Value::List(items) => match first.parse::<usize>() {
                Ok(index) if index < items.len() && rest.is_empty() => drop(items.remove(index)),
                Ok(index) if index < items.len() => items[index].remove(rest),
                _ => {}
            },
            _ => {}
        }
    }

    /// The same tree without positions.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect(),
        }
    }

    /// How the value reads in a message.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("{value}"),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(text) => format!("the text `{}`", shorten(text)),
            Value::List(items) if items.is_empty() => "an empty list".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
            _ => 0,
        }
    }
}

/// The first words of a text that may be long.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 && line.len() == text.len() {
        return text.to_owned();
    }
    line.chars().take(60).chain(['…']).collect()
}

/// A collection whose end has not been met yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(String, Position)>,
}

/// Reads one YAML document. Duplicate keys are collected and the first value kept; what makes the
/// rest unreadable ends the tree.
pub(crate) fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let fault = match event {
            Ok((event, span)) => builder.event(event, span.start.into()),
            Err(error) => Err(Fault {
                at: (*error.marker()).into(),
                key: String::new(),
                message: format!("this is not YAML: {}", error.info()),
            }),
        };
        if let Err(fault) = fault {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    }
    if builder.documents > 1 {
        builder.faults.push(Fault {
            at: Position::default(),
            key: String::new(),
            message: format!("expected one YAML document, found {}", builder.documents),
        });
    }
    (builder.root, builder.faults)
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    alias_nodes: usize,
    documents: usize,
    faults: Vec<Fault>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Position) -> Result<(), Fault> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.begin(Value::List(Vec::new()), anchor, at),
            Event::MappingStart(anchor, _) => self.begin(Value::Map(Vec::new()), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.place(done.node, done.anchor),
                None => Ok(()),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let value = match Scalar::parse_from_cow_and_metadata(text.clone(), style, tag.as_ref()) {
                    Some(Scalar::Null) => Value::Null,
                    Some(Scalar::Boolean(value)) => Value::Bool(value),
                    Some(Scalar::Integer(value)) => Value::Integer(value),
                    Some(Scalar::FloatingPoint(value)) => Value::Float(value.into_inner()),
                    Some(Scalar::String(text)) => Value::Text(text.into_owned()),
                    None => return Err(fault(at, format!("`{text}` does not fit its tag"))),
                };
                self.place(Node { at, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(mut node) = self.anchors.get(&anchor).cloned() else {
                    return Err(fault(at, "this alias stands inside its own anchor".to_owned()));
                };
                self.alias_nodes += node.count();
                if self.alias_nodes > MAX_ALIAS_NODES {
                    return Err(fault(
                        at,
                        format!("aliases expand to more than {MAX_ALIAS_NODES} nodes"),
                    ));
                }
                node.at = at;
                self.place(node, 0)
            }
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, at: Position) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fault(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open {
            node: Node { at, value },
            anchor,
            key: None,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs: the root, the next list item, a key or its value.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some((key_text(&node)?, node.at)),
                Some((key, at)) => match entries.iter().find(|entry| entry.key == key) {
                    Some(first) => self.faults.push(Fault {
                        at,
                        message: format!("duplicate key `{key}`, first given on line {}", first.at.line),
                        key,
                    }),
                    None => entries.push(Entry { key, at, node }),
                },
            },
            _ => {}
        }
        Ok(())
    }
}

fn key_text(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Integer(value) => Ok(value.to_string()),
        Value::Float(value) => Ok(value.to_string()),
        Value::Null => Ok("null".to_owned()),
        Value::List(_) | Value::Map(_) => Err(fault(node.at, format!("expected a key, found {}", node.describe()))),
    }
}

fn fault(at: Position, message: String) -> Fault {
    Fault {
        at,
        key: String::new(),
        message,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn positions_are_those_an_editor_shows() {
        let (root, faults) = parse("name: math\ntrain:\n  epochs: 3\n");
        assert!(faults.is_empty());
        let root = root.unwrap();
        let epochs = root.locate(&["train", "epochs"]);
        assert_eq!((epochs.at.line, epochs.at.column), (3, 11));
        assert_eq!(root.key_position(&["train", "epochs"]).column, 3);
    }

    #[test]
    fn duplicate_keys_are_all_reported() {
        let (_, faults) = parse("a: 1\nb: 2\na: 3\nb: 4\n");
        let lines: Vec<_> = faults.iter().map(|fault| fault.at.line).collect();
        assert_eq!(lines, [3, 4]);
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        let (root, faults) = parse(&"[".repeat(5000));
        assert!(root.is_none() && faults.len() == 1);
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, inner) in ["b", "c", "d", "e", "f"].iter().zip(["a", "b", "c", "d", "e"]) {
            bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{inner}"); 10].join(", "));
        }
        let (_, faults) = parse(&bomb);
        assert!(faults[0].message.contains("aliases expand"));
    }
}
