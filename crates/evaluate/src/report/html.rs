//! Writing HTML by hand: everything that comes from outside goes through `escaped`.

use std::fmt::Write;

/// Text that stands for itself in element content and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // A page may not hold control characters; a model's answer may.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{FFFD}'),
            c => safe.push(c),
        }
    }
    safe
}

/// `1 h 12 min`, `3 min 20 s`, `4.2 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        3600.. => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{seconds:.1} s"),
    }
}

/// `1 234 567` with narrow spaces that do not break.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text
}

/// A table with a heading row; cells are HTML. Columns from `numbers_from` on are right-aligned.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>], numbers: std::ops::Range<usize>) -> String {
    let mut html = String::from("<div class=\"wide\"><table><thead><tr>");
    let class = |index: usize| {
        if numbers.contains(&index) {
            " class=\"number\""
        } else {
            ""
        }
    };
    // Writing to a string cannot fail.
    for (index, name) in heading.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(index), escaped(name));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{cell}</td>", class(index));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}
