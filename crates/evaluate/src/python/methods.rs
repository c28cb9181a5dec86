//! Methods of strings and lists.

use super::value::{Evaluated, PyValue, integer};

pub(super) fn call(object: &PyValue, name: &str, arguments: &[PyValue]) -> Evaluated {
    match object {
        PyValue::Str(text) => of_string(text, name, arguments),
        PyValue::List(elements) | PyValue::Tuple(elements) => of_sequence(elements, name, arguments),
        _ => Err(format!("unknown method `{name}` of {}", object.kind())),
    }
}

fn of_string(text: &str, name: &str, arguments: &[PyValue]) -> Evaluated {
    let string = |text: String| Ok(PyValue::Str(text));
    let truth = |value: bool| Ok(PyValue::Bool(value));
    let every = |test: fn(char) -> bool| Ok(PyValue::Bool(!text.is_empty() && text.chars().all(test)));
    match (name, arguments) {
        ("upper", []) => string(text.to_uppercase()),
        ("lower", []) => string(text.to_lowercase()),
        ("capitalize", []) => string(capitalized(text)),
        ("title", []) => string(titled(text)),
        ("swapcase", []) => string(text.chars().map(swapped).collect()),
        ("strip", []) => string(text.trim().to_owned()),
        ("lstrip", []) => string(text.trim_start().to_owned()),
        ("rstrip", []) => string(text.trim_end().to_owned()),
        ("strip", [PyValue::Str(set)]) => string(text.trim_matches(|c| set.contains(c)).to_owned()),
        ("lstrip", [PyValue::Str(set)]) => string(text.trim_start_matches(|c| set.contains(c)).to_owned()),
        ("rstrip", [PyValue::Str(set)]) => string(text.trim_end_matches(|c| set.contains(c)).to_owned()),
        ("replace", [PyValue::Str(old), PyValue::Str(new)]) => {
            let grown = (text.len() + 1).saturating_mul(new.len() + 1);
            if grown > 1_000_000 {
                Err("the value is too large".into())
            } else {
                string(text.replace(old.as_str(), new))
            }
        }
        // Python counts an empty string once more than there are characters, and so does `matches`.
        ("count", [PyValue::Str(part)]) => Ok(PyValue::Int(text.matches(part.as_str()).count() as i128)),
        ("find", [PyValue::Str(part)]) => Ok(PyValue::Int(position(text, part).unwrap_or(-1))),
        ("index", [PyValue::Str(part)]) => position(text, part)
            .map(PyValue::Int)
            .ok_or_else(|| "substring not found".into()),
        ("startswith", [PyValue::Str(part)]) => truth(text.starts_with(part.as_str())),
        ("endswith", [PyValue::Str(part)]) => truth(text.ends_with(part.as_str())),
        ("isdigit", []) => every(|c| c.is_ascii_digit()),
        ("isalpha", []) => every(char::is_alphabetic),
        ("isalnum", []) => every(char::is_alphanumeric),
        ("isspace", []) => every(char::is_whitespace),
        ("isupper", []) => truth(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
        ("islower", []) => truth(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
        ("split", []) => Ok(PyValue::List(
            text.split_whitespace().map(|part| PyValue::Str(part.into())).collect(),
        )),
        ("split", [PyValue::Str(separator)]) if !separator.is_empty() => Ok(PyValue::List(
            text.split(separator.as_str())
                .map(|part| PyValue::Str(part.into()))
                .collect(),
        )),
        ("join", [parts]) => {
            let mut texts = Vec::new();
            for part in parts.elements()? {
                match part {
                    PyValue::Str(part) => texts.push(part),
                    other => return Err(format!("cannot join {}", other.kind())),
                }
            }
            let length = texts
                .iter()
                .map(|part| part.len() + text.len())
                .fold(0, usize::saturating_add);
            if length > 1_000_000 {
                Err("the value is too large".into())
            } else {
                string(texts.join(text))
            }
        }
        ("zfill", [width]) => {
            let width = usize::try_from(integer(width, "fill to")?).unwrap_or(0).min(1_000);
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            let missing = width.saturating_sub(text.chars().count());
            string(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        _ => Err(format!("unknown method `{name}` of str, or unknown arguments")),
    }
}

fn of_sequence(elements: &[PyValue], name: &str, arguments: &[PyValue]) -> Evaluated {
    match (name, arguments) {
        ("count", [value]) => Ok(PyValue::Int(
            elements.iter().filter(|element| element.equals(value)).count() as i128,
        )),
        ("index", [value]) => {
            let found = elements.iter().position(|element| element.equals(value));
            found
                .map(|index| PyValue::Int(index as i128))
                .ok_or_else(|| format!("{value} is not in the list"))
        }
        ("append" | "sort" | "reverse" | "extend" | "insert" | "pop" | "remove", _) => Err(format!(
            "method `{name}` changes a list, which an expression of this kind cannot"
        )),
        _ => Err(format!("unknown method `{name}` of list, or unknown arguments")),
    }
}

/// Position in characters.
fn position(text: &str, part: &str) -> Option<i128> {
    text.find(part).map(|byte| text[..byte].chars().count() as i128)
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

fn titled(text: &str) -> String {
    let mut inside = false;
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        if inside {
            result.extend(character.to_lowercase());
        } else {
            result.extend(character.to_uppercase());
        }
        inside = character.is_alphabetic();
    }
    result
}

fn swapped(character: char) -> String {
    if character.is_uppercase() {
        character.to_lowercase().to_string()
    } else {
        character.to_uppercase().to_string()
    }
}
