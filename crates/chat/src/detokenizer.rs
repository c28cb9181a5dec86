//! Turns a stream of token ids into text as it arrives, never giving half a character.
//!
//! A byte-level token may end inside a character, and some decoders look at neighbouring tokens (the space before a
//! word), so a token's text is the difference between decoding a short window with and without it.

use crate::Chat;

/// Tokens held back at most while a character seems incomplete; a character has at most four bytes, so more means
/// that the model really writes U+FFFD or bytes that are no text.
const LONGEST_HOLD: usize = 8;

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
        if incomplete && self.window.len() - self.given < LONGEST_HOLD {
            return None;
        }
        self.release()
    }

    /// Ends the stream; gives what was held back (an incomplete character as U+FFFD).
    pub fn finish(&mut self) -> Option<String> {
        let rest = self.release();
        self.window.clear();
        self.given = 0;
        rest
    }

    fn release(&mut self) -> Option<String> {
        let before = self.chat.decode_known(&self.window[..self.given]);
        let all = self.text(0);
        let new = match all.strip_prefix(before.as_str()) {
            Some(new) => new.to_owned(),
            // A decoder that rewrites what it said cannot be taken back: give the new tokens by themselves.
            None => self.text(self.given),
        };
        self.window.drain(..self.given);
        self.given = self.window.len();
        (!new.is_empty()).then_some(new)
    }

    fn text(&self, from: usize) -> String {
        self.chat.decode_known(&self.window[from..])
    }
}
