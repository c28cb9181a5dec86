//! Special tokens: the added tokens that control a model instead of standing for text.
//!
//! A special token is an added token marked `special` in tokenizer.json, or one spelled `<|…|>` (Qwen2.5 leaves
//! `<|fim_prefix|>` and others unmarked). `<tool_call>` and similar tokens are ordinary text with their own id.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};
use tokenizers::Tokenizer;

use crate::token::TokenSpan;
use crate::{Result, TokenizerError};

/// Finds the special tokens of one tokenizer in a text.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
    finder: AhoCorasick,
}

#[derive(Debug)]
struct SpecialToken {
    id: u32,
    /// Whether whitespace before or after the token belongs to it.
    lstrip: bool,
    rstrip: bool,
}

impl SpecialTokens {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let added: BTreeMap<u32, _> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        let mut tokens = Vec::new();
        let mut patterns = Vec::new();
        for (id, token) in added {
            let has_special_spelling = token.content.starts_with("<|") && token.content.ends_with("|>");
            if token.content.is_empty() || !(token.special || has_special_spelling) {
                continue;
            }
            tokens.push(SpecialToken {
                id,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
            });
            patterns.push(token.content);
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Both)
            .build(&patterns)
            .map_err(|error| {
                TokenizerError::Tokenizer(format!("cannot search for the special tokens: {error}").into())
            })?;
        Ok(Self { tokens, finder })
    }

    pub(crate) fn contains_id(&self, id: u32) -> bool {
        self.tokens.binary_search_by_key(&id, |token| token.id).is_ok()
    }

    pub(crate) fn occur_in(&self, text: &str) -> bool {
        self.finder.is_match(text)
    }

    /// Length in bytes of the special token with which the text begins.
    pub(crate) fn length_at_start(&self, text: &str) -> Option<usize> {
        let hit = self.finder.find(Input::new(text).anchored(Anchored::Yes))?;
        Some(hit.len())
    }

    /// The special tokens from left to right, never overlapping, with the whitespace that belongs to them.
    pub(crate) fn find(&self, text: &str) -> Vec<TokenSpan> {
        let mut found: Vec<TokenSpan> = Vec::new();
        for hit in self.finder.find_iter(text) {
            let token = &self.tokens[hit.pattern().as_usize()];
            let (mut start, mut end) = (hit.start(), hit.end());
            if token.lstrip {
                let floor = found.last().map_or(0, |previous| previous.range.end);
                start = text[..start].trim_end().len().max(floor);
            }
            if token.rstrip {
                let rest = &text[end..];
                end += rest.len() - rest.trim_start().len();
            }
            found.push(TokenSpan::new(token.id, start..end));
        }
        found
    }

    /// Splits a text inside every special token, so that no part contains one. Gives each part with its offset.
    pub(crate) fn split_inside<'t>(&self, text: &'t str) -> Vec<(usize, &'t str)> {
        let mut parts = Vec::new();
        let mut from = 0;
        for hit in self.finder.find_iter(text) {
            let first = text[hit.start()..].chars().next().map_or(1, char::len_utf8);
            let split = hit.start() + first;
            parts.push((from, &text[from..split]));
            from = split;
        }
        parts.push((from, &text[from..]));
        parts
    }
}
