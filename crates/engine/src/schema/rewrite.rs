//! Writes the schema again, place by place, with its references under `$defs` and its objects closed.
//!
//! What closes an object depends on what applies to it together: of `allOf` and `$ref` beside `properties` the names are
//! put together first; of `anyOf` each alternative is closed with the names around it. A definition can therefore be
//! written more than once: whole, as a part of another object, or with the names around it.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::array::{self, Items};
use super::closing::{Role, Roles, close_object};
use super::keywords::{self, count};
use super::reference::Document;
use super::{SchemaResult, at, cost, field, number, place, property_names, text, text_cost};

/// How deep schemas may stand in each other, references not counted.
const MAX_DEPTH: usize = 200;
/// How deep the schema and its definitions may be together: llguidance follows references recursively.
const MAX_TOTAL_DEPTH: usize = 4000;

/// The schema as llguidance takes it.
///
/// # Errors
/// What is wrong or cannot be followed, with its place.
pub(crate) fn prepare(schema: &Value) -> SchemaResult<Map<String, Value>> {
    if !schema.is_object() {
        return Err("the schema must be an object".into());
    }
    let mut rewriter = Rewriter {
        document: Document::new(schema)?,
        definitions: BTreeMap::new(),
        waiting: VecDeque::new(),
        deepest: 0,
    };
    let mut root = match rewriter.rewrite(schema, "#", &Role::alone(), 0)? {
        Value::Object(root) => root,
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    let mut definitions = Map::new();
    let mut total_depth = rewriter.deepest;
    while let Some((name, path, schema, role)) = rewriter.waiting.pop_front() {
        rewriter.deepest = 0;
        let written = rewriter.rewrite(schema, &path, &role, 0)?;
        definitions.insert(name, written);
        total_depth += rewriter.deepest + 1;
        if total_depth > MAX_TOTAL_DEPTH {
            return Err("the schema is too large: it refers to too many definitions".into());
        }
    }
    if !definitions.is_empty() {
        root.insert("$defs".into(), definitions.into());
    }
    Ok(root)
}

struct Rewriter<'a> {
    document: Document<'a>,
    /// The names of definitions by place and role.
    definitions: BTreeMap<String, String>,
    waiting: VecDeque<(String, String, &'a Value, Role)>,
    /// The depth of what was written last.
    deepest: usize,
}

impl<'a> Rewriter<'a> {
    fn rewrite(&mut self, schema: &Value, path: &str, role: &Role, depth: usize) -> SchemaResult<Value> {
        self.document.steps(text_cost(path) + role.cost())?;
        if depth > MAX_DEPTH {
            return at(path, "is nested too deeply");
        }
        self.deepest = self.deepest.max(depth);
        let empty = Map::new();
        let fields = match schema {
            // It admits every property, but the names around it are all there are.
            Value::Bool(true) if matches!(role, Role::Whole(around) if !around.is_empty()) => &empty,
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(fields) => fields,
            _ => return at(path, "must be a schema: an object or a boolean"),
        };
        if admits_nothing(fields) {
            return Ok(Value::Bool(false));
        }
        self.document.steps(fields.len().saturating_mul(text_cost(path)))?;
        keywords::check(fields, path)?;
        let without_names = property_names::written_out(&self.document, fields, path)?;
        let fields = without_names.as_ref().unwrap_or(fields);
        let roles = Roles::of(&self.document, fields, role)?;
        let mut written = Map::new();
        // What has to hold besides.
        let mut parts = Vec::new();
        for (name, value) in fields {
            if value.is_null() && name != "const" {
                continue;
            }
            let path_of = place(path, name);
            let value = match name.as_str() {
                "properties" | "patternProperties" => self.named(value, &path_of, depth)?,
                "additionalProperties" => self.rewrite(value, &path_of, &Role::alone(), depth + 1)?,
                "allOf" => self.list(value, &path_of, |index| roles.all_of[index].clone(), depth)?,
                "anyOf" => self.list(value, &path_of, |_| roles.any_of.clone(), depth)?,
                "oneOf" => {
                    // As `anyOf`: llguidance would compare each alternative with every other one.
                    let options = self.list(value, &path_of, |_| roles.one_of.clone(), depth)?;
                    if field(fields, "anyOf").is_some() {
                        parts.push(json!({ "anyOf": options }));
                    } else {
                        written.insert("anyOf".to_owned(), options);
                    }
                    continue;
                }
                "unevaluatedProperties" if value.as_object().is_some_and(|schema| !schema.is_empty()) => {
                    return at(&path_of, "is not supported as a schema: use `additionalProperties`");
                }
                "$ref" => self.reference(value.as_str().unwrap_or_default(), &path_of, &roles.reference)?,
                "enum" | "const" => {
                    self.document.steps(cost(value))?;
                    number::check_constant(value, &path_of)?;
                    value.clone()
                }
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if number::is_whole(fields) => {
                    number::whole_bound(name, value, path)?
                }
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                    json!(count(value))
                }
                "pattern" => {
                    let mut all = text::without_look_around(value.as_str().unwrap_or_default());
                    if let Some(reason) = all.iter().find_map(|pattern| text::refusal(pattern)) {
                        return at(&path_of, reason);
                    }
                    let first = all.remove(0);
                    parts.extend(all.into_iter().map(pattern));
                    first.into()
                }
                "format" => match value.as_str() {
                    Some(format) if text::is_kept(format) => {
                        parts.extend(text::narrowing(format).into_iter().map(pattern));
                        value.clone()
                    }
                    Some(format) => {
                        parts.extend(text::uuid_pattern(format).into_iter().map(pattern));
                        continue;
                    }
                    None => continue,
                },
                "type" | "required" | "multipleOf" | "minimum" | "maximum" | "exclusiveMinimum"
                | "exclusiveMaximum" => {
                    self.document.steps(cost(value))?;
                    value.clone()
                }
                // Items follow below; other keywords only describe.
                _ => continue,
            };
            written.insert(name.clone(), value);
        }
        self.items(&mut written, fields, path, matches!(role, Role::Whole(_)), depth)?;
        if let Some(members) = &roles.close {
            close_object(&mut written, fields, members);
        }
        if !parts.is_empty()
            && let Some(all) = written.entry("allOf").or_insert_with(|| json!([])).as_array_mut()
        {
            all.extend(parts);
        }
        if fields.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(json!({ "anyOf": [written, { "type": "null" }] }));
        }
        Ok(written.into())
    }

    fn items(
        &mut self,
        written: &mut Map<String, Value>,
        fields: &Map<String, Value>,
        path: &str,
        whole: bool,
        depth: usize,
    ) -> SchemaResult<()> {
        let items = Items::of(fields, path)?;
        if let Some((name, prefix)) = items.prefix {
            let path = place(path, name);
            let prefix = prefix
                .iter()
                .enumerate()
                .map(|(index, item)| self.rewrite(item, &place(&path, &index.to_string()), &Role::alone(), depth + 1));
            let prefix = prefix.collect::<SchemaResult<Value>>()?;
            written.insert("prefixItems".into(), prefix);
        }
        if let Some((name, rest)) = items.rest {
            let rest = self.rewrite(rest, &place(path, name), &Role::alone(), depth + 1)?;
            written.insert("items".into(), rest);
        }
        array::close(written, fields, &items, path, whole)
    }

    fn named(&mut self, schemas: &Value, path: &str, depth: usize) -> SchemaResult<Value> {
        let schemas = schemas.as_object().into_iter().flatten();
        let schemas = schemas.map(|(name, schema)| {
            let schema = self.rewrite(schema, &place(path, name), &Role::alone(), depth + 1)?;
            Ok((name.clone(), schema))
        });
        schemas.collect::<SchemaResult<Map<String, Value>>>().map(Value::from)
    }

    fn list(&mut self, schemas: &Value, path: &str, role: impl Fn(usize) -> Role, depth: usize) -> SchemaResult<Value> {
        let schemas = schemas.as_array().into_iter().flatten().enumerate();
        schemas
            .map(|(index, schema)| self.rewrite(schema, &place(path, &index.to_string()), &role(index), depth + 1))
            .collect()
    }

    /// A reference to the definition that is written for this target in this role.
    fn reference(&mut self, reference: &str, path: &str, role: &Role) -> SchemaResult<Value> {
        let resolved = self.document.resolve(reference);
        let (target, schema) = resolved.map_err(|problem| format!("`{path}` {problem}"))?;
        self.document.steps(role.cost())?;
        let key = format!("{target} {role:?}");
        if let Some(name) = self.definitions.get(&key) {
            return Ok(format!("#/$defs/{name}").into());
        }
        if self.document.is_circular(&target, schema)? {
            return at(path, "refers to a schema that only refers to itself");
        }
        let name = self.definitions.len().to_string();
        self.definitions.insert(key, name.clone());
        let reference = format!("#/$defs/{name}");
        self.waiting.push_back((name, target, schema, role.clone()));
        Ok(reference.into())
    }
}

/// A schema of texts that match.
fn pattern(pattern: impl Into<Value>) -> Value {
    Map::from_iter([("pattern".to_owned(), pattern.into())]).into()
}

/// `not: {}`, as zod writes a schema that nothing satisfies.
fn admits_nothing(fields: &Map<String, Value>) -> bool {
    match field(fields, "not") {
        Some(Value::Object(not)) => not.is_empty(),
        not => not == Some(&Value::Bool(true)),
    }
}
