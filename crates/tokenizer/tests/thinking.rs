//! Templates that know thoughts: the text is transformers', and what is trained is what the model writes, from behind the
//! generation prompt to the end of its turn. `fixtures/thinking/make_thinking.py` made the numbers.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use synapse_tokenizer::{ChatTokenizer, Message, ToolCall};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The tiny tokenizer with Qwen3's template.
fn qwen3() -> (tempfile::TempDir, ChatTokenizer) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tiny").join(file), folder.path().join(file)).unwrap();
    }
    std::fs::copy(
        fixtures().join("thinking/qwen3.jinja"),
        folder.path().join("chat_template.jinja"),
    )
    .unwrap();
    let chat = ChatTokenizer::open(folder.path()).unwrap();
    (folder, chat)
}

/// A message as OpenAI writes it.
fn message(written: &Value) -> Message {
    let text = |field: &str| written[field].as_str().map(str::to_owned);
    let call = |call: &Value| ToolCall {
        id: call["id"].as_str().unwrap().to_owned(),
        name: call["function"]["name"].as_str().unwrap().to_owned(),
        arguments: call["function"]["arguments"].clone(),
    };
    Message {
        reasoning_content: text("reasoning_content"),
        tool_calls: written["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(call)
            .collect(),
        tool_call_id: text("tool_call_id"),
        ..Message::new(written["role"].as_str().unwrap(), written["content"].as_str().unwrap())
    }
}

#[test]
fn the_models_own_part_of_every_turn_is_trained_and_nothing_else() {
    let (folder, plain) = qwen3();
    check(&plain);
    // Some tokenizers mark the tags of calls as special; they end no turn.
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for token in tokenizer["added_tokens"].as_array_mut().unwrap() {
        if token["content"] == "<tool_call>" {
            token["special"] = true.into();
        }
    }
    std::fs::write(path, tokenizer.to_string()).unwrap();
    check(&ChatTokenizer::open(folder.path()).unwrap());
}

fn check(plain: &ChatTokenizer) {
    let rows = std::fs::read_to_string(fixtures().join("thinking/expected.jsonl")).unwrap();
    let mut seen = 0;
    for row in rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let messages: Vec<Message> = row["messages"].as_array().unwrap().iter().map(message).collect();
        let tools = row["tools"].as_array().unwrap();
        let chat = plain
            .with_template_arguments(row["arguments"].as_object().unwrap())
            .unwrap();
        let (text, prompt) = (
            row["text"].as_str().unwrap(),
            row["generation_prompt"].as_str().unwrap(),
        );
        let encoded = chat.encode_training(&messages, tools).unwrap();
        assert_eq!(chat.decode(&encoded.ids, false).unwrap(), text);
        let asked = chat.encode_prompt_with_tools(&messages, tools).unwrap();
        assert_eq!(chat.decode(&asked, false).unwrap(), format!("{text}{prompt}"));

        let trained: Vec<(u32, bool)> = encoded.ids.into_iter().zip(encoded.loss_mask).collect();
        let trained: Vec<String> = trained
            .chunk_by(|a, b| a.1 == b.1)
            .filter(|run| run[0].1)
            .map(|run| {
                chat.decode(&run.iter().map(|(id, _)| *id).collect::<Vec<_>>(), false)
                    .unwrap()
            })
            .collect();
        let expected: Vec<String> = serde_json::from_value(row["trained"].clone()).unwrap();
        // Told not to think, the model finds the empty block in its prompt.
        let block = prompt.split_once("assistant\n").unwrap().1;
        let expected: Vec<&str> = expected
            .iter()
            .map(|text| text.strip_prefix(block).unwrap_or(text))
            .collect();
        assert_eq!(trained, expected, "{text}");
        seen += 1;
    }
    assert_eq!(seen, 92);
}

#[test]
fn arguments_that_a_template_does_not_read_are_named() {
    let (_folder, chat) = qwen3();
    assert!(chat.takes_template_argument("enable_thinking") && !chat.takes_template_argument("messages"));
    let wrong = json!({ "enable_thinkng": false });
    let error = chat.with_template_arguments(wrong.as_object().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template argument `enable_thinkng`: this model's chat template does not read it; it reads enable_thinking"
    );
    let right = json!({ "enable_thinking": false });
    let without = chat.with_template_arguments(right.as_object().unwrap()).unwrap();
    assert_ne!(without.template_hash(), chat.template_hash());
}
