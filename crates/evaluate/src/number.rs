//! Numbers in answers: extraction and normalization.
//!
//! `1,000`, `$1000`, `1000.` and `1000.00` are the same number. Values are compared as normalized decimal text, so that
//! rounding cannot make different answers equal.

use std::fmt;

/// A number as text in normal form: optional `-`, digits without leading zeros, an optional fraction without
/// trailing zeros; or two of those with `/` between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(String);

impl Number {
    /// The first number in `text`.
    #[must_use]
    pub fn first(text: &str) -> Option<Self> {
        numbers(text).next().map(|found| found.number)
    }

    /// The last number in `text`.
    #[must_use]
    pub fn last(text: &str) -> Option<Self> {
        numbers(text).last().map(|found| found.number)
    }

    /// The number that `text` ends in, ignoring closing punctuation and units of money or percent.
    #[must_use]
    pub fn at_end(text: &str) -> Option<Self> {
        let found = numbers(text).last()?;
        let rest = text[found.end..]
            .chars()
            .all(|c| c.is_whitespace() || ".!*$%)}\\]\"'`€£¥".contains(c));
        rest.then_some(found.number)
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A number found in a text, and the byte where it ends.
struct Found {
    number: Number,
    end: usize,
}

/// Every number of a text, from left to right.
fn numbers(text: &str) -> impl Iterator<Item = Found> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            if let Some(found) = number_at(text, at) {
                at = found.end;
                return Some(found);
            }
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        None
    })
}

/// The number that starts exactly at byte `start`, if one does.
fn number_at(text: &str, start: usize) -> Option<Found> {
    let before = text[..start].chars().next_back();
    let rest = &text[start..];
    // A hyphen is a minus sign only where it cannot be a range, a subtraction or a compound word.
    let joined = before.is_some_and(|c| c.is_alphanumeric() || c == ')');
    let sign = rest.chars().next().filter(|c| matches!(c, '-' | '−' | '+') && !joined);
    let body_start = start + sign.map_or(0, char::len_utf8);
    let body_start = body_start + currency_len(&text[body_start..]);
    let (digits, mut end) = decimal(text, body_start)?;
    let negative = matches!(sign, Some('-' | '−'));
    let mut normal = normalize(negative, &digits);
    // A fraction, written without spaces: 3/4.
    if text[end..].starts_with('/')
        && let Some((denominator, after)) = decimal(text, end + 1)
        && normalize(false, &denominator) != "0"
    {
        let denominator = normalize(false, &denominator);
        if denominator != "1" {
            normal = format!("{normal}/{denominator}");
        }
        end = after;
    }
    Some(Found {
        number: Number(normal),
        end,
    })
}

fn currency_len(text: &str) -> usize {
    let escaped = text.strip_prefix('\\').unwrap_or(text);
    let money = escaped
        .chars()
        .next()
        .filter(|c| "$€£¥".contains(*c))
        .map_or(0, char::len_utf8);
    if money == 0 {
        0
    } else {
        text.len() - escaped.len() + money
    }
}

/// Digits with grouping commas and a fraction, as (text without grouping, end).
fn decimal(text: &str, start: usize) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let run = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let leading = run(start);
    let mut digits = text[start..start + leading].to_owned();
    let mut end = start + leading;
    // "1,000,000", and LaTeX's "1{,}000"; a comma groups only before exactly three digits.
    if (1..=3).contains(&leading) {
        while let Some(separator) = [",", "{,}"].iter().find(|s| text[end..].starts_with(**s)) {
            let group = end + separator.len();
            if run(group) != 3 {
                break;
            }
            digits.push_str(&text[group..group + 3]);
            end = group + 3;
        }
    }
    if text[end..].starts_with('.') {
        let fraction = run(end + 1);
        if fraction > 0 {
            digits.push_str(&text[end..end + 1 + fraction]);
            end += 1 + fraction;
        }
    }
    (end > start).then_some((digits, end))
}

fn normalize(negative: bool, digits: &str) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole, fraction) != ("0", "") {
        "-"
    } else {
        ""
    };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

/// How the number of an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerRule {
    /// `#### N`.
    Hashes,
    /// `the answer is N`, `answer: N`.
    AnswerIs,
    /// `\boxed{N}`.
    Boxed,
    /// No marker: the last number of the answer.
    LastNumber,
}

impl AnswerRule {
    /// The rule's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hashes => "####",
            Self::AnswerIs => "answer is",
            Self::Boxed => "boxed",
            Self::LastNumber => "last number",
        }
    }
}

/// Where a model that has finished its answer continues with another question.
const NEXT_QUESTION: [&str; 5] = ["\nQuestion:", "\nQ:", "\nProblem:", "\nUser:", "\nHuman:"];

/// The final answer of a worked solution.
///
/// The first `####` with a number decides, else the first other marker, else the last number. Text after another question
/// never counts.
#[must_use]
pub fn final_answer(text: &str) -> Option<(Number, AnswerRule)> {
    let end = NEXT_QUESTION
        .iter()
        .filter_map(|marker| text.find(marker))
        .min()
        .unwrap_or(text.len());
    let text = &text[..end];
    marked_answer(text).or_else(|| Number::last(text).map(|number| (number, AnswerRule::LastNumber)))
}

/// The answer a reference solution states: after its marker, or the number it ends in.
#[must_use]
pub fn reference_answer(text: &str) -> Option<Number> {
    marked_answer(text)
        .map(|(number, _)| number)
        .or_else(|| Number::at_end(text))
}

fn marked_answer(text: &str) -> Option<(Number, AnswerRule)> {
    // ASCII lower-casing keeps byte positions.
    let lower = text.to_ascii_lowercase();
    let markers = [
        ("####", AnswerRule::Hashes),
        ("answer is", AnswerRule::AnswerIs),
        ("answer:", AnswerRule::AnswerIs),
        ("\\boxed{", AnswerRule::Boxed),
    ];
    let mut places: Vec<(usize, AnswerRule)> = markers
        .iter()
        .flat_map(|(marker, rule)| lower.match_indices(marker).map(|(at, _)| (at + marker.len(), *rule)))
        .collect();
    places.sort_by_key(|(at, rule)| (*rule != AnswerRule::Hashes, *at));
    places.into_iter().find_map(|(at, rule)| {
        let line = text[at..].lines().next().unwrap_or("");
        // "the answer is 3 + 4 = 7": what the equation comes to.
        let value = line.rsplit_once('=').map_or(line, |(_, value)| value);
        Number::first(value)
            .or_else(|| Number::first(line))
            .map(|number| (number, rule))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn first(text: &str) -> Option<String> {
        Number::first(text).map(|number| number.0)
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for (text, prompt_format) in [
            ("1,000", "1000"),
            ("$18", "18"),
            ("18.", "18"),
            ("18.00", "18"),
            ("\\$1{,}234.50", "1234.5"),
            ("-0.0", "0"),
            ("−7", "-7"),
            ("-$5", "-5"),
            ("+3", "3"),
            (".5", "0.5"),
            ("007", "7"),
            ("3/4 cup", "3/4"),
            ("8/1", "8"),
            ("5/0", "5"),
            ("50%", "50"),
            ("**42**", "42"),
            ("1,00", "1"),
            ("12,3456", "12"),
            ("£2,500.75!", "2500.75"),
        ] {
            assert_eq!(first(text).as_deref(), Some(prompt_format), "{text}");
        }
        assert_eq!(first("no number, - . $"), None);
    }

    #[test]
    fn hyphens_between_words_are_no_minus() {
        let all = |text| numbers(text).map(|found| found.number.0).collect::<Vec<_>>();
        assert_eq!(
            all("10-3 and a 16-year-old, at (4)-2, not -2"),
            ["10", "3", "16", "4", "2", "-2"]
        );
        assert_eq!(all("1, 2,3 and 1,000,000."), ["1", "2", "3", "1000000"]);
    }

    #[test]
    fn the_first_answer_counts_not_an_invented_later_one() {
        let text = "She sells 16 - 7 = 9 eggs.\n#### 18\n\nQuestion: How many hens?\nAnswer: 5\n#### 5";
        assert_eq!(final_answer(text), Some((Number("18".into()), AnswerRule::Hashes)));
        let text = "They have 12 left.\nQ: Another one?\nA: 99";
        assert_eq!(final_answer(text), Some((Number("12".into()), AnswerRule::LastNumber)));
    }

    #[test]
    fn final_answers_in_the_words_models_use() {
        for (text, answer, rule) in [
            ("so #### $1,800.", "1800", AnswerRule::Hashes),
            ("The final answer is: **72**.", "72", AnswerRule::AnswerIs),
            ("The answer is 3 + 4 = 7 apples.", "7", AnswerRule::AnswerIs),
            ("ANSWER: 18", "18", AnswerRule::AnswerIs),
            ("Thus \\boxed{-12} metres in 3 s", "-12", AnswerRule::Boxed),
            ("3 times 4 is 12", "12", AnswerRule::LastNumber),
            ("the answer is below\n#### 9", "9", AnswerRule::Hashes),
            ("Answer: 3 boxes of 4.\n#### 12\n#### 13", "12", AnswerRule::Hashes),
            ("72", "72", AnswerRule::LastNumber),
        ] {
            let found = final_answer(text).unwrap();
            assert_eq!((found.0.as_str(), found.1), (answer, rule), "{text}");
        }
        assert_eq!(final_answer("I do not know."), None);
    }

    #[test]
    fn references_state_their_answer() {
        assert_eq!(reference_answer("2+2=<<2+2=4>>4\n#### 4").unwrap().as_str(), "4");
        assert_eq!(reference_answer("He pays $3,000.").unwrap().as_str(), "3000");
        assert_eq!(reference_answer("Paris has 20 districts"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*|[-0-9,./$#\\\\{}= a]*") {
            let _ = (final_answer(&text), reference_answer(&text));
        }

        #[test]
        fn grouping_and_zeros_do_not_change_a_number(value in -10_000_000i64..10_000_000) {
            let digits = value.unsigned_abs().to_string();
            let grouped: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|c| std::str::from_utf8(c).unwrap()).collect();
            let sign = if value < 0 { "-" } else { "" };
            let plain = value.to_string();
            for text in [format!("{sign}{}", grouped.join(",")), format!("{sign}${digits}.00"), format!("{sign}{digits}.")] {
                prop_assert_eq!(first(&text), Some(plain.clone()));
            }
        }
    }
}
