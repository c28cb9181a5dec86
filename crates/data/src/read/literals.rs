//! Literals of JSON texts that our parser would refuse or change: `NaN` and `Infinity`, which Python's `json` writes, and
//! integers above 64 bits, which it would round to a float.
//!
//! In a column that nobody reads they do no harm. A column's value `NaN` is pandas' word for a missing one, and
//! `datasets` reads it as null. Anything else that is trained on is refused by name.

use std::ops::Range;

use serde_json::Value;

/// A literal that cannot be read as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Its bytes.
    pub(super) range: Range<usize>,
    /// The key of the outermost object that it stands under, if it does.
    pub(super) key: Option<String>,
    /// Whether it is `NaN` or infinite.
    pub(super) non_finite: bool,
    /// Whether it is `NaN`, and all that stands under the key.
    pub(super) missing: bool,
}

/// Decimal digits of 2⁶³, the least magnitude that may not fit.
const WIDE: usize = 19;

/// Whether a text may have an integer above 64 bits; quick, and often wrong where digits stand in strings.
fn may_have_wide_integer(text: &[u8]) -> bool {
    let mut digits = 0;
    text.iter().any(|byte| {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        digits >= WIDE
    })
}

/// The integers above 64 bits in a valid JSON text.
pub(super) fn wide_integers(text: &[u8]) -> Vec<Literal> {
    if may_have_wide_integer(text) {
        find(text).into_iter().filter(|literal| !literal.non_finite).collect()
    } else {
        Vec::new()
    }
}

/// The literals of a text that need not be valid JSON.
pub(super) fn find(text: &[u8]) -> Vec<Literal> {
    let mut found = Vec::new();
    let (mut depth, mut at) = (0_usize, 0);
    // The last string on the first level, and the key that the current value stands under.
    let (mut last, mut key) = (0..0, None);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = string_end(text, at);
                if depth == 1 {
                    last = at..end;
                }
                at = end;
                continue;
            }
            b':' if depth == 1 => {
                key = text
                    .get(last.clone())
                    .and_then(|text| serde_json::from_slice(text).ok());
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte if is_bare(*byte) => {
                let length = text[at..].iter().take_while(|byte| is_bare(**byte)).count();
                let range = at..at + length;
                let word = &text[range.clone()];
                let non_finite = [&b"NaN"[..], b"Infinity", b"-Infinity"].contains(&word);
                if non_finite || is_wide_integer(word) {
                    found.push(Literal {
                        range: range.clone(),
                        key: key.clone(),
                        non_finite,
                        missing: word == b"NaN" && depth == 1 && key.is_some(),
                    });
                }
                at = range.end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn is_wide_integer(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let is_integer = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let fits = std::str::from_utf8(word).is_ok_and(|word| word.parse::<i64>().is_ok() || word.parse::<u64>().is_ok());
    is_integer && !fits
}

/// The place after the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The text with `null` in place of these literals.
pub(super) fn as_null(text: &[u8], literals: &[Literal]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len() + literals.len());
    let mut from = 0;
    for literal in literals {
        replaced.extend_from_slice(&text[from..literal.range.start]);
        replaced.extend_from_slice(b"null");
        from = literal.range.end;
    }
    replaced.extend_from_slice(&text[from..]);
    replaced
}

/// Why a literal is refused.
pub(super) fn refusal(text: &[u8], literal: &Literal) -> String {
    let word = String::from_utf8_lossy(&text[literal.range.clone()]);
    if literal.non_finite {
        format!("`{word}` is not JSON; write null, or leave the key out")
    } else {
        format!("the integer {word} has more than 64 bits and would be rounded; write it as a text")
    }
}

/// The value of a JSON text, all of which is used.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let bytes = text.as_bytes();
    let value =
        serde_json::from_str(text).map_err(|error| match find(bytes).iter().find(|found| found.non_finite) {
            Some(literal) => refusal(bytes, literal),
            None => format!("not valid JSON: {error}"),
        })?;
    match wide_integers(bytes).first() {
        Some(literal) => Err(refusal(bytes, literal)),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, Option<String>)> {
        let literals = find(text.as_bytes());
        literals
            .into_iter()
            .map(|literal| (&text[literal.range], literal.key))
            .collect()
    }

    #[test]
    fn literals_are_found_outside_strings_with_their_column() {
        let text = r#"{"a\n": NaN, "b": ["NaN", {"c": -Infinity}], "d": 1e5, "e": 18446744073709551616, "f": 18446744073709551615}"#;
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(
            found(text),
            [
                ("NaN", key("a\n")),
                ("-Infinity", key("b")),
                ("18446744073709551616", key("e"))
            ]
        );
        assert_eq!(found("NaN"), [("NaN", None)]);
        assert!(found(r#"{"a": "\" NaN", "b": NaNs, "c": -9223372036854775808}"#).is_empty());
        let text = br#"{"a": NaN, "b": [Infinity]}"#;
        assert_eq!(as_null(text, &find(text)), br#"{"a": null, "b": [null]}"#);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        assert_eq!(parse("[1, 0.5]"), Ok(serde_json::json!([1, 0.5])));
        assert_eq!(
            parse(r#"{"a": 123456789012345678901}"#),
            Err(
                "the integer 123456789012345678901 has more than 64 bits and would be rounded; write it as a text"
                    .to_owned()
            )
        );
        assert_eq!(
            parse(r#"{"a": NaN}"#),
            Err("`NaN` is not JSON; write null, or leave the key out".to_owned())
        );
        // nineteen digits, as few as may be too many
        assert!(parse("-9999999999999999999").is_err_and(|error| error.contains("more than 64 bits")));
        assert_eq!(parse("-9223372036854775808"), Ok(i64::MIN.into()));
        assert!(parse("{").is_err_and(|error| error.starts_with("not valid JSON: EOF")));
        assert_eq!(
            parse(r#""12345678901234567890123""#),
            Ok("12345678901234567890123".into())
        );
    }
}
