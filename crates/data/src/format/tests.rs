//! Every format's rows, and what is refused.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use proptest::prelude::*;
use serde_json::json;
use synapse_tokenizer::ToolCall;

use super::*;

fn normalizer(columns: &[&str], format: Option<Format>, map: &[(&str, &str)]) -> Result<Normalizer, String> {
    let columns: Vec<String> = columns.iter().map(|&c| c.to_owned()).collect();
    let map = map
        .iter()
        .map(|&(field, column)| (field.to_owned(), column.to_owned()))
        .collect();
    Normalizer::detect(&columns, format, &map)
}

fn row(value: Value) -> RowResult<Row> {
    let Value::Object(record) = value else {
        panic!("not a record")
    };
    let columns: Vec<&str> = record.keys().map(String::as_str).collect();
    normalizer(&columns, None, &[]).unwrap().row(&record)
}

fn chat(turns: &[(&str, &str)]) -> RowResult<Row> {
    let messages: Vec<Message> = turns
        .iter()
        .map(|&(role, content)| Message::new(role, content))
        .collect();
    Ok(messages.into())
}

#[test]
fn formats_are_detected_from_columns() {
    let detected = |columns: &[&str]| normalizer(columns, None, &[]).unwrap().format;
    assert_eq!(detected(&["question", "answer"]), Format::QuestionAnswer);
    assert_eq!(detected(&["instruction", "input", "output", "prompt"]), Format::Alpaca);
    assert_eq!(detected(&["instruction", "output"]), Format::Alpaca);
    assert_eq!(detected(&["conversations"]), Format::Sharegpt);
    assert_eq!(detected(&["id", "messages"]), Format::Messages);
    assert_eq!(detected(&["prompt", "completion"]), Format::PromptCompletion);
    assert_eq!(detected(&["url", "text", "date", "metadata"]), Format::Text);
    assert_eq!(
        detected(&["id", "system_prompt", "question", "response"]),
        Format::QuestionAnswer
    );
}

#[test]
fn a_map_overrides_and_is_checked() {
    let mapped = normalizer(&["q", "a"], None, &[("question", "q"), ("answer", "a")]).unwrap();
    let record = json!({"q": "1+1?", "a": 2});
    assert_eq!(
        mapped.row(record.as_object().unwrap()),
        chat(&[("user", "1+1?"), ("assistant", "2")])
    );
    let error = normalizer(&["q", "a"], None, &[]).unwrap_err();
    assert!(
        error.starts_with("the columns q, a do not fit any known format; say which holds what"),
        "{error}"
    );
    let error = normalizer(&["q", "a"], Some(Format::Text), &[("question", "q")]).unwrap_err();
    assert_eq!(
        error,
        "`map` names the field `question`; fields of this format are text"
    );
    let error = normalizer(&["q"], None, &[("text", "t")]).unwrap_err();
    assert_eq!(
        error,
        "`map` takes text from column `t`, which is not there; columns are q"
    );
    let error = normalizer(&["text"], Some(Format::Alpaca), &[]).unwrap_err();
    assert!(
        error.starts_with("the columns text do not fit instruction and output"),
        "{error}"
    );
}

#[test]
fn rows_come_out_as_conversations() {
    let alpaca = json!({"instruction": "Sort.", "input": "2 1", "output": "1 2"});
    assert_eq!(row(alpaca), chat(&[("user", "Sort.\n\n2 1"), ("assistant", "1 2")]));
    let alpaca = json!({"instruction": "Sort.", "input": "", "output": "1 2"});
    assert_eq!(row(alpaca), chat(&[("user", "Sort."), ("assistant", "1 2")]));
    let openorca = json!({"system_prompt": "s", "question": "q", "response": "r"});
    assert_eq!(
        row(openorca),
        chat(&[("system", "s"), ("user", "q"), ("assistant", "r")])
    );
    let prompt =
        json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "r"}]});
    assert_eq!(row(prompt), chat(&[("user", "q"), ("assistant", "r")]));
    assert_eq!(row(json!({"text": "t"})), Ok(Row::Document("t".into())));
}

#[test]
fn calculator_marks_go_and_the_answer_stays() {
    let gsm8k = json!({"question": "q", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 24"});
    assert_eq!(
        row(gsm8k),
        chat(&[("user", "q"), ("assistant", "48/2 = 24 clips.\n#### 24")])
    );
    let cpp = json!({"question": "q", "answer": "std::cout << x == y >> z;"});
    assert_eq!(
        row(cpp),
        chat(&[("user", "q"), ("assistant", "std::cout << x == y >> z;")])
    );
}

#[test]
fn sharegpt_weights_say_what_is_target() {
    let row = row(json!({"conversations": [
        {"from": "system", "value": "s", "weight": null}, {"from": "human", "value": "q", "weight": 0},
        {"from": "gpt", "value": "a", "weight": 0}, {"from": "human", "value": "q2"},
        {"from": "gpt", "value": "b", "weight": 1.0}, {"from": "human", "value": "unanswered"}
    ]}));
    let Ok(Row::Chat(Dialogue { messages, .. })) = row else {
        panic!("{row:?}")
    };
    let trained: Vec<&str> = messages
        .iter()
        .filter(|m| m.is_target())
        .map(|m| m.content.as_str())
        .collect();
    assert_eq!((messages.len(), trained), (5, vec!["b"]));
}

#[test]
fn rows_without_use_are_dropped_with_a_reason() {
    let dropped = |value: Value| match row(value) {
        Err(Refused::Dropped(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(dropped(json!({"question": "q", "answer": " "})), "empty_answer");
    assert_eq!(dropped(json!({"question": null, "answer": "a"})), "empty_prompt");
    assert_eq!(dropped(json!({"text": "\n"})), "empty_text");
    assert_eq!(dropped(json!({"messages": null})), "missing_field");
    assert_eq!(
        dropped(json!({"messages": [{"role": "user", "content": "q"}]})),
        "no_answer"
    );
    assert_eq!(
        dropped(json!({"messages": [{"role": "critic", "content": "q"}]})),
        "unsupported_role"
    );
}

#[test]
fn rows_that_break_the_format_are_named() {
    let malformed = |value: Value| match row(value) {
        Err(Refused::Malformed(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        malformed(json!({"question": ["q"], "answer": "a"})),
        "`question` is a list where text was expected"
    );
    assert_eq!(
        malformed(json!({"messages": "hello"})),
        "`messages`: not valid JSON: expected value at line 1 column 1"
    );
    assert_eq!(
        malformed(json!({"messages": "7"})),
        "`messages` is not a list of messages"
    );
    assert_eq!(
        malformed(json!({"messages": [{"content": "q"}]})),
        "message 0: has no `role` (or `from`)"
    );
    let weight = json!({"messages": [{"role": "user", "content": "q", "weight": 0.5}]});
    assert_eq!(malformed(weight), "message 0: `weight` must be 0 or 1 and is 0.5");
}

/// JSON of any shape, with the keys that matter.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
        Just("user".into()),
        Just("assistant".into())
    ];
    let key = "messages|conversations|role|from|content|value|weight|question|answer|instruction|output|text|tools|tool_calls|function|name|arguments";
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_record_makes_a_normalizer_panic(value in anything()) {
        if let Value::Object(record) = value {
            let columns: Vec<&str> = record.keys().map(String::as_str).collect();
            if let Ok(normalizer) = normalizer(&columns, None, &[]) {
                let _ = normalizer.row(&record);
            }
        }
    }
}

#[test]
fn preference_pairs_are_recognized_and_the_way_out_is_named() {
    let error = normalizer(&["prompt", "chosen", "rejected"], None, &[]).unwrap_err();
    assert!(
        error.contains("preference pairs") && error.contains("map: { messages: chosen }"),
        "{error}"
    );
    let mapped = normalizer(&["prompt", "chosen", "rejected"], None, &[("completion", "chosen")]).unwrap();
    assert_eq!(mapped.format, Format::PromptCompletion);
    let mapped = normalizer(
        &["chosen", "rejected"],
        Some(Format::Messages),
        &[("messages", "chosen")],
    )
    .unwrap();
    let record = json!({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    assert_eq!(
        mapped.row(record.as_object().unwrap()),
        chat(&[("user", "q"), ("assistant", "a")])
    );
}

#[test]
fn contents_in_parts_are_joined_and_other_parts_are_named() {
    let with = |content: Value| json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]});
    let parts = json!([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]);
    assert_eq!(row(with(parts)), chat(&[("user", "one two"), ("assistant", "a")]));
    let image = json!([{"type": "image_url", "image_url": "x"}]);
    let Err(Refused::Malformed(message)) = row(with(image)) else {
        panic!("an image is no text")
    };
    assert!(message.contains("a part of type `image_url`"), "{message}");
}

#[test]
fn calls_are_read_in_every_spelling() {
    let openai = json!({
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
            {"role": "assistant", "content": "a"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    });
    let call = |id: &str| ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: json!({"b": 1, "a": 2}),
    };
    let expected = |id: &str, tools: Value| {
        let mut messages: Vec<Message> = [("user", "q"), ("assistant", ""), ("tool", "r"), ("assistant", "a")]
            .map(|(role, content)| Message::new(role, content))
            .into();
        messages[1].tool_calls = vec![call(id)];
        messages[2].tool_call_id = (!id.is_empty()).then(|| id.to_owned());
        Ok(Row::Chat(Dialogue {
            messages,
            tools: vec![tools],
            tests: None,
        }))
    };
    assert_eq!(
        row(openai),
        expected("c1", json!({"type": "function", "function": {"name": "f"}}))
    );
    // ShareGPT keeps calls and tools as JSON in texts.
    let sharegpt = json!({
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}"},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": "[{\"name\": \"f\"}]",
    });
    assert_eq!(row(sharegpt), expected("", json!({"name": "f"})));
    let older = json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "I look.", "function_call": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}},
    ]});
    let Ok(Row::Chat(Dialogue { messages, .. })) = row(older) else {
        panic!("the older spelling is a call too")
    };
    assert_eq!(messages[1].tool_calls, [call("")]);
    for nothing in [json!([]), json!("[]"), json!(""), Value::Null] {
        let without = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": nothing});
        assert_eq!(row(without), chat(&[("user", "q"), ("assistant", "a")]));
    }
}

#[test]
fn calls_that_are_none_are_named() {
    let with = |calls: Value, tools: Value| {
        let value = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": calls}], "tools": tools});
        match row(value) {
            Err(Refused::Malformed(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    let bad = |arguments: Value| json!([{"function": {"name": "f", "arguments": arguments}}]);
    assert_eq!(with(json!([1]), json!([])), "message 1: a tool call is no object");
    assert_eq!(with(json!([{}]), json!([])), "message 1: a tool call has no `name`");
    assert_eq!(
        with(bad(json!("{\"a\": 123456789012345678901}")), json!([])),
        "message 1: the arguments of `f`: the integer 123456789012345678901 has more than 64 bits and would be rounded; \
         write it as a text"
    );
    assert_eq!(
        with(json!([]), json!(["f"])),
        "`tools` holds something else than objects"
    );
    let users = json!({"messages": [{"role": "user", "content": "q", "tool_calls": bad(json!({}))}]});
    assert_eq!(
        row(users),
        Err(Refused::Malformed(
            "message 0: the role `user` cannot call tools".to_owned()
        ))
    );
}

#[test]
fn a_broken_call_is_not_trained_on_and_stays_in_the_history() {
    let with = |arguments: Value, train: bool| {
        row(json!({"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "train": train, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]},
            {"role": "tool", "content": "not valid JSON"},
            {"role": "assistant", "content": "a"},
        ]}))
    };
    for broken in [json!("{\"a\": "), json!("a"), json!("[1]"), json!([1]), json!(2)] {
        assert_eq!(
            with(broken.clone(), true),
            Err(Refused::Dropped("broken_tool_call")),
            "{broken}"
        );
        let Ok(Row::Chat(Dialogue { messages, .. })) = with(broken.clone(), false) else {
            panic!("{broken} is history")
        };
        assert_eq!(
            messages[1].tool_calls[0].arguments, broken,
            "as transformers hands it to the template"
        );
    }
    for none in [json!(""), json!(" \n"), json!(null), json!("null"), json!({})] {
        let Ok(Row::Chat(Dialogue { messages, .. })) = with(none.clone(), true) else {
            panic!("{none} is no argument")
        };
        assert_eq!(messages[1].tool_calls[0].arguments, json!({}));
    }
    let call =
        json!({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": "}]});
    assert_eq!(row(call), Err(Refused::Dropped("broken_tool_call")));
}

#[test]
fn a_null_key_of_a_turn_is_no_key() {
    let turns = json!({"messages": [
        {"role": null, "from": "human", "content": null, "value": "q", "tool_calls": null},
        {"role": "assistant", "from": null, "content": "a", "value": null, "train": null, "weight": 0},
        {"role": "user", "content": "q2"}, {"role": "assistant", "content": "b"},
    ]});
    let Ok(Row::Chat(Dialogue { messages, .. })) = row(turns) else {
        panic!("both spellings are known")
    };
    assert_eq!(
        (messages[0].content.as_str(), messages[1].train, messages[3].train),
        ("q", false, true)
    );
}

#[test]
fn the_fields_are_those_that_a_recipe_may_map() {
    for (format, fields) in FORMATS {
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        assert_eq!(names, format.fields(), "{}", format.id());
    }
    let mut known = FORMATS.map(|(format, _)| format.id());
    let mut all = Format::ALL.map(Format::id);
    known.sort_unstable();
    all.sort_unstable();
    assert_eq!(known, all);
}

#[test]
fn every_conversation_may_have_tools_tests_and_a_system_turn() {
    let columns = ["m", "s", "t", "f"];
    let map = [("messages", "m"), ("system", "s"), ("tests", "t"), ("tools", "f")];
    let mapped = normalizer(&columns, Some(Format::Messages), &map).unwrap();
    let record = json!({
        "m": [{"role": "user", "content": "q", "name": "Ann"}, {"role": "assistant", "content": "a", "id": null}],
        "s": "S", "t": ["x"], "f": "[{\"name\": \"g\"}]",
    });
    let Ok(Row::Chat(dialogue)) = mapped.row(record.as_object().unwrap()) else {
        panic!("a conversation")
    };
    assert_eq!(dialogue.messages[0], Message::new("system", "S"));
    assert_eq!(
        (dialogue.tools, dialogue.tests),
        (vec![json!({"name": "g"})], Some(json!(["x"])))
    );
    let unread = mapped.unread_keys(record.as_object().unwrap());
    assert_eq!(unread.into_iter().collect::<Vec<_>>(), ["m[].name"]);
}

#[test]
fn a_tables_turns_are_json_in_a_text() {
    let text = r#"[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]"#;
    assert_eq!(
        row(json!({"messages": text})),
        chat(&[("user", "q"), ("assistant", "a")])
    );
    assert_eq!(row(json!({"messages": ""})), Err(Refused::Dropped("missing_field")));
    let broken = row(json!({"messages": "[{\"role\": "})).unwrap_err();
    assert!(
        matches!(&broken, Refused::Malformed(message) if message.starts_with("`messages`: not valid JSON")),
        "{broken:?}"
    );
    let record = json!({"messages": r#"[{"role": "user", "content": "q", "name": "Ann"}]"#});
    let normalizer = Normalizer::detect(&["messages".to_owned()], None, &BTreeMap::new()).unwrap();
    let unread = normalizer.unread_keys(record.as_object().unwrap());
    assert_eq!(unread.into_iter().collect::<Vec<_>>(), ["messages[].name"]);
}
