//! `propertyNames`, which pydantic and zod write for dictionaries with keys of a type, as properties or patterns of names.

use serde_json::{Map, Value, json};

use super::reference::{Document, reference_of};
use super::{SchemaResult, at, cost, field, fields_cost, place, text};

/// Keywords that may stand beside those that decide.
const DECIDES: [&str; 6] = ["enum", "const", "pattern", "minLength", "maxLength", "format"];

/// The schema's fields without `propertyNames`; `None` if it has none.
pub(super) fn written_out(
    document: &Document<'_>,
    fields: &Map<String, Value>,
    path: &str,
) -> SchemaResult<Option<Map<String, Value>>> {
    let Some(mut names) = field(fields, "propertyNames") else {
        return Ok(None);
    };
    let path = place(path, "propertyNames");
    while let Some(reference) = reference_of(names) {
        document.step()?;
        let resolved = document.resolve(reference);
        (_, names) = resolved.map_err(|problem| format!("`{}` {problem}", place(&path, "$ref")))?;
    }
    document.steps(fields_cost(fields))?;
    let mut written = fields.clone();
    written.shift_remove("propertyNames");
    let value = field(fields, "additionalProperties")
        .cloned()
        .unwrap_or(Value::Bool(true));
    match kind(names, &path)? {
        Names::Any => {}
        Names::These(allowed) => {
            let mut properties = written
                .get("properties")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            if written
                .get("patternProperties")
                .is_some_and(|patterns| !patterns.is_null())
            {
                return at(&path, "is not supported beside `patternProperties`");
            }
            if let Some(other) = properties.keys().find(|name| !allowed.contains(name)) {
                return at(&path, format!("does not allow the property `{other}`"));
            }
            document.steps(allowed.len().saturating_mul(cost(&value)))?;
            for name in allowed {
                properties.entry(name).or_insert_with(|| value.clone());
            }
            written.insert("properties".into(), properties.into());
            written.insert("additionalProperties".into(), Value::Bool(false));
        }
        Names::Matching(pattern) => {
            let others = ["properties", "patternProperties"];
            if let Some(other) = others.iter().find(|name| field(fields, name).is_some()) {
                return at(&path, format!("is not supported beside `{other}`"));
            }
            written.insert("patternProperties".into(), json!({ pattern: value }));
            written.insert("additionalProperties".into(), Value::Bool(false));
        }
    }
    Ok(Some(written))
}

/// Which names are allowed.
enum Names {
    Any,
    These(Vec<String>),
    Matching(String),
}

fn kind(names: &Value, path: &str) -> SchemaResult<Names> {
    let refused = || {
        at(
            path,
            "may only have `enum`, `const`, `pattern`, lengths, or the formats uuid and date",
        )
    };
    let fields = match names {
        Value::Bool(true) => return Ok(Names::Any),
        Value::Bool(false) => return Ok(Names::These(Vec::new())),
        Value::Object(fields) => fields,
        _ => return at(path, "must be a schema: an object or a boolean"),
    };
    if super::applies_others(fields)
        || field(fields, "not").is_some()
        || field(fields, "type").is_some_and(|name| name != "string")
    {
        return refused();
    }
    let decides: Vec<&str> = DECIDES
        .into_iter()
        .filter(|name| field(fields, name).is_some())
        .collect();
    let text = |name: &str| field(fields, name).and_then(Value::as_str);
    match decides.as_slice() {
        [] => Ok(Names::Any),
        ["enum"] => {
            let values = field(fields, "enum").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str);
            Ok(Names::These(values.map(str::to_owned).collect()))
        }
        ["const"] => match text("const") {
            Some(name) => Ok(Names::These(vec![name.to_owned()])),
            None => refused(),
        },
        ["pattern"] => match text("pattern").map(text::without_look_around).as_deref() {
            Some([pattern]) if text::refusal(pattern).is_none() => Ok(Names::Matching(pattern.clone())),
            _ => refused(),
        },
        ["format"] => match text("format").and_then(text::pattern_of_format) {
            Some(pattern) => Ok(Names::Matching(pattern)),
            None => refused(),
        },
        lengths if lengths.iter().all(|name| name.ends_with("Length")) => {
            let length = |name| field(fields, name).and_then(super::keywords::count);
            let most = length("maxLength").map_or(String::new(), |most| most.to_string());
            let least = length("minLength").unwrap_or(0);
            Ok(Names::Matching(format!("^[\\s\\S]{{{least},{most}}}$")))
        }
        _ => refused(),
    }
}
