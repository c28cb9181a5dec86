//! A chat template and a conversation: the text before the first NUL is the template, what follows is the messages' JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_tokenizer::{ChatTokenizer, Message};

fuzz_target!(|text: &str| {
    let (template, messages) = text.split_once('\0').unwrap_or((text, ""));
    let folder = synapse_fuzz::folder();
    let tokenizer = folder.join("tokenizer.json");
    if !tokenizer.exists() {
        std::fs::copy(synapse_fuzz::model().join("tokenizer.json"), &tokenizer).expect("the bundled tokenizer");
    }
    let _ = synapse_fuzz::file("chat_template.jinja", template.as_bytes());
    let Ok(chat) = ChatTokenizer::open(folder) else {
        return;
    };
    let messages: Vec<Message> = serde_json::from_str(messages).unwrap_or_else(|_| {
        vec![Message::new("system", "Be brief."), Message::new("user", messages), Message::new("assistant", "Yes.")]
    });
    let _ = chat.render(&messages, true);
    let _ = chat.encode_prompt(&messages);
    let _ = chat.encode_training(&messages, &[]);
});
