//! Control tokens: the added tokens that steer a model instead of standing for text.
//!
//! A control token is an added token marked `special` in tokenizer.json, or one spelled `<|…|>` (Qwen2.5 leaves
//! `<|fim_prefix|>` and others unmarked). `<tool_call>` and the like are ordinary text with an id of their own.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};
use tokenizers::Tokenizer;

use crate::{ChatError, Result};

/// The control tokens of one tokenizer, and where they occur in a text.
#[derive(Debug)]
pub(crate) struct ControlTokens {
    tokens: Vec<ControlToken>,
    finder: AhoCorasick,
}

#[derive(Debug)]
struct ControlToken {
    id: u32,
    /// Whitespace before or after the token belongs to it.
    takes_left: bool,
    takes_right: bool,
}

/// One occurrence of a control token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlMatch {
    pub(crate) id: u32,
    /// Bytes of the text that this token stands for, whitespace it swallows included.
    pub(crate) range: Range<usize>,
}

impl ControlTokens {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let added: BTreeMap<u32, _> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        let mut tokens = Vec::new();
        let mut patterns = Vec::new();
        for (id, token) in added {
            let spelled_as_control = token.content.starts_with("<|") && token.content.ends_with("|>");
            if token.content.is_empty() || !(token.special || spelled_as_control) {
                continue;
            }
            tokens.push(ControlToken {
                id,
                takes_left: token.lstrip,
                takes_right: token.rstrip,
            });
            patterns.push(token.content);
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Both)
            .build(&patterns)
            .map_err(|error| ChatError::Tokenizer(format!("cannot search for the control tokens: {error}").into()))?;
        Ok(Self { tokens, finder })
    }

    pub(crate) fn contains_id(&self, id: u32) -> bool {
        self.tokens.binary_search_by_key(&id, |token| token.id).is_ok()
    }

    pub(crate) fn occur_in(&self, text: &str) -> bool {
        self.finder.is_match(text)
    }

    /// Bytes of the control token with which the text begins.
    pub(crate) fn length_at_start(&self, text: &str) -> Option<usize> {
        let hit = self.finder.find(Input::new(text).anchored(Anchored::Yes))?;
        Some(hit.len())
    }

    /// Occurrences from left to right; never overlapping.
    pub(crate) fn find(&self, text: &str) -> Vec<ControlMatch> {
        let mut found: Vec<ControlMatch> = Vec::new();
        for hit in self.finder.find_iter(text) {
            let token = &self.tokens[hit.pattern().as_usize()];
            let (mut start, mut end) = (hit.start(), hit.end());
            if token.takes_left {
                let floor = found.last().map_or(0, |previous| previous.range.end);
                start = text[..start].trim_end().len().max(floor);
            }
            if token.takes_right {
                let rest = &text[end..];
                end += rest.len() - rest.trim_start().len();
            }
            found.push(ControlMatch {
                id: token.id,
                range: start..end,
            });
        }
        found
    }

    /// Cuts a text inside every control token it spells, so that no piece contains one.
    pub(crate) fn cut_inside<'t>(&self, text: &'t str) -> Vec<(usize, &'t str)> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for hit in self.finder.find_iter(text) {
            let first = text[hit.start()..].chars().next().map_or(1, char::len_utf8);
            let cut = hit.start() + first;
            pieces.push((from, &text[from..cut]));
            from = cut;
        }
        pieces.push((from, &text[from..]));
        pieces
    }
}
