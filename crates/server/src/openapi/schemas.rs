//! The schemas that the document refers to: parts of requests, and everything the server answers.

use serde_json::{Map, Value, json};

/// A reference to one of them.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// All of them by name.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for group in [requests(), chat(), completions(), routing(), others()] {
        if let Value::Object(group) = group {
            schemas.extend(group);
        }
    }
    schemas.into()
}

/// An object with exactly these properties; those whose name ends in `?` may be missing.
fn object(properties: &Value) -> Value {
    let mut named = Map::new();
    let mut required = Vec::new();
    for (name, schema) in properties.as_object().into_iter().flatten() {
        match name.strip_suffix('?') {
            Some(name) => named.insert(name.to_owned(), schema.clone()),
            None => {
                required.push(name.as_str());
                named.insert(name.clone(), schema.clone())
            }
        };
    }
    json!({ "type": "object", "properties": named, "required": required, "additionalProperties": false })
}

fn string() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn list(items: Value) -> Value {
    let fields = [("type".to_owned(), "array".into()), ("items".to_owned(), items)];
    Value::Object(fields.into_iter().collect())
}

fn or_null(schema: Value) -> Value {
    let options = vec![schema, json!({ "type": "null" })];
    json!({ "anyOf": options })
}

fn requests() -> Value {
    let part = |kind: &str| object(&json!({ "type": { "const": kind }, (kind): string() }));
    let content = json!({ "anyOf": [string(), list(part("text"))] });
    let answered = json!({ "anyOf": [string(), list(json!({ "anyOf": [part("text"), part("refusal")] }))] });
    let function = object(&json!({
        "name": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
        "description?": or_null(string()),
        "parameters?": or_null(json!({ "type": "object" })),
        "strict?": or_null(json!({ "type": "boolean" })),
    }));
    let named = object(&json!({ "type": { "const": "function" }, "function": object(&json!({ "name": string() })) }));
    let schema = object(&json!({
        "name": string(),
        "description?": or_null(string()),
        "schema": { "type": "object" },
        "strict?": or_null(json!({ "type": "boolean" })),
    }));
    let speaker = |role: Value, more: Value| {
        let mut properties = json!({ "role": role, "name?": {}, "type?": { "enum": ["message", "text", null] } });
        if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
            properties.extend(more);
        }
        object(&properties)
    };
    json!({
        "TokenIds": { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0 } },
        "Message": { "anyOf": [
            speaker(json!({ "enum": ["system", "developer", "user"] }), json!({ "content": content })),
            // As clients send answers back, with what they read out of them.
            speaker(json!({ "const": "assistant" }), json!({
                "content?": or_null(answered),
                "tool_calls?": or_null(list(reference("SentToolCall"))),
                "refusal?": or_null(string()),
                "parsed?": {}, "annotations?": {}, "provider_specific_fields?": {}, "response_metadata?": {},
                "usage_metadata?": {}, "audio?": { "type": "null" }, "function_call?": { "type": "null" },
                "reasoning?": or_null(string()), "reasoning_content?": or_null(string()),
            })),
            speaker(json!({ "const": "tool" }), json!({ "content": content, "tool_call_id": string() })),
        ] },
        "SentToolCall": object(&json!({
            "id": string(),
            "type?": { "const": "function" },
            "index?": count(),
            "function": object(&json!({
                "name": string(),
                "arguments": { "type": ["string", "object"] },
                "parsed_arguments?": {},
            })),
        })),
        "ToolCall": object(&json!({
            "id": string(),
            "type": { "const": "function" },
            "function": object(&json!({ "name": string(), "arguments": string() })),
        })),
        "Tool": object(&json!({ "type": { "const": "function" }, "function": function })),
        "ToolChoice": { "anyOf": [{ "enum": ["none", "auto", "required"] }, named] },
        "ResponseFormat": { "anyOf": [
            object(&json!({ "type": { "enum": ["text", "json_object"] } })),
            object(&json!({ "type": { "const": "json_schema" }, "json_schema": schema })),
        ] },
    })
}

fn usage() -> Value {
    object(&json!({
        "prompt_tokens": count(),
        "completion_tokens": count(),
        "total_tokens": count(),
        "prompt_tokens_details": object(&json!({ "cached_tokens": count() })),
    }))
}

fn finish_reason() -> Value {
    json!({ "enum": ["stop", "length", "tool_calls"] })
}

fn chat() -> Value {
    let token = |top: Option<Value>| {
        let mut properties = json!({
            "token": string(),
            "logprob": { "type": "number" },
            "bytes": or_null(list(json!({ "type": "integer", "minimum": 0, "maximum": 255 }))),
        });
        if let Some(top) = top {
            properties["top_logprobs"] = top;
        }
        object(&properties)
    };
    let logprobs = or_null(object(&json!({
        "content": list(token(Some(list(token(None))))),
        "refusal": { "type": "null" },
    })));
    let message = object(&json!({
        "role": { "const": "assistant" },
        "content": or_null(string()),
        "refusal": { "type": "null" },
        "reasoning_content?": string(),
        "tool_calls?": list(reference("ToolCall")),
    }));
    let call = object(&json!({
        "index": count(),
        "id": string(),
        "type": { "const": "function" },
        "function": object(&json!({ "name": string(), "arguments": string() })),
    }));
    let delta = object(&json!({
        "role?": { "const": "assistant" },
        "content?": string(),
        "reasoning_content?": string(),
        "tool_calls?": list(call),
    }));
    let choice = object(&json!({
        "index": count(), "message": message, "logprobs": logprobs, "finish_reason": finish_reason(),
    }));
    let part = object(&json!({
        "index": count(), "delta": delta, "logprobs": logprobs, "finish_reason": or_null(finish_reason()),
    }));
    let whole = json!({
        "id": string(), "object": { "const": "chat.completion" }, "created": count(), "model": string(),
        "choices": list(choice), "usage": usage(), "synapse?": reference("Routing"),
    });
    let chunk = json!({
        "id": string(), "object": { "const": "chat.completion.chunk" }, "created": count(), "model": string(),
        "choices": list(part), "usage?": or_null(usage()), "synapse?": reference("Routing"),
    });
    json!({ "ChatCompletion": object(&whole), "ChatCompletionChunk": object(&chunk) })
}

fn completions() -> Value {
    let number = json!({ "type": "number" });
    let logprobs = or_null(object(&json!({
        "tokens": list(string()),
        // The first token of a repeated prompt has none.
        "token_logprobs": list(or_null(number.clone())),
        "top_logprobs": list(or_null(json!({ "type": "object", "additionalProperties": number }))),
        "text_offset": list(count()),
    })));
    let choice = object(&json!({
        "text": string(), "index": count(), "logprobs": logprobs, "finish_reason": or_null(finish_reason()),
    }));
    let completion = json!({
        "id": string(), "object": { "const": "text_completion" }, "created": count(), "model": string(),
        "choices": list(choice), "usage?": or_null(usage()),
    });
    json!({ "Completion": object(&completion) })
}

/// A decision of the swarm, as answers carry it and as the trace keeps it.
fn routing() -> Value {
    let decision = json!({
        "adapter": string(),
        "reason": { "enum": ["routed", "kept", "unsure"] },
        "label": string(),
        "scores": { "type": "object", "additionalProperties": { "type": "number", "minimum": 0, "maximum": 1 } },
        "router_ms": { "type": "number", "minimum": 0 },
        // Who drafted where a request needed several; the length once a draft is written, its text in answers alone.
        "drafts?": list(object(&json!({
            "adapter": string(),
            "score": { "type": "number", "minimum": 0, "maximum": 1 },
            "tokens?": count(),
            "finish_reason?": finish_reason(),
            "text?": string(),
        }))),
    });
    let mut kept = decision.clone();
    kept["created"] = count();
    kept["turn"] = string();
    let trace = json!({ "object": { "const": "list" }, "data": list(object(&kept)) });
    let numbers = || list(json!({ "type": "number" }));
    let modules = json!({
        "object": { "const": "module.trace" },
        "modules": list(string()),
        "tokens": list(object(&json!({ "id": count(), "text": string() }))),
        "answer_from": count(),
        "layers": list(object(&json!({
            "weights": list(numbers()), "memory_write": numbers(), "memory_read": numbers(),
        }))),
    });
    json!({ "Routing": object(&decision), "RoutingTrace": object(&trace), "ModuleTrace": object(&modules) })
}

fn others() -> Value {
    let vector = json!({ "anyOf": [
        list(json!({ "type": "number" })),
        { "type": "string", "description": "base64 of little-endian f32" },
    ] });
    let embedding = object(&json!({ "object": { "const": "embedding" }, "index": count(), "embedding": vector }));
    let error = object(&json!({
        "message": string(), "type": string(), "param": or_null(string()), "code": or_null(string()),
    }));
    json!({
        "EmbeddingList": object(&json!({
            "object": { "const": "list" },
            "data": list(embedding),
            "model": string(),
            "usage": object(&json!({ "prompt_tokens": count(), "total_tokens": count() })),
        })),
        "Model": object(&json!({
            "id": string(), "object": { "const": "model" }, "created": count(), "owned_by": string(),
            "parent": or_null(string()), "generation": or_null(string()), "modules": list(string()),
        })),
        "ModelList": object(&json!({ "object": { "const": "list" }, "data": list(reference("Model")) })),
        "Adapter": object(&json!({
            "id": string(), "object": { "const": "adapter" }, "generation": or_null(string()),
        })),
        "DeletedAdapter": object(&json!({
            "id": string(), "object": { "const": "adapter" }, "deleted": { "const": true },
        })),
        "Tokens": object(&json!({
            "count": count(), "max_model_len": count(), "tokens": list(count()), "token_strs?": list(string()),
        })),
        "Text": object(&json!({ "prompt": string() })),
        "Health": object(&json!({ "status": { "const": "ok" } })),
        "Document": { "type": "object" },
        "Error": object(&json!({ "error": error })),
    })
}
