//! Turns a stream of token ids into text as it arrives, never giving half a character.
//!
//! A byte-level token may end inside a character, and some decoders look at neighbouring tokens (the space before a
//! word), so a token's text is the difference between decoding a short window with and without it.

use crate::Chat;

/// Tokens held back at most while a character seems incomplete; a character has at most four bytes, so more means
/// that the model really writes U+FFFD or bytes that are no text.
const LONGEST_HOLD: usize = 8;
/// Tokens that an incomplete character spans at most: three bytes, one a token.
const LONGEST_TAIL: usize = 3;

/// Incremental detokeniser of one stream; control tokens give no text.
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
        self.window.push(id);
        let incomplete = self.text(0).ends_with(char::REPLACEMENT_CHARACTER);
        if !incomplete {
            return self.release(self.window.len());
        }
        if self.window.len() - self.given < LONGEST_HOLD {
            return None;
        }
        self.release(self.window.len() - self.tail())
    }

    /// Ends the stream; gives what was held back (an incomplete character as U+FFFD).
    pub fn finish(&mut self) -> Option<String> {
        let rest = self.release(self.window.len());
        self.window.clear();
        self.given = 0;
        rest
    }

    /// Tokens at the end that may yet become a character, after others that are no text: those that read as one
    /// replacement character and nothing unreadable before it.
    fn tail(&self) -> usize {
        let may_become_text = |tokens: &usize| {
            let text = self.text(self.window.len() - tokens);
            text.ends_with(char::REPLACEMENT_CHARACTER) && text.matches(char::REPLACEMENT_CHARACTER).count() == 1
        };
        (1..=LONGEST_TAIL).rev().find(may_become_text).unwrap_or(0)
    }

    /// Gives the text of the window's first `end` tokens that was not given yet.
    fn release(&mut self, end: usize) -> Option<String> {
        let before = self.chat.decode_known(&self.window[..self.given]);
        let all = self.chat.decode_known(&self.window[..end]);
        let new = match all.strip_prefix(before.as_str()) {
            Some(new) => new.to_owned(),
            // A decoder that rewrites what it said cannot be taken back: give the new tokens by themselves.
            None => self.chat.decode_known(&self.window[self.given..end]),
        };
        self.window.drain(..self.given);
        self.given = end - self.given;
        (!new.is_empty()).then_some(new)
    }

    fn text(&self, from: usize) -> String {
        self.chat.decode_known(&self.window[from..])
    }
}
