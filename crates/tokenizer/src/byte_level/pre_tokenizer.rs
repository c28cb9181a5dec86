//! The pre-tokenizer of a byte-level tokenizer: splits a text into words, within which bytes are merged.
//!
//! It is read from tokenizer.json's `pre_tokenizer`. The steps of Llama 3, Qwen2 and SmolLM2 are implemented; with any
//! other step the tokenizer library does all the work, so this need not be complete.

use std::ops::Range;

use fancy_regex::Regex;
use serde_json::Value;

/// GPT-2's word pattern, by which a `ByteLevel` step with `use_regex` splits.
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The steps of a `pre_tokenizer`, in order.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// Every match is a word, and so is the text between two matches.
    Words(Regex),
    /// Every numeric character is a word of its own.
    EachDigit,
    /// A run of numeric characters is a word.
    Digits,
}

impl PreTokenizer {
    /// `None` if a step is not implemented, or the last one is not `ByteLevel`.
    pub(crate) fn of(pre_tokenizer: &Value) -> Option<Self> {
        let listed = match pre_tokenizer["type"].as_str()? {
            "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
            _ => std::slice::from_ref(pre_tokenizer),
        };
        let (last, before) = listed.split_last()?;
        let mut steps = before.iter().map(step).collect::<Option<Vec<_>>>()?;
        if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
            return None;
        }
        // `use_regex` is true by default.
        if last["use_regex"] != false {
            steps.push(Step::Words(Regex::new(GPT2_WORDS).ok()?));
        }
        Some(Self { steps })
    }

    /// The words of a text, from left to right and without gaps; `None` if a pattern fails or has an empty match.
    pub(crate) fn pre_tokenize(&self, text: &str) -> Option<Vec<Range<usize>>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let whole = 0..text.len();
        let mut words = vec![whole];
        for step in &self.steps {
            let mut split = Vec::with_capacity(words.len().max(text.len() / 4));
            for word in words {
                step.split(&text[word.clone()], word.start, &mut split)?;
            }
            words = split;
        }
        Some(words)
    }
}

fn step(step: &Value) -> Option<Step> {
    match step["type"].as_str()? {
        "Split" if step["behavior"] == "Isolated" && step["invert"] == false => {
            let pattern = step["pattern"]["Regex"].as_str()?;
            Some(Step::Words(Regex::new(pattern).ok()?))
        }
        "Digits" if step["individual_digits"] == true => Some(Step::EachDigit),
        "Digits" => Some(Step::Digits),
        _ => None,
    }
}

impl Step {
    /// Splits `text`, which begins at byte `offset` of the whole text.
    fn split(&self, text: &str, offset: usize, words: &mut Vec<Range<usize>>) -> Option<()> {
        let mut end = 0;
        let mut push = |range: Range<usize>| {
            if end < range.start {
                words.push(offset + end..offset + range.start);
            }
            if !range.is_empty() {
                words.push(offset + range.start..offset + range.end);
            }
            end = range.end;
        };
        match self {
            Self::Words(pattern) => {
                for found in pattern.find_iter(text) {
                    let found = found.ok().filter(|found| found.start() < found.end())?;
                    push(found.start()..found.end());
                }
            }
            Self::EachDigit => {
                for (start, digit) in text.match_indices(char::is_numeric) {
                    push(start..start + digit.len());
                }
            }
            Self::Digits => {
                let mut digits = text.match_indices(char::is_numeric).peekable();
                while let Some((start, digit)) = digits.next() {
                    let mut stop = start + digit.len();
                    while let Some((_, next)) = digits.next_if(|(next, _)| *next == stop) {
                        stop += next.len();
                    }
                    push(start..stop);
                }
            }
        }
        push(text.len()..text.len());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use serde_json::json;

    use super::*;

    fn words<'t>(steps: &[Value], text: &'t str) -> Vec<&'t str> {
        let pre_tokenizer = PreTokenizer::of(&json!({ "type": "Sequence", "pretokenizers": steps })).unwrap();
        let words = pre_tokenizer.pre_tokenize(text).unwrap();
        words.into_iter().map(|word| &text[word]).collect()
    }

    #[test]
    fn words_and_digits_are_split() {
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false });
        let unsplit = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
        let digits = |each: bool| json!({ "type": "Digits", "individual_digits": each });
        assert_eq!(
            words(std::slice::from_ref(&bytes), "it's  12 é"),
            ["it", "'s", " ", " 12", " é"]
        );
        assert_eq!(words(&[digits(true), bytes], "a12 b"), ["a", "1", "2", " b"]);
        assert_eq!(words(&[digits(false), unsplit.clone()], "12a ½3"), ["12", "a ", "½3"]);
        assert_eq!(words(&[unsplit], ""), [""; 0]);
    }

    #[test]
    fn an_unknown_step_is_left_to_the_library() {
        for unknown in [
            json!({ "type": "Metaspace" }),
            json!({ "type": "ByteLevel", "add_prefix_space": true }),
            json!({ "type": "Sequence", "pretokenizers": [{ "type": "ByteLevel", "add_prefix_space": false }, { "type": "Digits" }] }),
            Value::Null,
        ] {
            assert!(PreTokenizer::of(&unknown).is_none(), "{unknown}");
        }
    }
}
