//! Incremental detokenization: text from a stream of token ids, never with half a character.
//!
//! A byte-level token may end inside a character, and some decoders depend on neighboring tokens (the space before a
//! word). So a token's text is the difference between decoding a short window with and without it.

use std::ops::Range;
use std::sync::Arc;

use crate::text_tokenizer::TextTokenizer;

/// Tokens held back while a character seems incomplete. A character has at most four bytes, so more tokens mean that
/// the model really writes U+FFFD or invalid UTF-8.
const LONGEST_HOLD: usize = 8;
/// Tokens held back at most, if no position is found to split them.
const LIMIT: usize = 4 * LONGEST_HOLD;
/// Tokens that an incomplete character spans at most: three bytes, one in each token.
const LONGEST_TAIL: usize = 3;

/// Incremental detokenizer of one stream; special tokens give no text.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Arc<TextTokenizer>,
    /// The last tokens: the text of the first `given` was returned, the rest is held back.
    window: Vec<u32>,
    given: usize,
}

impl std::fmt::Debug for Detokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detokenizer")
            .field("window", &self.window)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl Detokenizer {
    pub(crate) fn new(tokenizer: Arc<TextTokenizer>) -> Self {
        Self {
            tokenizer,
            window: Vec::new(),
            given: 0,
        }
    }

    /// Takes the next token; returns the text that is now complete, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.tokenizer.is_skipped(id) {
            return None;
        }
        self.window.push(id);
        let end = self.window.len();
        if !self.text(0..end).ends_with(char::REPLACEMENT_CHARACTER) {
            return self.release(end);
        }
        if end - self.given < LONGEST_HOLD {
            return None;
        }
        // An incomplete character lies within the last tokens; before them, find a position that splits no character.
        let split = (self.given + 1..=end - LONGEST_TAIL)
            .rev()
            .find(|&split| self.splits_cleanly(split));
        match split {
            Some(split) => self.release(split),
            None if end - self.given < LIMIT => None,
            None => self.release(end),
        }
    }

    /// Ends the stream; returns the text held back (an incomplete character as U+FFFD).
    pub fn finish(&mut self) -> Option<String> {
        let rest = self.release(self.window.len());
        self.window.clear();
        self.given = 0;
        rest
    }

    /// Whether the window decodes to the same text in two parts, the second beginning at `split`.
    fn splits_cleanly(&self, split: usize) -> bool {
        let end = self.window.len();
        self.text(0..split) + &self.text(split..end) == self.text(0..end)
    }

    /// Returns the text of the window's first `end` tokens that was not returned yet.
    fn release(&mut self, end: usize) -> Option<String> {
        let before = self.text(0..self.given);
        let all = self.text(0..end);
        let new = match all.strip_prefix(before.as_str()) {
            Some(new) => new.to_owned(),
            // A decoder that rewrites earlier text: that text is already out, so decode the new tokens alone.
            None => self.text(self.given..end),
        };
        self.window.drain(..self.given);
        self.given = end - self.given;
        (!new.is_empty()).then_some(new)
    }

    fn text(&self, tokens: Range<usize>) -> String {
        self.tokenizer.decode_text(&self.window[tokens])
    }
}
