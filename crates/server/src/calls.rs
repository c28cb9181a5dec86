//! Parses tool calls out of a completion while it streams: text, then any number of `<tool_call>{…}</tool_call>`.
//!
//! A malformed call stays text, so that nothing is lost. A call that the end of the answer cuts off is a call with the part
//! of its arguments that was written, as in OpenAI's answers.

mod reading;

use reading::{read, read_beginning, without_cut_end};

/// The tags around a call in a completion; the call is a JSON object with `name` and `arguments`.
pub(crate) const CALL_BEGIN: &str = "<tool_call>";
pub(crate) const CALL_END: &str = "</tool_call>";

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the model thinks before it answers.
    Thought(String),
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

/// Whether a grammar holds the answer to calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Forced {
    /// It may be text.
    #[default]
    No,
    /// It is calls of any of the tools.
    Any,
    /// It is a call of this tool.
    Named(String),
}

/// The answer's end that is not decided yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallParser {
    forced: Forced,
    held: String,
    calls: usize,
    cut: bool,
}

impl CallParser {
    pub(crate) fn new(forced: Forced) -> Self {
        Self {
            forced,
            ..Self::default()
        }
    }

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

    /// Ends the answer, which the limit of tokens may have cut off. A call without its closing tag counts if it is complete;
    /// space after a call is no content.
    pub(crate) fn finish(&mut self, at_limit: bool) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        let is_forced = self.forced != Forced::No;
        if let Some(body) = rest.trim_start().strip_prefix(CALL_BEGIN) {
            let body = without_cut_end(body);
            if let Some(call) = self.call(body) {
                return vec![call];
            }
            if (at_limit || is_forced)
                && let Some(call) = read_beginning(body)
            {
                return vec![self.cut_call(call)];
            }
        }
        if self.calls > 0 && rest.trim().is_empty() {
            return Vec::new();
        }
        match &self.forced {
            Forced::No => content(&rest).into_iter().collect(),
            Forced::Named(name) if self.calls == 0 => {
                let call = Call {
                    name: name.clone(),
                    arguments: String::new(),
                };
                vec![self.cut_call(call)]
            }
            // The beginning of a call's frame, which is neither text nor, without a name, a call.
            Forced::Named(_) | Forced::Any => Vec::new(),
        }
    }

    /// Calls found so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the last call is cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    fn cut_call(&mut self, call: Call) -> Part {
        self.calls += 1;
        self.cut = true;
        Part::Call(call)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&str]) -> Vec<Part> {
        parse_as(&Forced::No, pieces, false)
    }

    fn parse_as(forced: &Forced, pieces: &[&str], at_limit: bool) -> Vec<Part> {
        let mut parser = CallParser::new(forced.clone());
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        parts.extend(parser.finish(at_limit));
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

    #[test]
    fn a_call_that_the_limit_cuts_has_the_arguments_so_far() {
        let named = Forced::Named("f".into());
        let whole = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\", \"b\": 2}}\n</tool_call>";
        let written = "{\"a\": \"x\", \"b\": 2}";
        let before = whole.find(written).unwrap_or_default();
        for end in 0..whole.len() {
            let cut = &whole[..end];
            let arguments = cut.get(before..).unwrap_or_default();
            // After the last brace of the arguments the call is complete or nearly.
            let arguments = arguments.get(..written.len()).unwrap_or(arguments);
            let expected = if end < whole.len() - "\n</tool_call>".len() {
                call("f", arguments)
            } else {
                call("f", "{\"a\":\"x\",\"b\":2}")
            };
            assert_eq!(parse_as(&named, &[cut], true), std::slice::from_ref(&expected), "{cut}");
            let has_name = end >= "<tool_call>\n{\"name\": \"f\"".len();
            let any = parse_as(&Forced::Any, &[cut], true);
            let chosen = parse_as(&Forced::No, &[cut], true);
            if has_name {
                assert_eq!((&any, &chosen), (&vec![expected.clone()], &vec![expected]), "{cut}");
            } else {
                assert_eq!(any, [], "{cut}");
                assert_eq!(
                    chosen,
                    content(cut).into_iter().collect::<Vec<_>>(),
                    "what is no call yet stays"
                );
            }
        }
        // After a whole call, the beginning of another.
        let two = format!("{whole}\n{}", &whole[..before + 4]);
        let parsed = call("f", "{\"a\":\"x\",\"b\":2}");
        assert_eq!(
            parse_as(&Forced::Any, &[&two], true),
            [parsed.clone(), call("f", "{\"a\"")]
        );
        assert_eq!(parse_as(&Forced::Any, &[&format!("{whole}\n<tool")], true), [parsed]);
        // A call that is no JSON stays text, cut or not.
        for odd in [
            "<tool_call>soon",
            "<tool_call>{\"name\": \"a\", b",
            "<tool_call>{\"name\": \"a\", \"arguments\": \"{",
        ] {
            assert_eq!(parse_as(&Forced::No, &[odd], true), [text(odd)]);
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
