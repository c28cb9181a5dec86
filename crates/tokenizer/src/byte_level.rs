//! Byte-level BPE without the library's bookkeeping: the same ids several times faster.
//!
//! `tokenizers` keeps, for every byte of a text, where it came from through each step, and makes a string of every
//! token: three quarters of the time of preparing data. Where a tokenizer's steps change no text (NFC on a text that
//! is NFC already, cuts into words, bytes), a token's place follows from its length. So the text is cut here, the
//! library's own model is asked once for each word, and its answer is kept. Whatever is out of the ordinary, in a
//! tokenizer or in a text, is `None`, and the library does it; tests hold the two to each other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Model as _, Tokenizer};

use crate::cuts::Cuts;
use crate::pieces::Piece;

/// What the quick way needs to know of one tokenizer.
#[derive(Debug)]
pub(crate) struct ByteLevel {
    cuts: Cuts,
    /// Whether texts must be NFC for their bytes to be kept.
    composed: bool,
    /// Added tokens that are found in a text as they are spelled, and their ids.
    added: AhoCorasick,
    added_ids: Vec<u32>,
    /// Added tokens with rules of their own: a text that has one is the library's.
    unusual: AhoCorasick,
    /// Words met before: one memory for each thread that is at work.
    memories: Mutex<Vec<Memory>>,
}

/// Words and their tokens.
#[derive(Debug, Default)]
struct Memory {
    words: HashMap<Box<str>, Range<u32>>,
    /// Ids and lengths in bytes, those of a word one after the other.
    tokens: Vec<(u32, u32)>,
}

/// What matters here of a tokenizer.json; its vocabulary and merges, nearly all of it, are passed over.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: ModelSettings,
}

#[derive(Deserialize)]
struct ModelSettings {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    byte_fallback: Value,
}

impl ModelSettings {
    /// Whether this is BPE over the letters of a word and nothing else.
    fn is_plain(&self) -> bool {
        let extras = [
            &self.dropout,
            &self.continuing_subword_prefix,
            &self.end_of_word_suffix,
            &self.byte_fallback,
        ];
        let is_off = |value: &&Value| value.is_null() || *value == "" || *value == false || *value == 0.0;
        self.kind == "BPE" && extras.iter().all(is_off)
    }
}

/// A text of natural language has some tens of thousands of words; more of them are asked for anew.
const MOST_WORDS: usize = 1 << 16;
/// Longer words are hardly met twice.
const LONGEST_KEPT: usize = 64;

impl ByteLevel {
    /// `None` for a tokenizer that is not byte-level BPE with the steps known here.
    ///
    /// `source` is the tokenizer.json that `tokenizer` was read from.
    pub(crate) fn of(source: &str, tokenizer: &Tokenizer) -> Option<Self> {
        let Steps {
            normalizer,
            pre_tokenizer,
            model,
        } = serde_json::from_str(source).ok()?;
        if !model.is_plain() {
            return None;
        }
        let composed = match &normalizer {
            Value::Null => false,
            normalizer if normalizer["type"] == "NFC" => true,
            _ => return None,
        };
        let cuts = Cuts::of(&pre_tokenizer)?;
        let (mut added, mut added_ids, mut unusual) = (Vec::new(), Vec::new(), Vec::new());
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if token.content.is_empty() {
                return None;
            }
            if token.normalized || token.single_word || token.lstrip || token.rstrip {
                if composed && !is_composed(&token.content) {
                    return None;
                }
                unusual.push(token.content);
            } else {
                added.push(token.content);
                added_ids.push(id);
            }
        }
        let finder = |patterns: &[String]| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(patterns)
                .ok()
        };
        Some(Self {
            cuts,
            composed,
            added: finder(&added)?,
            added_ids,
            unusual: finder(&unusual)?,
            memories: Mutex::default(),
        })
    }

    /// The tokens of a text and the bytes each stands for, added tokens recognized; `None` if the library has to.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Option<Vec<Piece>> {
        if (self.composed && !is_composed(text)) || self.unusual.is_match(text) {
            return None;
        }
        let kept = self.memories.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = kept.unwrap_or_default();
        let pieces = self.pieces(text, |word, add| memory.tokens_of(word, tokenizer, add));
        self.memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(memory);
        pieces
    }

    /// `tokens_of` tells the ids and lengths of a word.
    fn pieces(
        &self,
        text: &str,
        mut tokens_of: impl FnMut(&str, &mut dyn FnMut(u32, usize)) -> Option<()>,
    ) -> Option<Vec<Piece>> {
        // A token of natural language has about four bytes.
        let mut pieces = Vec::with_capacity(text.len() / 3);
        let mut from = 0;
        let found = self.added.find_iter(text);
        let found = found.map(|found| (found.range(), Some(self.added_ids[found.pattern().as_usize()])));
        for (range, added) in found.chain([(text.len()..text.len(), None)]) {
            let between = &text[from..range.start];
            for word in self.cuts.words(between)? {
                let mut at = from + word.start;
                tokens_of(&between[word], &mut |id, length| {
                    pieces.push((id, at..at + length));
                    at += length;
                })?;
            }
            from = range.end;
            pieces.extend(added.map(|id| (id, range)));
        }
        Some(pieces)
    }
}

impl Memory {
    /// Tells the ids and lengths of a word; `None` if its tokens do not spell it.
    fn tokens_of(&mut self, word: &str, tokenizer: &Tokenizer, add: &mut dyn FnMut(u32, usize)) -> Option<()> {
        if let Some(range) = self.words.get(word) {
            for &(id, length) in &self.tokens[range.start as usize..range.end as usize] {
                add(id, length as usize);
            }
            return Some(());
        }
        let spelled: String = word.bytes().map(letter_of).collect();
        let tokens = tokenizer.get_model().tokenize(&spelled).ok()?;
        // Every letter of a token is one byte of the word.
        let tokens: Vec<(u32, u32)> = tokens
            .iter()
            .map(|token| Some((token.id, u32::try_from(token.value.chars().count()).ok()?)))
            .collect::<Option<_>>()?;
        if tokens.iter().map(|&(_, length)| length as usize).sum::<usize>() != word.len() {
            return None;
        }
        for &(id, length) in &tokens {
            add(id, length as usize);
        }
        if word.len() <= LONGEST_KEPT && self.words.len() < MOST_WORDS {
            let start = u32::try_from(self.tokens.len()).ok()?;
            self.tokens.extend(tokens);
            let end = u32::try_from(self.tokens.len()).ok()?;
            self.words.insert(word.into(), start..end);
        }
        Some(())
    }
}

/// The letter by which byte-level vocabularies spell a byte (Radford et al. 2019, `bytes_to_unicode`): the printable
/// characters of Latin-1 stand for themselves, the other bytes in order for U+0100 and what follows.
fn letter_of(byte: u8) -> char {
    let number = u32::from(byte);
    let moved = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        0..=b' ' => number,
        0x7F..=0xA0 => number - 0x7F + 33,
        0xAD => 67,
    };
    char::from_u32(0x100 + moved).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Whether NFC would leave a text as it is.
fn is_composed(text: &str) -> bool {
    text.is_ascii() || ComposingNormalizerBorrowed::new_nfc().is_normalized(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel as Library;

    use super::*;
    use crate::vocabulary::byte_of;

    #[test]
    fn bytes_are_spelled_with_the_librarys_letters() {
        let letters: BTreeSet<char> = (0..=u8::MAX).map(letter_of).collect();
        assert_eq!(letters, Library::alphabet().into_iter().collect());
        assert!((0..=u8::MAX).all(|byte| byte_of(letter_of(byte)) == Some(byte)));
        assert_eq!(
            [0, b' ', b'a', 0x7F, 0xA0, 0xAD].map(letter_of),
            ['Ā', 'Ġ', 'a', 'ġ', 'ł', 'Ń']
        );
    }
}
