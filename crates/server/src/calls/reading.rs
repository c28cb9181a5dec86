//! Reads the JSON of a tool call, whole or as far as it was written.

use serde_json::{Map, Value};

use super::{CALL_END, Call};

/// A JSON object with a name, and with arguments as an object or as text that holds one.
pub(super) fn read(body: &str) -> Option<Call> {
    let fields: Map<String, Value> = serde_json::from_str(body.trim()).ok()?;
    let arguments = match fields.get("arguments") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(_) => return None,
    };
    Some(Call {
        name: fields.get("name")?.as_str()?.to_owned(),
        arguments,
    })
}

/// A call's body without the beginning of its closing tag.
pub(super) fn without_cut_end(body: &str) -> &str {
    let mut beginnings = (1..CALL_END.len()).rev().map(|length| &CALL_END[..length]);
    beginnings
        .find_map(|beginning| body.strip_suffix(beginning))
        .unwrap_or(body)
}

/// A JSON value at the beginning of a text.
enum Beginning {
    /// It ends at this byte.
    Whole(Value, usize),
    /// The text ends first.
    Cut,
}

/// `None` if the text begins no JSON value.
fn value_at(text: &str) -> Option<Beginning> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        None => Some(Beginning::Cut),
        Some(Ok(value)) => Some(Beginning::Whole(value, values.byte_offset())),
        Some(Err(error)) if error.is_eof() => Some(Beginning::Cut),
        Some(Err(_)) => None,
    }
}

/// A call of which the text holds the beginning with at least its name. `None` if it has no name yet, or is malformed.
pub(super) fn read_beginning(body: &str) -> Option<Call> {
    let mut rest = body.trim_start().strip_prefix('{')?;
    let (mut name, mut arguments) = (None, String::new());
    loop {
        let (key, end) = match value_at(rest)? {
            Beginning::Whole(Value::String(key), end) => (key, end),
            Beginning::Whole(..) => return None,
            Beginning::Cut => break,
        };
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(':')?.trim_start();
        let value = value_at(rest)?;
        let end = match &value {
            Beginning::Whole(_, end) => *end,
            Beginning::Cut => rest.len(),
        };
        match (key.as_str(), value) {
            ("name", Beginning::Whole(Value::String(found), _)) => name = Some(found),
            ("arguments", _) if rest.is_empty() || rest.starts_with('{') => rest[..end].clone_into(&mut arguments),
            ("arguments", _) | ("name", Beginning::Whole(..)) => return None,
            _ => {}
        }
        rest = rest[end..].trim_start();
        if rest.is_empty() || rest.starts_with('}') {
            break;
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
    Some(Call { name: name?, arguments })
}
