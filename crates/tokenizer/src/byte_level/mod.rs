//! Byte-level BPE without the library's bookkeeping: the same tokens, several times faster.
//!
//! `tokenizers` tracks the origin of every byte of a text through each step and makes a string of every token. That
//! takes three quarters of the time of data preparation. Where a tokenizer's steps change no text (NFC on a text that
//! is NFC already, splitting into words, bytes), a token's range follows from its length. So the text is split here,
//! the library's model encodes each distinct word once, and the result is cached. Everything unusual in a tokenizer or
//! a text gives `None`, and the library encodes the text; a property test compares the two.

mod pre_tokenizer;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Model as _, Tokenizer};

use crate::token::TokenSpan;
use pre_tokenizer::PreTokenizer;

/// The fast encoder of one tokenizer.
#[derive(Debug)]
pub(crate) struct ByteLevelEncoder {
    pre_tokenizer: PreTokenizer,
    /// Whether texts must be NFC for the normalizer to leave them unchanged.
    composed: bool,
    /// Added tokens that match by their spelling alone, and their ids.
    added: AhoCorasick,
    added_ids: Vec<u32>,
    /// Added tokens with further matching rules: a text that contains one is left to the library.
    unusual: AhoCorasick,
    /// Words encoded before: one cache for each working thread.
    caches: Mutex<Vec<WordCache>>,
}

/// Words and their tokens.
#[derive(Debug, Default)]
struct WordCache {
    words: HashMap<Box<str>, Range<u32>>,
    /// Ids and lengths in bytes of each word's tokens, word after word.
    tokens: Vec<(u32, u32)>,
}

/// The parts of a tokenizer.json that matter here; its vocabulary and merges are skipped.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: ModelJson,
}

#[derive(Deserialize)]
struct ModelJson {
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

impl ModelJson {
    /// Whether this is BPE over the letters of a word without further options.
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

/// Words cached at most; natural language has some tens of thousands.
const MAX_CACHED_WORDS: usize = 1 << 16;
/// Longer words hardly occur twice.
const MAX_CACHED_LENGTH: usize = 64;

impl ByteLevelEncoder {
    /// `None` for a tokenizer that is not byte-level BPE whose steps are all implemented here.
    ///
    /// `source` is the tokenizer.json that `tokenizer` was read from.
    pub(crate) fn of(source: &str, tokenizer: &Tokenizer) -> Option<Self> {
        let TokenizerJson {
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
        let pre_tokenizer = PreTokenizer::of(&pre_tokenizer)?;
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
            pre_tokenizer,
            composed,
            added: finder(&added)?,
            added_ids,
            unusual: finder(&unusual)?,
            caches: Mutex::default(),
        })
    }

    /// The tokens of a text, added tokens recognized; `None` if the library has to encode it.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Option<Vec<TokenSpan>> {
        if (self.composed && !is_composed(text)) || self.unusual.is_match(text) {
            return None;
        }
        let cache = self.caches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut cache = cache.unwrap_or_default();
        let tokens = self.encode_words(text, |word, add| cache.encode_word(word, tokenizer, add));
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).push(cache);
        tokens
    }

    /// Splits a text into words and added tokens; `encode_word` gives the ids and lengths of a word.
    fn encode_words(
        &self,
        text: &str,
        mut encode_word: impl FnMut(&str, &mut dyn FnMut(u32, usize)) -> Option<()>,
    ) -> Option<Vec<TokenSpan>> {
        // In natural language a token has about four bytes.
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut from = 0;
        let found = self.added.find_iter(text);
        let found = found.map(|found| (found.range(), Some(self.added_ids[found.pattern().as_usize()])));
        for (range, added) in found.chain([(text.len()..text.len(), None)]) {
            let between = &text[from..range.start];
            for word in self.pre_tokenizer.pre_tokenize(between)? {
                let mut at = from + word.start;
                encode_word(&between[word], &mut |id, length| {
                    tokens.push(TokenSpan::new(id, at..at + length));
                    at += length;
                })?;
            }
            from = range.end;
            tokens.extend(added.map(|id| TokenSpan::new(id, range)));
        }
        Some(tokens)
    }
}

impl WordCache {
    /// Gives the ids and lengths of a word's tokens; `None` if they do not add up to the word.
    fn encode_word(&mut self, word: &str, tokenizer: &Tokenizer, add: &mut dyn FnMut(u32, usize)) -> Option<()> {
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
        if word.len() <= MAX_CACHED_LENGTH && self.words.len() < MAX_CACHED_WORDS {
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
    use crate::token_bytes::byte_of;

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
