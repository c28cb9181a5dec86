//! `GET /openapi.json`: the server's interface as an OpenAPI 3.1 document.
//!
//! Request schemas are generated from the tables in [`crate::fields`], which the server checks requests against. Tests
//! check the response schemas against the server's responses.

mod schemas;

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::fields::{self, Field, Support};

/// A method on a path.
struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    /// The table of the body's fields, and the required ones.
    body: Option<(&'static [Field], &'static [&'static str])>,
    answer: Answer,
    /// Whether it needs no key.
    open: bool,
    /// Whether another path replaces it.
    deprecated: bool,
}

impl Operation {
    const fn deprecated(self) -> Self {
        Self {
            deprecated: true,
            ..self
        }
    }
}

/// The response with status 200.
enum Answer {
    /// JSON of the schema with this name.
    Json(&'static str),
    /// JSON, or server-sent events with chunks of the second schema.
    Streamed(&'static str, &'static str),
    /// Text of this type.
    Text(&'static str),
}

const fn get(path: &'static str, summary: &'static str, answer: Answer, open: bool) -> Operation {
    Operation {
        path,
        method: "get",
        summary,
        body: None,
        answer,
        open,
        deprecated: false,
    }
}

const fn post(
    path: &'static str,
    summary: &'static str,
    body: (&'static [Field], &'static [&'static str]),
    answer: Answer,
) -> Operation {
    Operation {
        path,
        method: "post",
        summary,
        body: Some(body),
        answer,
        open: false,
        deprecated: false,
    }
}

const DECISIONS: Operation = get(
    "/v1/router/decisions",
    "The swarm's most recent decisions, newest first",
    Answer::Json("RoutingTrace"),
    false,
);

const MODULE_TRACE: Operation = post(
    "/v1/models/trace",
    "How each layer routes every token of a text (`prompt`) or conversation (`messages`) and of an `answer` to it, for a \
     model with an expert router",
    (fields::MODULE_TRACE, &[]),
    Answer::Json("ModuleTrace"),
);

/// The path that these two operations shared.
const OLD_TRACE: &str = "/v1/routing/trace";

const OPERATIONS: &[Operation] = &[
    post(
        "/v1/chat/completions",
        "Answers a conversation",
        (fields::CHAT, &["messages"]),
        Answer::Streamed("ChatCompletion", "ChatCompletionChunk"),
    ),
    post(
        "/v1/completions",
        "Continues raw text",
        (fields::COMPLETIONS, &["prompt"]),
        Answer::Streamed("Completion", "Completion"),
    ),
    post(
        "/v1/embeddings",
        "Texts as vectors of length 1: the mean of the hidden states after the last norm",
        (fields::EMBEDDINGS, &["input"]),
        Answer::Json("EmbeddingList"),
    ),
    get(
        "/v1/models",
        "The base and its adapters",
        Answer::Json("ModelList"),
        false,
    ),
    get(
        "/v1/models/{id}",
        "The base or an adapter",
        Answer::Json("Model"),
        false,
    ),
    DECISIONS,
    Operation {
        path: OLD_TRACE,
        summary: "The old path of `GET /v1/router/decisions`",
        ..DECISIONS
    }
    .deprecated(),
    MODULE_TRACE,
    Operation {
        path: OLD_TRACE,
        summary: "The old path of `POST /v1/models/trace`",
        ..MODULE_TRACE
    }
    .deprecated(),
    post(
        "/v1/adapters",
        "Loads an adapter from the adapters' folder, where the server allows it",
        (fields::ADAPTERS, &["name", "path"]),
        Answer::Json("Adapter"),
    ),
    Operation {
        path: "/v1/adapters/{name}",
        method: "delete",
        summary: "Removes an adapter; requests that run under it go on",
        body: None,
        answer: Answer::Json("DeletedAdapter"),
        open: false,
        deprecated: false,
    },
    post(
        "/tokenize",
        "The tokens of a text (`prompt`) or conversation (`messages`)",
        (fields::TOKENIZE, &[]),
        Answer::Json("Tokens"),
    ),
    post(
        "/detokenize",
        "The text of tokens",
        (fields::DETOKENIZE, &["tokens"]),
        Answer::Json("Text"),
    ),
    get("/health", "Whether requests are taken", Answer::Json("Health"), true),
    get(
        "/metrics",
        "Counts and times, for Prometheus",
        Answer::Text("text/plain"),
        true,
    ),
    get("/openapi.json", "This document", Answer::Json("Document"), true),
    get("/", "The chat page", Answer::Text("text/html"), true),
];

/// The methods that a route takes.
pub(crate) fn methods(route: &str) -> Vec<String> {
    let route = route.replace("{*", "{");
    // `/v1/models/trace` is also a model that is called `trace`
    let is_route = |path: &str| match path.split_once('{') {
        Some((before, _)) if path != route => route
            .strip_prefix(before)
            .is_some_and(|rest| !rest.contains(['/', '{'])),
        _ => path == route,
    };
    let operations = OPERATIONS.iter().filter(|operation| is_route(operation.path));
    operations.map(|operation| operation.method.to_uppercase()).collect()
}

/// The methods and paths of all operations.
#[cfg(test)]
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATIONS.iter().map(|operation| (operation.method, operation.path))
}

/// The documented path that a mistaken one probably means: with `/v1` or without, or without the slash at its end.
pub(crate) fn nearest_path(path: &str) -> Option<&'static str> {
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix("/v1").filter(|rest| !rest.is_empty()).unwrap_or(path);
    let means = |operation: &&Operation| {
        let known = operation.path;
        known == path || known.strip_prefix("/v1") == Some(path)
    };
    OPERATIONS.iter().find(means).map(|operation| operation.path)
}

/// The document; it is the same for every server of this version.
pub(crate) async fn document() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| write().to_string());
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn write() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method] = self::operation(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Synapse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "OpenAI's wire format over one base model and its adapters. `null` is the same as leaving a field out. Fields that are not named here are refused with a 400 that names them.",
        },
        "security": [{}, { "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "Error": {
                    "description": "What is wrong: `code` and `param` say it for programs",
                    "content": { "application/json": { "schema": schemas::reference("Error") } },
                },
            },
            "schemas": schemas::all(),
        },
    })
}

fn operation(operation: &Operation) -> Value {
    let schema = |name: &str| json!({ "schema": schemas::reference(name) });
    let content = match operation.answer {
        Answer::Json(name) => json!({ "application/json": schema(name) }),
        Answer::Streamed(whole, chunk) => json!({
            "application/json": schema(whole),
            "text/event-stream": {
                "schema": { "description": format!("Events whose data is a {chunk}, then `[DONE]`") },
            },
        }),
        Answer::Text(media_type) => {
            let mut content = Map::new();
            content.insert(media_type.to_owned(), json!({ "schema": { "type": "string" } }));
            content.into()
        }
    };
    let error = json!({ "$ref": "#/components/responses/Error" });
    let mut written = json!({
        "summary": operation.summary,
        "responses": { "200": { "description": "Done", "content": content }, "4XX": error, "5XX": error },
    });
    if operation.deprecated {
        written["deprecated"] = json!(true);
    }
    if operation.open {
        written["security"] = json!([]);
    }
    if let Some((_, parameter)) = operation.path.split_once('{') {
        let name = parameter.trim_end_matches('}');
        let schema = json!({ "type": "string", "minLength": 1 });
        written["parameters"] = json!([{ "name": name, "in": "path", "required": true, "schema": schema }]);
    }
    if let Some((table, required)) = operation.body {
        let schema = body(table, required);
        written["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    written
}

fn body(table: &[Field], required: &[&str]) -> Value {
    let mut properties = Map::new();
    for field in table {
        let schema = match field.support {
            Support::Supported(schema) => {
                let schema: Value =
                    serde_json::from_str(schema).unwrap_or_else(|_| unreachable!("a test reads them all"));
                if required.contains(&field.name) {
                    schema
                } else {
                    json!({ "anyOf": [schema, { "type": "null" }] })
                }
            }
            Support::WithoutEffect(reason) => json!({ "description": format!("Accepted without effect: {reason}") }),
            Support::Only(values, reason) => {
                let values = values.iter().filter_map(|value| serde_json::from_str(value).ok());
                let values: Vec<Value> = values.chain([Value::Null]).collect();
                json!({ "enum": values, "description": format!("Nothing else is accepted: {reason}") })
            }
            Support::Refused(reason) => json!({ "type": "null", "description": format!("Refused: {reason}") }),
        };
        properties.insert(field.name.to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_in_the_tables_are_json() {
        for (table, _) in OPERATIONS.iter().filter_map(|operation| operation.body) {
            for field in table {
                if let Support::Supported(schema) = field.support {
                    assert!(serde_json::from_str::<Value>(schema).is_ok(), "{}", field.name);
                }
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = write();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                references += 1;
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            match value {
                Value::Object(fields) => open.extend(fields.values()),
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 20);
    }
}
