//! The bytes that a token stands for, as constrained decoding and log-probabilities need them.
//!
//! Byte-level tokenizers (GPT-2, Qwen2, Llama 3) write each byte as a printable character. Those with byte fallback
//! (Llama 2) write plain text, with `▁` for the space and `<0x0A>` for a single byte. For others the bytes are unknown,
//! because the text of a token depends on the tokens around it.

use std::collections::BTreeSet;

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;

/// Maps the tokens of one tokenizer to bytes.
#[derive(Debug)]
pub(crate) struct TokenBytes {
    /// Tokens that stand for their own text, such as `<|im_end|>`.
    added: BTreeSet<u32>,
    spelling: Spelling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    ByteLevel,
    ByteFallback,
    Unknown,
}

/// SentencePiece's character for a space.
const SPACE: char = '\u{2581}';

impl TokenBytes {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        Self {
            added: tokenizer.get_added_tokens_decoder().into_keys().collect(),
            spelling: tokenizer.get_decoder().map_or(Spelling::Unknown, spelling_of),
        }
    }

    /// The bytes of a token; `None` if the token or its bytes are unknown.
    pub(crate) fn get(&self, tokenizer: &Tokenizer, id: u32) -> Option<Vec<u8>> {
        let token = tokenizer.id_to_token(id)?;
        match self.spelling {
            Spelling::Unknown => None,
            _ if self.added.contains(&id) => Some(token.into_bytes()),
            Spelling::ByteLevel => token.chars().map(byte_of).collect(),
            Spelling::ByteFallback => match fallback_byte(&token) {
                Some(byte) => Some(vec![byte]),
                None => Some(token.replace(SPACE, " ").into_bytes()),
            },
        }
    }
}

fn spelling_of(decoder: &DecoderWrapper) -> Spelling {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Spelling::ByteLevel,
        DecoderWrapper::ByteFallback(_) => Spelling::ByteFallback,
        DecoderWrapper::Sequence(sequence) => sequence
            .get_decoders()
            .iter()
            .map(spelling_of)
            .find(|spelling| *spelling != Spelling::Unknown)
            .unwrap_or(Spelling::Unknown),
        _ => Spelling::Unknown,
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
fn fallback_byte(token: &str) -> Option<u8> {
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
    fn fallback_bytes_are_recognized() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(fallback_byte("<0xZZ>"), None);
        assert_eq!(fallback_byte("<0x0AB>"), None);
        assert_eq!(fallback_byte("x"), None);
    }
}
