//! What an answer is made of while it streams: thoughts, text and tool calls.
//!
//! What this is not: the reading of a call's JSON, which is in `calls`.

use crate::calls::{CallParser, Forced, Part};

/// The tags around a model's thoughts, as Qwen3, SmolLM3 and DeepSeek-R1 write them.
const THOUGHT_BEGIN: &str = "<think>";
const THOUGHT_END: &str = "</think>";

/// Takes the text of one answer apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerParser {
    thoughts: Option<ThoughtParser>,
    /// If tools may be called.
    calls: Option<CallParser>,
}

impl AnswerParser {
    /// Finds thoughts at the beginning of the answer. `begins_inside` if the prompt ends with the opening tag.
    pub(crate) fn with_thoughts(mut self, begins_inside: bool) -> Self {
        let place = if begins_inside { Place::Opened } else { Place::Before };
        self.thoughts = Some(ThoughtParser {
            place,
            held: String::new(),
        });
        self
    }

    /// Finds calls of tools.
    pub(crate) fn with_calls(mut self, forced: Forced) -> Self {
        self.calls = Some(CallParser::new(forced));
        self
    }

    /// Takes text; gives what is decided by it.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        let Some(thoughts) = &mut self.thoughts else {
            return self.push_rest(text);
        };
        let (thought, rest) = thoughts.push(text);
        let mut parts = Vec::new();
        if !thought.is_empty() {
            parts.push(Part::Thought(thought));
        }
        parts.extend(self.push_rest(&rest));
        parts
    }

    fn push_rest(&mut self, text: &str) -> Vec<Part> {
        match &mut self.calls {
            Some(calls) => calls.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![Part::Content(text.to_owned())],
        }
    }

    /// Ends the answer, which the limit of tokens may have cut off.
    pub(crate) fn finish(&mut self, at_limit: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(thoughts) = &mut self.thoughts {
            let (thought, rest) = thoughts.finish();
            if !thought.is_empty() {
                parts.push(Part::Thought(thought));
            }
            parts.extend(self.push_rest(&rest));
        }
        if let Some(calls) = &mut self.calls {
            parts.extend(calls.finish(at_limit));
        }
        parts
    }

    /// Calls found so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.as_ref().map_or(0, CallParser::calls)
    }

    /// Whether the last call is cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.calls.as_ref().is_some_and(CallParser::is_cut)
    }
}

/// Where the text is that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing but space has come, or the beginning of the opening tag.
    Before,
    /// Behind the opening tag, where space is no thought yet.
    Opened,
    Inside,
    /// Behind the closing tag, where space is no content yet.
    Behind,
    /// In the answer itself.
    After,
}

/// Divides an answer into thoughts and the rest. Space around the two is of neither.
#[derive(Debug, Clone)]
struct ThoughtParser {
    place: Place,
    held: String,
}

impl ThoughtParser {
    /// Thoughts and the rest, as far as they are decided.
    fn push(&mut self, text: &str) -> (String, String) {
        self.held.push_str(text);
        let mut thought = String::new();
        loop {
            match self.place {
                Place::Before => {
                    let begun = self.held.trim_start();
                    if let Some(inside) = begun.strip_prefix(THOUGHT_BEGIN) {
                        (self.held, self.place) = (inside.to_owned(), Place::Opened);
                    } else if THOUGHT_BEGIN.starts_with(begun) {
                        return (thought, String::new());
                    } else {
                        self.place = Place::After;
                    }
                }
                Place::Opened => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return (thought, String::new());
                    }
                    self.place = Place::Inside;
                }
                Place::Inside => {
                    let Some(end) = self.held.find(THOUGHT_END) else {
                        let decided = self.held.len() - undecided(&self.held);
                        thought.extend(self.held.drain(..decided));
                        return (thought, String::new());
                    };
                    thought.push_str(self.held[..end].trim_end());
                    self.held.drain(..end + THOUGHT_END.len());
                    self.place = Place::Behind;
                }
                Place::Behind => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return (thought, String::new());
                    }
                    self.place = Place::After;
                }
                Place::After => return (thought, std::mem::take(&mut self.held)),
            }
        }
    }

    fn finish(&mut self) -> (String, String) {
        let rest = std::mem::take(&mut self.held);
        match self.place {
            Place::Inside => (rest.trim_end().to_owned(), String::new()),
            _ => (String::new(), rest),
        }
    }
}

/// Bytes at the end that may belong to the closing tag, with the space before it.
fn undecided(text: &str) -> usize {
    let beginning = (1..THOUGHT_END.len())
        .rev()
        .find(|&length| text.ends_with(&THOUGHT_END[..length]));
    let before = &text[..text.len() - beginning.unwrap_or(0)];
    text.len() - before.trim_end().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Thoughts and contents of an answer that comes in these pieces.
    fn parse(begins_inside: bool, pieces: &[&str]) -> (String, String) {
        let mut parser = AnswerParser::default().with_thoughts(begins_inside);
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        parts.extend(parser.finish(false));
        let (mut thought, mut content) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Thought(text) => thought += &text,
                Part::Content(text) => content += &text,
                Part::Call(_) => unreachable!("no calls are looked for"),
            }
        }
        (thought, content)
    }

    #[test]
    fn thoughts_are_told_from_the_answer() {
        let both = ("Two and two.".to_owned(), "Four.".to_owned());
        assert_eq!(parse(false, &["<think>\nTwo and two.\n</think>\n\nFour."]), both);
        assert_eq!(parse(false, &["\n<think>Two and two.</think>Four."]), both);
        assert_eq!(parse(true, &["Two and two.\n</think>\n\nFour."]), both);
        for (answer, thought, content) in [
            ("Four.", "", "Four."),
            (" Four.\n", "", " Four.\n"),
            ("<think>\n\n</think>\n\nFour.", "", "Four."),
            ("<think>\nTwo an", "Two an", ""),
            ("<think>\nTwo </thi", "Two </thi", ""),
            ("a <think> is a tag", "", "a <think> is a tag"),
            ("<thin", "", "<thin"),
            ("<think>a</think>b</think>c", "a", "b</think>c"),
        ] {
            assert_eq!(
                parse(false, &[answer]),
                (thought.to_owned(), content.to_owned()),
                "{answer}"
            );
        }
    }

    proptest! {
        /// However an answer is cut into tokens, the same is found in it.
        #[test]
        fn cuts_change_nothing(
            parts in proptest::collection::vec(prop_oneof![
                "[ab <\n]{0,6}", Just("<think>".to_owned()), Just("</think>".to_owned()), Just("</thi".to_owned()),
            ], 0..6),
            cuts in proptest::collection::vec(any::<bool>(), 100),
            begins_inside: bool,
        ) {
            let answer = parts.concat();
            let mut pieces = vec![String::new()];
            for (character, cut) in answer.chars().zip(cuts) {
                if cut { pieces.push(String::new()); }
                if let Some(last) = pieces.last_mut() { last.push(character); }
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(parse(begins_inside, &pieces), parse(begins_inside, &[&answer]));
        }
    }
}
