//! What chat templates expect from Python: `tojson`, `strftime_now`, and how values print.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// Prints a value as Python's `str` does where Jinja in Rust would differ: `True`, `None`, `1e+16`.
pub(crate) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Number if !value.is_integer() => {
            let number = f64::try_from(value.clone())?;
            Ok(out.write_str(&float(number))?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// `json.dumps(value, ensure_ascii=False)` with the keywords that `transformers` passes on.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the template engine hands filters their keywords by value"
)]
pub(crate) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}")))?;
    let mut writer = JsonWriter {
        text: String::new(),
        indent,
        sort_keys: sort_keys.unwrap_or(false),
        ensure_ascii: ensure_ascii.unwrap_or(false),
    };
    writer.value(&json, 1);
    Ok(writer.text)
}

struct JsonWriter {
    text: String,
    indent: Option<usize>,
    sort_keys: bool,
    ensure_ascii: bool,
}

impl JsonWriter {
    fn value(&mut self, value: &serde_json::Value, depth: usize) {
        use serde_json::Value as Json;
        match value {
            Json::Number(number) if number.is_f64() => self.text.push_str(&float(number.as_f64().unwrap_or_default())),
            Json::String(text) => self.string(text),
            Json::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, depth);
                    self.value(item, depth + 1);
                }
                self.close(items.is_empty(), depth, ']');
            }
            Json::Object(entries) => {
                self.text.push('{');
                let mut entries: Vec<_> = entries.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| key.as_str());
                }
                for (index, (key, item)) in entries.iter().enumerate() {
                    self.separate(index, depth);
                    self.string(key);
                    self.text.push_str(": ");
                    self.value(item, depth + 1);
                }
                self.close(entries.is_empty(), depth, '}');
            }
            other => self.text.push_str(&other.to_string()),
        }
    }

    fn separate(&mut self, index: usize, depth: usize) {
        match (index, self.indent) {
            (0, None) => {}
            (_, None) => self.text.push_str(", "),
            (index, Some(width)) => {
                if index > 0 {
                    self.text.push(',');
                }
                self.new_line(width * depth);
            }
        }
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) {
        if let (false, Some(width)) = (empty, self.indent) {
            self.new_line(width * (depth - 1));
        }
        self.text.push(bracket);
    }

    fn new_line(&mut self, spaces: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', spaces));
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a String cannot fail.
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// `repr` of a Python float: Rust's shortest digits, Python's exponent.
fn float(number: f64) -> String {
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// The date now in UTC, or at `SOURCE_DATE_EPOCH` so that a template with a date can be rendered again.
pub(crate) fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .or_else(|| Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs()))
        .unwrap_or_default();
    strftime(format, seconds)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (month_name, weekday) = (MONTHS[(month - 1) as usize], WEEKDAYS[(days % 7) as usize]);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let piece = match characters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                let message = format!("strftime_now: `%{other}` is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
        text.push_str(&piece);
    }
    Ok(text)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`, non-negative days).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        // date -u -d @1709210096
        let leap_day = 1_709_210_096;
        assert_eq!(
            strftime("%A %a %d %b %B %Y %y %m %H:%M:%S %I%p %F %T %%", leap_day).unwrap(),
            "Thursday Thu 29 Feb February 2024 24 02 12:34:56 12PM 2024-02-29 12:34:56 %"
        );
        assert_eq!(strftime("%F %a", 0).unwrap(), "1970-01-01 Thu");
        assert!(strftime("%Q", 0).is_err());
    }
}
