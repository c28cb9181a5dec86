//! Prompts that begin as others did.

use synapse_engine::{Completion, EngineOptions, Request, SamplingOptions};

use crate::support::{MockModel, Speech, byte_tokens};
use crate::{Rig, greedy, one, request, rig};

fn caching() -> Rig {
    let options = EngineOptions {
        prefix_cache_bytes: 1 << 20,
        ..EngineOptions::default()
    };
    rig(MockModel::new(Speech::Random, 2), options)
}

fn long(text: &str, adapter: Option<&str>) -> Request {
    let sampling = SamplingOptions {
        ignore_eos: true,
        ..greedy(5)
    };
    Request {
        adapter: adapter.map(str::to_owned),
        ..request(text, sampling)
    }
}

/// Prompt tokens that the model was given for a request, and its answer.
fn read(rig: &Rig, request: Request) -> (usize, Completion) {
    rig.model.trace.lock().unwrap().clear();
    let completion = one(&rig.engine, request);
    let read: usize = rig.model.trace.lock().unwrap().iter().flatten().sum();
    (read - (completion.usage.completion_tokens - 1), completion)
}

#[test]
fn a_known_beginning_is_not_read_again_and_changes_nothing() {
    let rig = caching();
    let text = "a conversation that goes on ".repeat(10);
    let (first, whole) = read(&rig, long(&text, None));
    assert_eq!((first, whole.usage.cached_tokens), (280, 0));
    let (again, same) = read(&rig, long(&text, None));
    assert_eq!((again, same.usage.cached_tokens), (280 - 256, 256));
    assert_eq!(same.usage.prompt_tokens, 280);
    assert_eq!(same.token_ids(), whole.token_ids());
    // Another adapter reads it for itself.
    let (other, adapted) = read(&rig, long(&text, Some("first")));
    assert_eq!((other, adapted.usage.cached_tokens), (280, 0));
    assert_ne!(adapted.token_ids(), whole.token_ids());
    // A longer prompt goes on from where the known one is whole.
    let (rest, _) = read(&rig, long(&format!("{text}and on"), None));
    assert_eq!(rest, 286 - 256);
}

#[test]
fn an_answer_is_read_again_as_a_prompt() {
    let rig = caching();
    let mut talk = long(&"x".repeat(60), None);
    talk.sampling.max_tokens = 100;
    let (_, answer) = read(&rig, talk);
    let mut grown = byte_tokens(&"x".repeat(60));
    grown.extend(&answer.token_ids());
    let grown = Request {
        prompt: grown,
        ..long("", None)
    };
    assert_eq!(
        read(&rig, grown.clone()).0,
        160,
        "nothing that was generated counts as read"
    );
    assert_eq!(read(&rig, grown).0, 160 - 128);
}

#[test]
fn without_room_every_prompt_is_read() {
    let rig = rig(MockModel::new(Speech::Random, 0), EngineOptions::default());
    let text = "y".repeat(200);
    assert_eq!(read(&rig, long(&text, None)).0, 200);
    assert_eq!(read(&rig, long(&text, None)).0, 200);
}

#[test]
fn prompts_that_come_together_are_read_once() {
    let rig = caching();
    let text = "a question for several answers ".repeat(8);
    let alone = one(&caching().engine, long(&text, None));
    let mut requests = vec![long(&text, None); 4];
    requests.insert(2, long(&text, Some("first")));
    let completions = rig.engine.generate(requests).unwrap();
    let read: Vec<usize> = completions
        .iter()
        .map(|completion| completion.usage.prompt_tokens - completion.usage.cached_tokens)
        .collect();
    let rest = 248 - 192;
    assert_eq!(read, [248, rest, 248, rest, rest]);
    for index in [0, 1, 3, 4] {
        assert_eq!(completions[index].token_ids(), alone.token_ids());
    }
}
