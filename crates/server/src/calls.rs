//! Parses tool calls out of a completion while it streams: text, then any number of `<tool_call>{…}</tool_call>`.
//!
//! A malformed call stays text, so that nothing is lost.

use serde_json::{Map, Value};

use crate::tools::{CALL_BEGIN, CALL_END};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Content(String),
    Call(Call),
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Its arguments as JSON.
    pub(crate) arguments: String,
}

/// The answer's end that is not decided yet.
#[derive(Debug, Default)]
pub(crate) struct CallParser {
    held: String,
    calls: usize,
}

impl CallParser {
    /// Takes text; gives what is decided by it.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while let Some(tag) = self.held.find(CALL_BEGIN) {
            // Space before a call is no content; before what only looks like one, it is.
            let space = self.held[..tag].trim_end().len();
            let before: String = self.held.drain(..space).collect();
            parts.extend(content(&before));
            let Some(end) = self.held.find(CALL_END) else {
                return parts;
            };
            let whole: String = self.held.drain(..end + CALL_END.len()).collect();
            let body = &whole[tag - space + CALL_BEGIN.len()..end];
            parts.push(self.call(body).unwrap_or(Part::Content(whole)));
        }
        let undecided = self.undecided();
        let decided: String = self.held.drain(..self.held.len() - undecided).collect();
        parts.extend(content(&decided));
        parts
    }

    /// Ends the answer. A call without its closing tag counts if it is complete; space after a call is no content.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        if let Some(body) = rest.trim_start().strip_prefix(CALL_BEGIN)
            && let Some(call) = self.call(body)
        {
            return vec![call];
        }
        if self.calls > 0 && rest.trim().is_empty() {
            return Vec::new();
        }
        content(&rest).into_iter().collect()
    }

    /// Calls found so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    fn call(&mut self, body: &str) -> Option<Part> {
        let call = read(body)?;
        self.calls += 1;
        Some(Part::Call(call))
    }

    /// Bytes at the end that may belong to a call's beginning, with the space before it.
    fn undecided(&self) -> usize {
        let text = self.held.as_str();
        let beginning = (1..CALL_BEGIN.len())
            .rev()
            .find(|&length| text.ends_with(&CALL_BEGIN[..length]))
            .unwrap_or(0);
        let before = &text[..text.len() - beginning];
        text.len() - before.trim_end().len()
    }
}

fn content(text: &str) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Content(text.to_owned()))
}

/// A JSON object with a name, and with arguments as an object or as text that holds one.
fn read(body: &str) -> Option<Call> {
    let fields: Map<String, Value> = serde_json::from_str(body.trim()).ok()?;
    let arguments = match fields.get("arguments") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(_) => return None,
    };
    Some(Call {
        name: fields.get("name")?.as_str()?.to_owned(),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&str]) -> Vec<Part> {
        let mut parser = CallParser::default();
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        parts.extend(parser.finish());
        // Neighboring contents are one text.
        let mut joined: Vec<Part> = Vec::new();
        for part in parts {
            match (joined.last_mut(), part) {
                (Some(Part::Content(text)), Part::Content(more)) => text.push_str(&more),
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn text(text: &str) -> Part {
        Part::Content(text.into())
    }

    fn call(name: &str, arguments: &str) -> Part {
        Part::Call(Call {
            name: name.into(),
            arguments: arguments.into(),
        })
    }

    #[test]
    fn calls_are_told_from_text() {
        let one = "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"b\": [1, \"</x>\"]}}\n</tool_call>";
        let parsed = call("a", "{\"b\":[1,\"</x>\"]}");
        assert_eq!(parse(&["just text "]), [text("just text ")]);
        assert_eq!(parse(&[one]), std::slice::from_ref(&parsed));
        assert_eq!(
            parse(&["Well.\n\n", one, "\n", one, "\n"]),
            [text("Well."), parsed.clone(), parsed]
        );
        assert_eq!(parse(&["<tool_call>{\"name\":\"a\"}"]), [call("a", "{}")]);
        assert_eq!(
            parse(&["<tool_call>{\"name\":\"a\",\"arguments\":\"{}\"}</tool_call>"]),
            [call("a", "{}")]
        );
        for odd in [
            "<tool_call>soon",
            "<tool_call>[]</tool_call>",
            "<tool_call>{\"name\": 3}</tool_call> and so on",
            "<tool_call>{\"name\": \"a\", \"arguments\": 3}</tool_call>",
            "a <tool_call>?</tool_call>\n b",
            "a < b <tool",
            "<tool_cal",
        ] {
            assert_eq!(parse(&[odd]), [text(odd)]);
        }
    }

    proptest! {
        /// However an answer is cut into tokens, the same is found in it.
        #[test]
        fn cuts_change_nothing(
            parts in proptest::collection::vec(prop_oneof![
                "[ab <\n]{0,6}",
                Just("<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>".to_owned()),
                Just("<tool_call>?</tool_call>".to_owned()),
                Just("<tool_call>".to_owned()),
            ], 0..5),
            cuts in proptest::collection::vec(any::<bool>(), 400),
        ) {
            let answer = parts.concat();
            let mut pieces = vec![String::new()];
            for (character, cut) in answer.chars().zip(cuts) {
                if cut { pieces.push(String::new()); }
                if let Some(last) = pieces.last_mut() { last.push(character); }
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(parse(&pieces), parse(&[&answer]));
        }
    }
}
