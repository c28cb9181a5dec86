//! The least of JSON Schema that /openapi.json uses, to hold requests and answers to it.

use serde_json::Value;

use crate::client::Server;

/// The server's document.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn of(server: &Server) -> Self {
        Self(server.get("/openapi.json").json())
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        let paths = self.0["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| (path.as_str(), method.as_str()))
        })
    }

    /// Why a body is not one that the document admits for a request.
    pub(crate) fn request(&self, path: &str, body: &Value) -> Result<(), String> {
        self.check(
            &self.0["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"],
            body,
            "",
        )
    }

    /// Why an answer's JSON is not one that the document promises.
    pub(crate) fn answer(&self, method: &str, path: &str, body: &Value) -> Result<(), String> {
        let schema = &self.0["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} promises nothing");
        self.check(schema, body, "")
    }

    /// Why a value is not of the schema with this name.
    pub(crate) fn named(&self, name: &str, value: &Value) -> Result<(), String> {
        self.check(&self.0["components"]["schemas"][name], value, "")
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let fail = |what: String| Err(format!("{at}: {what}"));
        if schema.as_object().is_none() {
            return fail(format!("no schema, but {schema}"));
        }
        for (keyword, rule) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$ref" => {
                    let target = rule.as_str().unwrap().trim_start_matches('#');
                    self.check(self.0.pointer(target).unwrap(), value, at)?;
                    true
                }
                "anyOf" => {
                    let tries = rule
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|option| self.check(option, value, at));
                    let tries: Vec<_> = tries.collect();
                    if tries.iter().all(Result::is_err) {
                        return fail(format!("{value} is none of {tries:?}"));
                    }
                    true
                }
                "enum" => rule.as_array().unwrap().contains(value),
                "const" => rule == value,
                "type" => match rule {
                    Value::Array(types) => types.iter().any(|name| is_type(name, value)),
                    name => is_type(name, value),
                },
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
                "minLength" => value
                    .as_str()
                    .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
                "maxLength" => value
                    .as_str()
                    .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
                "minItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
                "maxItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{index}]"))?;
                    }
                    true
                }
                "required" => value.as_object().is_none_or(|fields| {
                    let mut names = rule.as_array().unwrap().iter();
                    names.all(|name| fields.contains_key(name.as_str().unwrap()))
                }),
                "properties" => {
                    for (name, schema) in rule.as_object().unwrap() {
                        if let Some(field) = value.get(name) {
                            self.check(schema, field, &format!("{at}.{name}"))?;
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (name, field) in value.as_object().into_iter().flatten() {
                        let known = schema["properties"].get(name).is_some();
                        match rule {
                            _ if known => {}
                            Value::Bool(allowed) if !allowed => return fail(format!("`{name}` is not foreseen")),
                            Value::Bool(_) => {}
                            rule => self.check(rule, field, &format!("{at}.{name}"))?,
                        }
                    }
                    true
                }
                "description" | "pattern" => true,
                other => panic!("the keyword {other} is not known here"),
            };
            if !holds {
                return fail(format!("{value} breaks {keyword}: {rule}"));
            }
        }
        Ok(())
    }
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other}"),
    }
}
