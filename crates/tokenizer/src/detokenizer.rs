//! Turns a stream of token ids into text as it arrives, never giving half a character.
//!
//! A byte-level token may end inside a character, and some decoders look at neighboring tokens (the space before a
//! word), so a token's text is the difference between decoding a short window with and without it.

use std::ops::Range;

use crate::Chat;

/// Tokens held back while a character seems incomplete; a character has at most four bytes, so more means that the
/// model really writes U+FFFD or bytes that are no text.
const LONGEST_HOLD: usize = 8;
/// Tokens held back at most, where no place is found to cut them.
const LIMIT: usize = 4 * LONGEST_HOLD;
/// Tokens that an incomplete character spans at most: three bytes, one a token.
const LONGEST_TAIL: usize = 3;

/// Incremental detokenizer of one stream; control tokens give no text.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    chat: Chat,
    /// Tokens that still matter: `given` of them are already text, the rest is held back.
    window: Vec<u32>,
    given: usize,
}

impl Detokenizer {
    pub(crate) fn new(chat: Chat) -> Self {
        Self {
            chat,
            window: Vec::new(),
            given: 0,
        }
    }

    /// Takes the next token; gives the text that is now certain, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.chat.is_skipped(id) {
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
        // What may yet become a character is among the last tokens; before them, no character is cut in two.
        let cut = (self.given + 1..=end - LONGEST_TAIL)
            .rev()
            .find(|&cut| self.cuts_cleanly(cut));
        match cut {
            Some(cut) => self.release(cut),
            None if end - self.given < LIMIT => None,
            None => self.release(end),
        }
    }

    /// Ends the stream; gives what was held back (an incomplete character as U+FFFD).
    pub fn finish(&mut self) -> Option<String> {
        let rest = self.release(self.window.len());
        self.window.clear();
        self.given = 0;
        rest
    }

    /// Whether the window reads the same in two parts, the second beginning at `cut`.
    fn cuts_cleanly(&self, cut: usize) -> bool {
        let end = self.window.len();
        self.text(0..cut) + &self.text(cut..end) == self.text(0..end)
    }

    /// Gives the text of the window's first `end` tokens that was not given yet.
    fn release(&mut self, end: usize) -> Option<String> {
        let before = self.text(0..self.given);
        let all = self.text(0..end);
        let new = match all.strip_prefix(before.as_str()) {
            Some(new) => new.to_owned(),
            // A decoder that rewrites what it said cannot be taken back: give the new tokens by themselves.
            None => self.text(self.given..end),
        };
        self.window.drain(..self.given);
        self.given = end - self.given;
        (!new.is_empty()).then_some(new)
    }

    fn text(&self, tokens: Range<usize>) -> String {
        self.chat.decode_known(&self.window[tokens])
    }
}
