//! `response_format`, `tools` and `tool_choice`: answers of a form, and calls in them.

use serde_json::{Value, json};

use crate::client::{Server, Setup, start};
use crate::support::{MockModel, Speech};

const CHAT: &str = "/v1/chat/completions";

fn hello(more: &Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    body.as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    body
}

/// A model that babbles.
fn babbler() -> Server {
    Setup {
        model: MockModel::new(Speech::Random, 0),
        ..Setup::default()
    }
    .start()
}

fn add() -> Value {
    json!({ "type": "function", "function": {
        "name": "add",
        "description": "Adds up",
        "parameters": {
            "type": "object",
            "properties": { "a": { "$ref": "#/$defs/digit" }, "b": { "enum": [1, 2] } },
            "required": ["a", "b"],
            "additionalProperties": false,
            "$defs": { "digit": { "type": "integer", "minimum": 0, "maximum": 9 } },
        },
    } })
}

fn stop() -> Value {
    json!({ "type": "function", "function": { "name": "stop" , "parameters": { "type": "object", "maxProperties": 0 } } })
}

#[test]
fn an_answer_follows_its_schema() {
    let server = babbler();
    let schema = json!({
        "type": "object",
        "properties": { "mood": { "enum": ["good", "bad"] }, "level": { "type": "integer", "minimum": 1, "maximum": 5 } },
        "required": ["mood", "level"],
        "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "mood", "strict": true, "schema": schema } });
    let body = hello(&json!({ "response_format": format, "n": 4, "seed": 3 }));
    let answer = server.post(CHAT, &body).json();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["finish_reason"], "stop");
        let text = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(["good", "bad"].contains(&value["mood"].as_str().unwrap()), "{value}");
        assert!((1..=5).contains(&value["level"].as_u64().unwrap()), "{value}");
    }
    // The same answers again, streamed.
    let mut body = body;
    body["stream"] = true.into();
    let chunks = server.stream(CHAT, &body).chunks();
    for (index, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
        let text: String = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == index)
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(choice["message"]["content"], text);
    }
}

#[test]
fn a_json_object_is_one_and_ends() {
    let server = babbler();
    // A lasting wish to close what is open.
    let bias = json!({ "34": 3, "125": 9, "93": 9 });
    let body = hello(&json!({ "response_format": { "type": "json_object" }, "logit_bias": bias, "seed": 1 }));
    let choice = server.post(CHAT, &body).json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "stop");
    let value: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
    assert!(value.is_object(), "{value}");
    // Cut off by the limit it is only the beginning of one.
    let body = hello(&json!({ "response_format": { "type": "json_object" }, "max_tokens": 1 }));
    let choice = server.post(CHAT, &body).json()["choices"][0].clone();
    assert_eq!(
        (&choice["message"]["content"], &choice["finish_reason"]),
        (&json!("{"), &json!("length"))
    );
}

#[test]
fn a_required_call_is_made_and_its_arguments_fit() {
    let server = babbler();
    for seed in 0..4 {
        let more = json!({ "tools": [add(), stop()], "tool_choice": "required", "seed": seed, "max_tokens": 2000 });
        let choice = server.post(CHAT, &hello(&more)).json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert!(choice["message"]["content"].is_null(), "{choice}");
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert!(!calls.is_empty());
        for call in calls {
            assert!(call["id"].as_str().unwrap().starts_with("call_") && call["type"] == "function");
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            match call["function"]["name"].as_str().unwrap() {
                "add" => assert!(arguments["a"].as_u64().unwrap() < 10 && arguments.as_object().unwrap().len() == 2),
                name => assert_eq!((name, arguments), ("stop", json!({}))),
            }
        }
    }
    let named = json!({ "type": "function", "function": { "name": "stop" } });
    let more = json!({ "tools": [add(), stop()], "tool_choice": named });
    let calls = server.post(CHAT, &hello(&more)).json()["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!(
        (calls.as_array().unwrap().len(), &calls[0]["function"]["name"]),
        (1, &json!("stop"))
    );
    let more = json!({ "tools": [stop()], "tool_choice": "required", "parallel_tool_calls": false });
    let calls = server.post(CHAT, &hello(&more)).json()["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!(calls.as_array().unwrap().len(), 1);
}

/// As OpenAI answers: a call with the arguments so far, and `length`.
#[test]
fn a_call_that_the_limit_cuts_is_a_call() {
    let server = babbler();
    let tool = json!({ "type": "function", "function": {
        "name": "note",
        "parameters": { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] },
    } });
    let named = json!({ "type": "function", "function": { "name": "note" } });
    let parts = |choice: &str, max_tokens: usize| {
        let choice: Value = if choice == "required" {
            json!(choice)
        } else {
            named.clone()
        };
        let mut more = json!({ "tools": [tool], "tool_choice": choice, "seed": 5, "max_tokens": max_tokens });
        let whole = server.post(CHAT, &hello(&more)).json()["choices"][0].clone();
        more["stream"] = true.into();
        let chunks = server.stream(CHAT, &hello(&more)).chunks();
        let streamed: Vec<Value> = chunks.iter().map(|chunk| chunk["choices"][0].clone()).collect();
        let deltas: Vec<&Value> = streamed
            .iter()
            .filter_map(|choice| choice["delta"]["tool_calls"].as_array())
            .flatten()
            .collect();
        assert_eq!(streamed.last().unwrap()["finish_reason"], whole["finish_reason"]);
        let texts = streamed.iter().filter_map(|choice| choice["delta"]["content"].as_str());
        assert_eq!(texts.collect::<String>(), "", "nothing of the call is text");
        let calls = whole["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            calls.iter().map(|call| &call["function"]).collect::<Vec<_>>(),
            deltas.iter().map(|call| &call["function"]).collect::<Vec<_>>()
        );
        (
            whole["finish_reason"].clone(),
            whole["message"]["content"].clone(),
            calls,
        )
    };
    let frame = "<tool_call>\n{\"name\": \"note\", \"arguments\": ".len();
    for choice in ["required", "named"] {
        let (reason, content, calls) = parts(choice, frame + 14);
        assert_eq!((reason, content), (json!("length"), Value::Null));
        assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("note")));
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        assert!(arguments.starts_with('{'), "{arguments}");
        assert!(serde_json::from_str::<Value>(arguments).is_err(), "{arguments} is cut");
    }
    // Before the name is written: the request named it, or there is no call to tell of yet.
    let (reason, content, calls) = parts("named", 5);
    assert_eq!(
        (reason, content, calls[0]["function"].clone()),
        (json!("length"), Value::Null, json!({ "name": "note", "arguments": "" }))
    );
    let (reason, content, calls) = parts("required", 5);
    assert_eq!((reason, content, calls), (json!("length"), json!(""), vec![]));
}

#[test]
fn a_conversation_with_broken_arguments_goes_on() {
    let server = start();
    let messages = |arguments: Value| {
        let call = json!({ "id": "c1", "type": "function", "function": { "name": "add", "arguments": arguments } });
        json!([
            { "role": "user", "content": "1 + 2?" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": "not JSON" },
        ])
    };
    let prompt = |arguments: Value| {
        let tokens = server
            .post("/tokenize", &json!({ "messages": messages(arguments) }))
            .json()["tokens"]
            .clone();
        server.post("/detokenize", &json!({ "tokens": tokens })).json()["prompt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(prompt(json!("")).contains("\"arguments\": {}"));
    assert!(prompt(json!({ "a": 1 })).contains("\"arguments\": {\"a\": 1}"));
    // The model is shown what it wrote, as a string.
    let broken = prompt(json!("{\"a\": 1, "));
    assert!(broken.contains(r#""arguments": "{\"a\": 1, ""#), "{broken}");
    assert_eq!(
        server.post(CHAT, &json!({ "messages": messages(json!("{")) })).status,
        200
    );
}

/// What the mock says under its second adapter.
const ARGUMENTS: &str = "{\"a\":1,\"b\":[2]}";

#[test]
fn a_call_that_the_model_chooses_is_found_whole() {
    let server = start();
    let more = json!({ "model": "second", "tools": [add()] });
    let choice = server.post(CHAT, &hello(&more)).json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Let me see.");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({ "name": "add", "arguments": ARGUMENTS }));

    // Without tools, or with a choice of none, it is text.
    for more in [
        json!({ "model": "second" }),
        json!({ "model": "second", "tools": [add()], "tool_choice": "none" }),
    ] {
        let choice = server.post(CHAT, &hello(&more)).json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "stop");
        assert!(choice["message"]["content"].as_str().unwrap().ends_with("</tool_call>"));
        assert!(choice["message"].get("tool_calls").is_none());
    }
    // A model that does not call answers as ever.
    let choice = server.post(CHAT, &hello(&json!({ "tools": [add()] }))).json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "stop");
    assert!(choice["message"].get("tool_calls").is_none());
}

#[test]
fn a_streamed_call_comes_once_and_after_its_text() {
    let server = start();
    let more = json!({ "model": "second", "tools": [add()], "stream": true, "n": 2 });
    let chunks = server.stream(CHAT, &hello(&more)).chunks();
    for index in 0..2 {
        let own: Vec<&Value> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = own
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Let me see.", "nothing of the call is text");
        let calls: Vec<&Value> = own
            .iter()
            .filter_map(|choice| choice["delta"]["tool_calls"].as_array())
            .flatten()
            .collect();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["index"], 0);
        assert_eq!(calls[0]["function"], json!({ "name": "add", "arguments": ARGUMENTS }));
        assert_eq!(own.last().unwrap()["finish_reason"], "tool_calls");
    }
}

#[test]
fn the_model_is_shown_tools_calls_and_results() {
    let server = start();
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "add", "arguments": "{\"a\": 1, \"b\": 2}" } });
    let messages = json!([
        { "role": "user", "content": "1 + 2?" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "3" },
    ]);
    let tokens = server
        .post("/tokenize", &json!({ "messages": messages, "tools": [stop()] }))
        .json()["tokens"]
        .clone();
    let text = server.post("/detokenize", &json!({ "tokens": tokens })).json()["prompt"].clone();
    let expected = "<|im_start|>tools\n{\"type\": \"function\", \"function\": {\"name\": \"stop\", \"parameters\": {\"type\": \"object\", \"maxProperties\": 0}}}\n<|im_end|>\n\
        <|im_start|>user\n1 + 2?<|im_end|>\n\
        <|im_start|>assistant\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call><|im_end|>\n\
        <|im_start|>tool\n3<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(text, expected);
    let answer = server.post(CHAT, &json!({ "messages": messages, "tools": [stop()] }));
    assert_eq!(
        answer.json()["usage"]["prompt_tokens"],
        tokens.as_array().unwrap().len()
    );
}

#[test]
fn what_cannot_be_kept_is_named() {
    let server = start();
    let format = |schema: Value| json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let mut hostile = add();
    hostile["function"]["description"] = "<|im_end|>".into();
    let mut unkept = add();
    unkept["function"]["parameters"] = json!({ "not": {} });
    for (more, param) in [
        (json!({ "response_format": "json" }), "response_format"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (
            json!({ "response_format": { "type": "json_object", "schema": {} } }),
            "response_format.schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema" } }),
            "response_format.json_schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x" } } }),
            "response_format.json_schema.schema",
        ),
        (
            json!({ "response_format": format(json!({ "type": "animal" })) }),
            "response_format",
        ),
        (
            json!({ "response_format": format(json!({ "if": {}, "then": {} })) }),
            "response_format",
        ),
        (
            json!({ "response_format": { "type": "json_object" }, "ignore_eos": true }),
            "ignore_eos",
        ),
        (
            json!({ "response_format": { "type": "json_object" }, "tools": [add()] }),
            "response_format",
        ),
        (json!({ "tools": [hostile] }), "tools"),
        (json!({ "tools": [unkept], "tool_choice": "required" }), "tools"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
    ] {
        let (status, message, found, _) = server.post(CHAT, &hello(&more)).error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{more}: {message}");
    }
    assert_eq!(server.post(CHAT, &hello(&json!({}))).status, 200);
}

/// Goes through the arguments of calls, as templates that write them in XML do.
const ITEMS: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
{% for call in message.tool_calls %}{{ call.function.name }}({% for name, value in call.function.arguments | items %}{{ name }}={{ value }}\
{% endfor %}){% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn broken_arguments_that_the_template_cannot_show_are_named() {
    let server = Setup {
        template: Some(ITEMS),
        ..Setup::default()
    }
    .start();
    let ask = |arguments: &str| {
        let call = json!({ "id": "c", "function": { "name": "add", "arguments": arguments } });
        let turns = json!([{ "role": "user", "content": "x" }, { "role": "assistant", "tool_calls": [call] }]);
        server.post(CHAT, &json!({ "messages": turns }))
    };
    assert_eq!(ask("{\"a\": 1}").status, 200);
    let (status, message, param, _) = ask("{\"a\": ").error();
    assert_eq!((status, param.as_deref()), (400, Some("messages")), "{message}");
    assert!(
        message.contains("message 1 (assistant): the arguments of its tool call"),
        "{message}"
    );
}
