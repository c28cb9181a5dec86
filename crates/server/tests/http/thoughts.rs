//! Models that think before they answer: thoughts apart from the content, templates with and without them.

use serde_json::{Value, json};

use crate::client::{Server, Setup, start};
use crate::schema::Document;
use crate::support::{MockModel, Speech, THOUGHT_WORDS, script};

const CHAT: &str = "/v1/chat/completions";

/// A template that knows thoughts, as Qwen3's does.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n{% endif %}{{ message.content }}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n\
{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";

/// The same, but every answer begins among thoughts.
const ALWAYS: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

fn thinker(template: &'static str, words: &[&str]) -> Server {
    let mut model = MockModel::new(Speech::Script, 0);
    model.scripts[0] = script(words);
    Setup {
        model,
        template: Some(template),
        ..Setup::default()
    }
    .start()
}

fn ask(more: &Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "2 + 2?" }], "temperature": 0 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// What the model reads of a request.
fn prompt(server: &Server, body: &Value) -> String {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove("temperature");
    let tokens = server.post("/tokenize", &body).json()["tokens"].clone();
    let text = server.post("/detokenize", &json!({ "tokens": tokens })).json();
    text["prompt"].as_str().unwrap().to_owned()
}

#[test]
fn thoughts_come_apart_from_the_answer() {
    for (template, words) in [(TEMPLATE, THOUGHT_WORDS), (ALWAYS, &THOUGHT_WORDS[2..])] {
        let server = thinker(template, words);
        let document = Document::of(&server);
        let answer = server.post(CHAT, &ask(&json!({}))).json();
        document.answer("post", CHAT, &answer).unwrap();
        let message = &answer["choices"][0]["message"];
        assert_eq!(
            (&message["reasoning_content"], &message["content"]),
            (&json!("Two and two."), &json!("Four!"))
        );
        let (mut thought, mut content) = (String::new(), String::new());
        for chunk in server.stream(CHAT, &ask(&json!({ "stream": true }))).chunks() {
            let delta = &chunk["choices"][0]["delta"];
            thought += delta["reasoning_content"].as_str().unwrap_or_default();
            content += delta["content"].as_str().unwrap_or_default();
        }
        assert_eq!((thought.as_str(), content.as_str()), ("Two and two.", "Four!"));

        // Cut among the thoughts, there is no answer yet.
        let cut = server.post(CHAT, &ask(&json!({ "max_tokens": 3 }))).json();
        let choice = &cut["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("length"), &json!(""))
        );
        assert!(
            choice["message"]["reasoning_content"]
                .as_str()
                .unwrap()
                .starts_with("Two and")
        );
    }
}

#[test]
fn a_model_whose_template_knows_no_thoughts_has_none() {
    let mut setup = Setup::default();
    setup.model.scripts[0] = script(THOUGHT_WORDS);
    let server = setup.start();
    let answer = server.post(CHAT, &ask(&json!({}))).json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "<think>\nTwo and two.\n</think>\n\nFour!");
    assert!(message.get("reasoning_content").is_none());
}

#[test]
fn a_request_sets_variables_of_the_template() {
    let server = thinker(TEMPLATE, THOUGHT_WORDS);
    let without = json!({ "chat_template_kwargs": { "enable_thinking": false } });
    assert!(prompt(&server, &ask(&json!({}))).ends_with("<|im_start|>assistant\n"));
    assert!(prompt(&server, &ask(&without)).ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
    let tokens = |more: &Value| {
        let answer = server.post(CHAT, &ask(more)).json();
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(
        tokens(&without) - tokens(&json!({})),
        "<think>\n\n</think>\n\n".len() as u64
    );

    // What an earlier answer thought is shown as the template shows it, under either name.
    for name in ["reasoning_content", "reasoning"] {
        let turns = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b", name: "c" }]);
        let text = prompt(&server, &json!({ "messages": turns }));
        assert!(
            text.contains("assistant\n<think>\nc\n</think>\n\nb<|im_end|>"),
            "{text}"
        );
    }

    let wrong = json!({ "chat_template_kwargs": { "enable_thinkng": false } });
    for path in [CHAT, "/tokenize"] {
        let mut body = ask(&wrong);
        body.as_object_mut().unwrap().remove("temperature");
        let (status, message, param, _) = server.post(path, &body).error();
        assert_eq!(
            (status, param.as_deref()),
            (400, Some("chat_template_kwargs")),
            "{message}"
        );
        assert!(message.contains("it reads enable_thinking"), "{message}");
    }
    // Whoever turns thoughts off for every model may do so where there are none; asking for some is another matter.
    let plain = start();
    assert_eq!(plain.post(CHAT, &ask(&without)).status, 200);
    let with = json!({ "chat_template_kwargs": { "enable_thinking": true } });
    let (status, message, _, _) = plain.post(CHAT, &ask(&with)).error();
    assert_eq!(status, 400);
    assert!(message.contains("takes no arguments"), "{message}");
}
