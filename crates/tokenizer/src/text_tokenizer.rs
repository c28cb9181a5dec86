//! Text to tokens and back: the library's tokenizer, its fast path, and text in which special tokens are not recognized.

use std::sync::OnceLock;

use tokenizers::Tokenizer;

use crate::byte_level::ByteLevelEncoder;
use crate::special_tokens::SpecialTokens;
use crate::token::TokenSpan;
use crate::{Result, TokenizerError};

/// The tokenizer of one model.
pub(crate) struct TextTokenizer {
    pub(crate) library: Tokenizer,
    pub(crate) special: SpecialTokens,
    /// Gives the same tokens faster, where the tokenizer is byte-level BPE.
    byte_level: Option<ByteLevelEncoder>,
    /// The tokenizer with special tokens disabled; made when a text first contains one.
    without_special: OnceLock<Tokenizer>,
}

impl TextTokenizer {
    /// `source` is the tokenizer.json from which `library` was read.
    pub(crate) fn new(source: &str, library: Tokenizer) -> Result<Self> {
        Ok(Self {
            special: SpecialTokens::of(&library)?,
            byte_level: ByteLevelEncoder::of(source, &library),
            library,
            without_special: OnceLock::new(),
        })
    }

    /// The tokens of a text, special tokens recognized.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<TokenSpan>> {
        let fast = self.byte_level.as_ref();
        match fast.and_then(|byte_level| byte_level.encode(&self.library, text)) {
            Some(tokens) => Ok(tokens),
            None => encode(&self.library, text),
        }
    }

    /// The tokens of a text in which special tokens are plain text.
    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<TokenSpan>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if !self.special.occur_in(text) {
            return self.encode(text);
        }
        let plain = self.without_special.get_or_init(|| {
            let mut plain = self.library.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let tokens = encode(plain, text)?;
        if !tokens.iter().any(|token| self.special.contains_id(token.id)) {
            return Ok(tokens);
        }
        // Special tokens that are not marked special, or are in the model's own vocabulary: split them in two.
        let mut tokens = Vec::new();
        for (offset, part) in self.special.split_inside(text) {
            tokens.extend(encode(plain, part)?.into_iter().map(|token| token.shifted(offset)));
        }
        Ok(tokens)
    }

    /// Whether [`Self::decode_text`] leaves this token out.
    pub(crate) fn is_skipped(&self, id: u32) -> bool {
        let token = self.library.id_to_token(id);
        token.is_none_or(|token| self.library.get_added_vocabulary().is_special_token(&token))
    }

    /// The text of tokens without special ones; empty where the library fails, because a stream cannot report it.
    pub(crate) fn decode_text(&self, ids: &[u32]) -> String {
        self.library.decode(ids, true).unwrap_or_default()
    }
}

/// The library's tokens of a text.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenSpan>> {
    let encoding = tokenizer.encode(text, false).map_err(TokenizerError::Tokenizer)?;
    let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
    Ok(tokens
        .map(|(&id, &(start, end))| TokenSpan::new(id, start..end))
        .collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use serde_json::{Value, json};

    use super::*;
    use crate::token::ids;

    /// Texts of what byte-level tokenizers treat specially: digits of several scripts, runs of whitespace,
    /// contractions, marks that NFC would compose, special tokens and prefixes of them.
    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[a-z]{1,6}",
            "[ \t\r\n\u{a0}\u{3000}]{1,4}",
            "[0-9٣½²]{1,4}",
            "[!-/:-@]{1,3}",
            Just("'s".to_owned()),
            Just("e\u{301}".to_owned()),
            Just("\u{1100}\u{1161}".to_owned()),
            Just("<|im_end|>".to_owned()),
            Just("<|im_".to_owned()),
            Just("<tool_call>".to_owned()),
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    /// The tiny tokenizer of the fixtures with the steps of three families.
    fn tokenizers() -> [TextTokenizer; 3] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let source = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
        let source: Value = serde_json::from_str(&source).unwrap();
        let qwen2 = source["pre_tokenizer"].clone();
        let smollm2 = json!([{ "type": "Digits", "individual_digits": true }, { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }]);
        let llama3 = json!([{ "type": "Digits", "individual_digits": false }, qwen2["pretokenizers"][1]]);
        let sequence = |steps: Value| json!({ "type": "Sequence", "pretokenizers": steps });
        [
            (json!({ "type": "NFC" }), qwen2),
            (Value::Null, sequence(smollm2)),
            (Value::Null, sequence(llama3)),
        ]
        .map(|(normalizer, steps)| {
            let mut source = source.clone();
            source["normalizer"] = normalizer;
            source["pre_tokenizer"] = steps;
            let source = source.to_string();
            TextTokenizer::new(&source, source.parse().unwrap()).unwrap()
        })
    }

    #[test]
    fn the_fast_path_gives_the_librarys_tokens() {
        let tokenizers = tokenizers();
        let mut runner = TestRunner::default();
        let encoded_fast = std::cell::Cell::new(0);
        let result = runner.run(&text(), |text| {
            for tokenizer in &tokenizers {
                let byte_level = tokenizer.byte_level.as_ref().unwrap();
                let Some(fast) = byte_level.encode(&tokenizer.library, &text) else {
                    continue;
                };
                encoded_fast.set(encoded_fast.get() + 1);
                let library = encode(&tokenizer.library, &text).unwrap();
                prop_assert_eq!(ids(&fast), ids(&library));
                let mut end = 0;
                for token in fast {
                    prop_assert_eq!(token.range.start, end);
                    end = token.range.end;
                }
                prop_assert_eq!(end, text.len());
            }
            Ok(())
        });
        result.unwrap();
        assert!(encoded_fast.get() > 100, "{encoded_fast:?}");
    }
}
