//! Which bytes a token stands for: what constrained answers and log-probabilities are told in.
//!
//! Byte-level tokenizers (GPT-2, Qwen2, Llama 3) write each byte as a printable character; those with byte fallback
//! (Llama 2) write text as it is, with another character for the space and `<0x0A>` for a lone byte. Others have no
//! answer, because what a token adds depends on the tokens around it.

use std::collections::BTreeSet;

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;

/// How a tokenizer's tokens spell bytes.
#[derive(Debug)]
pub(crate) struct Spelling {
    /// Tokens written as they are, such as `<|im_end|>`.
    added: BTreeSet<u32>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ByteLevel,
    ByteFallback,
    Unknown,
}

/// What SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

impl Spelling {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        Self {
            added: tokenizer.get_added_tokens_decoder().into_keys().collect(),
            kind: tokenizer.get_decoder().map_or(Kind::Unknown, kind),
        }
    }

    /// The bytes of a token, `None` if it is not known or has none of its own.
    pub(crate) fn bytes(&self, tokenizer: &Tokenizer, id: u32) -> Option<Vec<u8>> {
        let token = tokenizer.id_to_token(id)?;
        match self.kind {
            Kind::Unknown => None,
            _ if self.added.contains(&id) => Some(token.into_bytes()),
            Kind::ByteLevel => token.chars().map(byte_of).collect(),
            Kind::ByteFallback => match lone_byte(&token) {
                Some(byte) => Some(vec![byte]),
                None => Some(token.replace(SPACE, " ").into_bytes()),
            },
        }
    }
}

fn kind(decoder: &DecoderWrapper) -> Kind {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Kind::ByteLevel,
        DecoderWrapper::ByteFallback(_) => Kind::ByteFallback,
        DecoderWrapper::Sequence(sequence) => sequence
            .get_decoders()
            .iter()
            .map(kind)
            .find(|kind| *kind != Kind::Unknown)
            .unwrap_or(Kind::Unknown),
        _ => Kind::Unknown,
    }
}

/// The byte that a byte-level tokenizer writes as this character: printable Latin-1 stands for itself, the 68 other
/// bytes follow in order from U+0100.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(character) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            let index = (character as usize).checked_sub(0x100)?;
            (0..=u8::MAX).filter(|&byte| !is_printable(byte)).nth(index)
        }
    }
}

/// `<0x0A>`.
fn lone_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let found: BTreeSet<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(found.len(), 256);
        assert_eq!(byte_of('a'), Some(b'a'));
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
        assert_eq!(byte_of('\u{144}'), None);
    }

    #[test]
    fn lone_bytes_are_recognized() {
        assert_eq!(lone_byte("<0x0A>"), Some(10));
        assert_eq!(lone_byte("<0xZZ>"), None);
        assert_eq!(lone_byte("<0x0AB>"), None);
        assert_eq!(lone_byte("x"), None);
    }
}
