//! How rendered text becomes tokens, and which of them are an answer's.
//!
//! A conversation without control tokens in its contents is tokenized whole, exactly as `transformers` does (merges may
//! cross the border between template and content). Otherwise control tokens are looked for outside those contents
//! only, and everything between two of them is plain text.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use crate::byte_level::ByteLevel;
use crate::control::ControlTokens;
use crate::spans::{Rendered, locate};
use crate::template::{Conversation, Template};
use crate::vocabulary::Spelling;
use crate::{ChatError, Message, Result};

/// What an opened model folder comes to.
pub(crate) struct Inner {
    pub(crate) folder: PathBuf,
    pub(crate) tokenizer: Tokenizer,
    /// The quick way to the same tokens, where the tokenizer is of a kind that has one.
    pub(crate) byte_level: Option<ByteLevel>,
    /// The same without special tokens; made when a text first contains one.
    pub(crate) plain: OnceLock<Tokenizer>,
    pub(crate) control: ControlTokens,
    pub(crate) template: Option<Template>,
    /// What the tokenizer puts before any text (`<s>` for some Llamas, nothing for Qwen2).
    pub(crate) document_start: Vec<u32>,
    pub(crate) document_end: Option<u32>,
    pub(crate) spelling: Spelling,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) vocab_size: usize,
    pub(crate) has_call_tags: bool,
    pub(crate) template_hash: String,
    pub(crate) tokenizer_hash: String,
}

const ENDLESS: &str = "the template ends this answer with no control token, so the model would never learn to stop";

/// A token and the bytes of the text it stands for.
pub(crate) type Piece = (u32, Range<usize>);

impl Inner {
    pub(crate) fn template(&self) -> Result<&Template> {
        self.template.as_ref().ok_or_else(|| ChatError::NoTemplate {
            folder: self.folder.clone(),
        })
    }

    /// Which messages contain control tokens as text.
    pub(crate) fn hostile(&self, messages: &[Message]) -> Result<Vec<bool>> {
        let check = |(index, message): (usize, &Message)| {
            if self.control.occur_in(&message.role) {
                return Err(ChatError::message(
                    index,
                    &message.role,
                    "a role must not contain a control token",
                ));
            }
            let other = message
                .tool_call_id
                .iter()
                .chain(message.tool_calls.iter().map(|call| &call.name));
            if other.into_iter().any(|text| self.control.occur_in(text))
                || message
                    .tool_calls
                    .iter()
                    .any(|call| self.control.occur_in(&call.arguments.to_string()))
            {
                let reason = "a tool call must not contain a control token";
                return Err(ChatError::message(index, &message.role, reason));
            }
            Ok(self.control.occur_in(&message.content))
        };
        messages.iter().enumerate().map(check).collect()
    }

    /// The tokens of a rendered conversation.
    pub(crate) fn pieces(&self, messages: &[Message], rendered: &Rendered, hostile: &[bool]) -> Result<Vec<Piece>> {
        let text = rendered.text.as_str();
        if !hostile.contains(&true) {
            return self.encode(text);
        }
        let mut contents = Vec::new();
        for (index, spans) in rendered
            .contents
            .iter()
            .enumerate()
            .filter(|(index, _)| hostile[*index])
        {
            if spans.is_empty() {
                let reason = "contains a control token as text, and the template hides where the content stands, so it \
                              cannot be kept apart; remove the control token";
                return Err(ChatError::message(index, &messages[index].role, reason));
            }
            contents.extend(spans.iter().cloned());
        }
        contents.sort_by_key(|span| span.start);

        // Control tokens count only between those contents; all other text is plain.
        let mut pieces = Vec::new();
        let mut plain_from = 0;
        let mut segment_from = 0;
        for segment_to in contents.iter().map(|span| span.start).chain([text.len()]) {
            let content_end = contents
                .iter()
                .find(|span| span.start == segment_to)
                .map_or(text.len(), |span| span.end);
            for control in self.control.find(&text[segment_from..segment_to]) {
                let (start, end) = (segment_from + control.range.start, segment_from + control.range.end);
                pieces.extend(shifted(self.plain_pieces(&text[plain_from..start])?, plain_from));
                pieces.push((control.id, start..end));
                plain_from = end;
            }
            segment_from = content_end;
        }
        pieces.extend(shifted(self.plain_pieces(&text[plain_from..])?, plain_from));
        Ok(pieces)
    }

    /// Tokens of a text in which no control token is recognized.
    pub(crate) fn plain_pieces(&self, text: &str) -> Result<Vec<Piece>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if !self.control.occur_in(text) {
            return self.encode(text);
        }
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let pieces = encode(plain, text, 0)?;
        if !pieces.iter().any(|(id, _)| self.control.contains_id(*id)) {
            return Ok(pieces);
        }
        // Control tokens that are not marked special, or are in the model's own vocabulary: cut them in two.
        let mut pieces = Vec::new();
        for (start, part) in self.control.cut_inside(text) {
            pieces.extend(encode(plain, part, start)?);
        }
        Ok(pieces)
    }

    /// Tokens of a text, control tokens recognized.
    fn encode(&self, text: &str) -> Result<Vec<Piece>> {
        let quick = self.byte_level.as_ref();
        match quick.and_then(|byte_level| byte_level.encode(&self.tokenizer, text)) {
            Some(pieces) => Ok(pieces),
            None => encode(&self.tokenizer, text, 0),
        }
    }

    /// From the first byte of an answer, its content or its calls, to the last of the token that ends its turn.
    pub(crate) fn trained_span(
        &self,
        conversation: Conversation<'_>,
        index: usize,
        rendered: &Rendered,
    ) -> Result<Range<usize>> {
        let message = &conversation.messages[index];
        let problem = |reason: &str| ChatError::message(index, &message.role, reason);
        match rendered.contents[index].as_slice() {
            // Calls stand after the content, so where it ends is not where the turn does.
            _ if !message.tool_calls.is_empty() => self.turn_by_prefix(conversation, index, rendered),
            [content] => {
                let rest = &rendered.text[content.end..];
                let space = rest.len() - rest.trim_start().len();
                let token = self
                    .control
                    .length_at_start(&rest[space..])
                    .ok_or_else(|| problem(ENDLESS))?;
                Ok(content.start..content.end + space + token)
            }
            [] => self.turn_by_prefix(conversation, index, rendered),
            _ => Err(problem("the template writes this answer more than once")),
        }
    }

    /// What a template adds for a turn after the words that ask for it, by comparing what it writes before and with it.
    fn turn_by_prefix(
        &self,
        conversation: Conversation<'_>,
        index: usize,
        rendered: &Rendered,
    ) -> Result<Range<usize>> {
        let problem = |reason: &str| ChatError::message(index, &conversation.messages[index].role, reason);
        let up_to = |end: usize| Conversation {
            messages: &conversation.messages[..end],
            ..conversation
        };
        let template = self.template()?;
        let before = template.render(up_to(index), true)?;
        let through = template.render(up_to(index + 1), false)?;
        if !(through.starts_with(&before) && rendered.text.starts_with(&through)) {
            return Err(problem(
                "the template rewrites this answer and earlier text, so its tokens cannot be told apart; train on \
                 single-turn rows or use a template that leaves contents alone",
            ));
        }
        let turn = &through[before.len()..];
        let end = self.control.find(turn).pop().ok_or_else(|| problem(ENDLESS))?.range.end;
        if turn[end..].trim().is_empty() {
            Ok(before.len()..before.len() + end)
        } else {
            Err(problem(ENDLESS))
        }
    }

    /// The token with which the template ends an assistant's turn, if it can be asked.
    pub(crate) fn end_of_turn(&self) -> Option<u32> {
        let probe = [Message::new("user", "a"), Message::new("assistant", "b")];
        let conversation = Conversation::from(&probe[..]);
        let rendered = locate(self.template.as_ref()?, conversation, false, &[false, true]).ok()?;
        let span = self.trained_span(conversation, 1, &rendered).ok()?;
        self.control.find(&rendered.text[span]).pop().map(|control| control.id)
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, offset: usize) -> Result<Vec<Piece>> {
    let encoding = tokenizer.encode(text, false).map_err(ChatError::Tokenizer)?;
    let ranges = encoding
        .get_offsets()
        .iter()
        .map(|&(start, end)| start + offset..end + offset);
    Ok(encoding.get_ids().iter().copied().zip(ranges).collect())
}

fn shifted(pieces: Vec<Piece>, by: usize) -> impl Iterator<Item = Piece> {
    pieces
        .into_iter()
        .map(move |(id, range)| (id, range.start + by..range.end + by))
}

pub(crate) fn ids(pieces: Vec<Piece>) -> Vec<u32> {
    pieces.into_iter().map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use serde_json::{Value, json};

    use super::*;
    use crate::Chat;

    /// Texts with what the steps of byte-level tokenizers treat apart: digits of several scripts, runs of whitespace,
    /// contractions, marks that NFC would join, control tokens and what looks like one.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,6}",
            "[ \t\r\n\u{a0}\u{3000}]{1,4}",
            "[0-9٣½²]{1,4}",
            "[!-/:-@]{1,3}",
            Just("'s".to_owned()),
            Just("e\u{301}".to_owned()),
            Just("\u{1100}\u{1161}".to_owned()),
            Just("<|im_end|>".to_owned()),
            Just("<|im_".to_owned()),
            Just("<tool_call>".to_owned()),
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// The tiny tokenizer of the fixtures with the steps of three families.
    fn kinds() -> [Chat; 3] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let source = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
        let source: Value = serde_json::from_str(&source).unwrap();
        let qwen2 = source["pre_tokenizer"].clone();
        let smollm2 = json!([{ "type": "Digits", "individual_digits": true }, { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }]);
        let llama3 = json!([{ "type": "Digits", "individual_digits": false }, qwen2["pretokenizers"][1]]);
        let sequence = |steps: Value| json!({ "type": "Sequence", "pretokenizers": steps });
        [
            (json!({ "type": "NFC" }), qwen2),
            (Value::Null, sequence(smollm2)),
            (Value::Null, sequence(llama3)),
        ]
        .map(|(normalizer, steps)| {
            let mut source = source.clone();
            source["normalizer"] = normalizer;
            source["pre_tokenizer"] = steps;
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
            Chat::open(folder.path()).unwrap()
        })
    }

    #[test]
    fn the_quick_way_gives_the_librarys_tokens() {
        let kinds = kinds();
        let mut runner = TestRunner::default();
        let quick_ones = std::cell::Cell::new(0);
        let result = runner.run(&text(), |text| {
            for chat in &kinds {
                let inner = &chat.inner;
                let Some(quick) = inner.byte_level.as_ref().unwrap().encode(&inner.tokenizer, &text) else {
                    continue;
                };
                quick_ones.set(quick_ones.get() + 1);
                let library = encode(&inner.tokenizer, &text, 0).unwrap();
                prop_assert_eq!(ids(quick.clone()), ids(library));
                let mut end = 0;
                for (_, range) in quick {
                    prop_assert_eq!(range.start, end);
                    end = range.end;
                }
                prop_assert_eq!(end, text.len());
            }
            Ok(())
        });
        result.unwrap();
        assert!(quick_ones.get() > 100, "{quick_ones:?}");
    }
}
