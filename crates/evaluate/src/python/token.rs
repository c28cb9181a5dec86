//! The tokens of a one-expression function.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Int(i128),
    Str(String),
    /// An operator or bracket, longest match.
    Sign(&'static str),
    /// End of a line outside brackets.
    Newline,
}

/// Maximum number of tokens; it bounds the depth of the tree.
const MOST_TOKENS: usize = 600;

/// Longest first, so that `**` is not two `*`.
const SIGNS: [&str; 27] = [
    "**", "//", "==", "!=", "<=", ">=", "->", "(", ")", "[", "]", ",", ":", ".", "+", "-", "*", "/", "%", "<", ">",
    "=", "{", "}", "&", "|", "^",
];

pub(super) fn tokenize(source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if tokens.len() > MOST_TOKENS {
            return Err(format!("the answer is longer than {MOST_TOKENS} words and signs"));
        }
        rest = match first {
            '\n' => {
                if depth == 0 && !matches!(tokens.last(), None | Some(Token::Newline)) {
                    tokens.push(Token::Newline);
                }
                &rest[1..]
            }
            ' ' | '\t' | '\r' => &rest[1..],
            '\\' if rest[1..].starts_with('\n') => &rest[2..],
            '#' => rest.find('\n').map_or("", |end| &rest[end..]),
            '\'' | '"' => {
                let (text, after) = string(rest, first)?;
                tokens.push(Token::Str(text));
                after
            }
            '0'..='9' => {
                let (value, after) = integer(rest)?;
                tokens.push(Token::Int(value));
                after
            }
            _ if first.is_alphabetic() || first == '_' => {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if after.starts_with(['\'', '"']) {
                    return Err(format!("string prefix `{name}` is not understood"));
                }
                tokens.push(Token::Name(name.to_owned()));
                after
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| format!("`{first}` is not understood"))?;
                match sign {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                tokens.push(Token::Sign(sign));
                &rest[sign.len()..]
            }
        };
    }
    Ok(tokens)
}

fn integer(text: &str) -> Result<(i128, &str), String> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if rest.starts_with(|c: char| c.is_alphanumeric())
        || rest
            .strip_prefix('.')
            .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err("only whole decimal numbers are understood".into());
    }
    let value = digits
        .replace('_', "")
        .parse()
        .map_err(|_| format!("{digits} is too large"))?;
    Ok((value, rest))
}

/// A string literal that starts with `quote`, and what follows it.
fn string(text: &str, quote: char) -> Result<(String, &str), String> {
    let triple: String = [quote; 3].iter().collect();
    let close = if text.starts_with(&triple) {
        triple
    } else {
        quote.to_string()
    };
    let mut value = String::new();
    let mut rest = &text[close.len()..];
    loop {
        if let Some(after) = rest.strip_prefix(close.as_str()) {
            return Ok((value, after));
        }
        let mut characters = rest.chars();
        match characters.next() {
            None => return Err("unterminated string".into()),
            Some('\n') if close.len() == 1 => return Err("unterminated string".into()),
            Some('\\') => match characters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('\n') => {}
                Some(escaped @ ('\\' | '\'' | '"')) => value.push(escaped),
                Some(other) => return Err(format!("escape `\\{other}` is not understood")),
                None => return Err("unterminated string".into()),
            },
            Some(other) => value.push(other),
        }
        rest = characters.as_str();
    }
}
