//! Models that think: what is trained is what the server will ask the model to write, with thoughts and without.

use serde_json::{Value, json};

use crate::{
    serving::Server,
    support::{Root, copy_tree, expect, repository, stderr, stdout},
};

const QWEN3: &str = "crates/tokenizer/tests/fixtures/thinking/qwen3.jinja";

/// A tiny base with Qwen3's template, and a recipe over one conversation in which the model thinks before each answer.
fn recipe(root: &Root, chat: &str) -> Value {
    copy_tree(&Root::base(), &root.join("thinker"));
    std::fs::copy(repository().join(QWEN3), root.join("thinker/chat_template.jinja")).unwrap();
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let messages = json!([
        turn("user", "2 + 2?"),
        turn("assistant", "<think>\nTwo and two.\n</think>\n\nFour."),
        turn("user", "Sure?"),
        turn("assistant", "<think>\nStill two and two.\n</think>\n\nYes."),
    ]);
    root.write("rows.jsonl", &json!({ "messages": messages }).to_string());
    let text = format!(
        "name: thoughts\nbase: ../thinker\ndata: [{{ dataset: ../rows.jsonl }}]\nheld_out: 0\nevaluate: {{ suites: [] }}\n\
         filters: {{ min_chars: 0 }}\ntrain: {{ max_seq_len: 512, packing: false }}\noutput: outputs/thoughts\n{chat}\n"
    );
    root.write("recipes/thoughts.yaml", &text);
    messages
}

#[test]
fn training_begins_where_serving_asks() {
    for (chat, arguments) in [
        ("", "{}"),
        ("chat: { enable_thinking: false }", r#"{"enable_thinking": false}"#),
    ] {
        let root = Root::new();
        let messages = recipe(&root, chat);
        let row = stdout(&root.ok(&["data", "inspect", "recipes/thoughts.yaml", "--json"]));
        let row: Value = serde_json::from_str(&row).unwrap();
        let tokens = row["documents"][0]["tokens"].as_array().unwrap();
        let ids: Vec<&Value> = tokens.iter().map(|token| &token["id"]).collect();
        let text = |trained: bool| -> String {
            let wanted = tokens.iter().filter(|token| token["trained"] == trained);
            wanted.map(|token| token["text"].as_str().unwrap()).collect()
        };
        // Earlier thoughts are not shown; the last are, and the model writes them.
        let (trained, read) = (text(true), text(false));
        assert_eq!(
            trained, "Four.<|im_end|><think>\nStill two and two.\n</think>\n\nYes.<|im_end|>",
            "{read}"
        );
        let server = Server::start(&root, &["thinker", "--chat-template-kwargs", arguments]);
        let asked = json!({ "messages": messages.as_array().unwrap()[..3] });
        let (status, body) = server.request("POST", "/tokenize", &asked.to_string());
        assert_eq!(status, 200, "{body}");
        let prompt: Value = serde_json::from_str(&body).unwrap();
        let prompt: Vec<&Value> = prompt["tokens"].as_array().unwrap().iter().collect();
        if arguments == "{}" {
            assert_eq!(ids[..prompt.len()], prompt);
            let first = tokens.iter().rposition(|token| token["trained"] == false).unwrap() + 1;
            assert!(first >= prompt.len(), "what the server gives is not trained");
        } else {
            // Told not to think, the server gives an empty block where this row has thoughts.
            assert!(prompt.len() > ids.iter().zip(&prompt).take_while(|(a, b)| a == b).count());
        }
    }
}

#[test]
fn arguments_that_the_template_does_not_read_are_named() {
    let root = Root::new();
    recipe(&root, "chat: { enable_thinkng: false }");
    let wrong =
        "template argument `enable_thinkng`: this model's chat template does not read it; it reads enable_thinking";
    let output = root
        .train(&["data", "inspect", "recipes/thoughts.yaml"])
        .output()
        .unwrap();
    assert!(stderr(&expect(output, 1)).contains(wrong));
    let wrong_json = [
        "generate",
        "thinker",
        "--prompt",
        "a",
        "--chat-template-kwargs",
        "{enable",
    ];
    let output = expect(root.train(&wrong_json).output().unwrap(), 2);
    assert!(stderr(&output).contains("not a JSON object"), "{}", stderr(&output));
}
