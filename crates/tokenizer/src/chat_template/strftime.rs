//! `strftime_now` of chat templates: the current UTC date in Python's `strftime` format.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use chrono::format::{Item, Numeric, Pad, StrftimeItems};
use minijinja::{Error, ErrorKind};

/// Formats the current time, or `SOURCE_DATE_EPOCH` if set, so that a template with a date renders reproducibly.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .or_else(|| Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs()))
        .unwrap_or_default();
    strftime(format, seconds)
}

fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let refused = |reason: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {reason}"));
    let time = i64::try_from(seconds).ok();
    let time = time
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .ok_or_else(|| refused("the date is out of range"))?;
    let items: Vec<Item<'_>> = StrftimeItems::new(format)
        .map(|item| match item {
            Item::Error => Err(refused(&format!(
                "the format {format:?} has a code that is not supported"
            ))),
            // Python's `%f` is microseconds, chrono's nanoseconds; the time has whole seconds.
            Item::Numeric(Numeric::Nanosecond, Pad::Zero) => Ok(Item::Literal("000000")),
            item => Ok(item),
        })
        .collect::<Result<_, _>>()?;
    let mut text = String::new();
    write!(text, "{}", time.format_with_items(items.into_iter()))
        .map_err(|_| refused(&format!("the format {format:?} has a code that is not supported")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    #[test]
    fn dates_are_those_of_pythons_strftime() {
        // python3: datetime.fromtimestamp(SECONDS, timezone.utc).strftime(FORMAT)
        let leap_day = 1_709_210_096;
        for (format, expected) in [
            (
                "%A %a %d %b %B %Y %y %m %H:%M:%S %I%p %%",
                "Thursday Thu 29 Feb February 2024 24 02 12:34:56 12PM %",
            ),
            ("%F %T %D %R %h %e", "2024-02-29 12:34:56 02/29/24 12:34 Feb 29"),
            ("%j %U %W %V %G %u %w", "060 08 09 09 2024 4 4"),
            (
                "%c|%x|%X|%Z|%z|%f",
                "Thu Feb 29 12:34:56 2024|02/29/24|12:34:56|UTC|+0000|000000",
            ),
            ("%-d %-m 29 é", "29 2 29 é"),
        ] {
            assert_eq!(strftime(format, leap_day).unwrap(), expected, "{format}");
        }
        assert_eq!(strftime("%F %a %e %U %j", 0).unwrap(), "1970-01-01 Thu  1 00 001");
        assert_eq!(
            strftime("%d %b %Y %U %W %V", 1_767_225_599).unwrap(),
            "31 Dec 2025 52 52 01"
        );
    }

    #[test]
    fn unknown_codes_are_refused() {
        for format in ["%Q", "100%"] {
            let error = strftime(format, 0).unwrap_err().to_string();
            assert!(error.contains(format), "{error}");
        }
        assert!(strftime("%F", u64::MAX).is_err());
    }
}
