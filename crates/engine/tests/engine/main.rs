//! The engine over a mock model: batching, determinism, stops, limits and cancellation.

#![expect(clippy::unwrap_used, reason = "tests")]

mod adapters;
mod embedding;
mod grammar;
mod json_schema;
mod observer;
mod prefix;
mod prompt_logprobs;
mod schemas;
mod scoring;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{ADAPTER_WORDS, BASE_TOKENS, BASE_WORDS, END_OF_TEXT, END_OF_TURN, MockModel, Speech, byte_tokens, chat};
use synapse_engine::{
    Completion, Engine, EngineError, EngineOptions, Event, EventReceiver, Finish, FinishReason, Request,
    SamplingOptions,
};

/// An engine and the model it drives.
struct Rig {
    engine: Engine,
    model: Arc<MockModel>,
    _folder: tempfile::TempDir,
}

fn rig(model: MockModel, options: EngineOptions) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(model);
    let engine = Engine::start(model.clone(), chat(folder.path()), model.named_adapters(), options);
    Rig {
        engine,
        model,
        _folder: folder,
    }
}

fn slow(speech: Speech) -> MockModel {
    MockModel {
        delay: Duration::from_millis(3),
        ..MockModel::new(speech, 0)
    }
}

fn request(prompt: &str, sampling: SamplingOptions) -> Request {
    Request {
        prompt: byte_tokens(prompt),
        sampling,
        adapter: None,
        constraint: None,
    }
}

fn greedy(max_tokens: usize) -> SamplingOptions {
    SamplingOptions {
        max_tokens,
        ..SamplingOptions::default()
    }
}

fn one(engine: &Engine, request: Request) -> Completion {
    engine.generate(vec![request]).unwrap().remove(0)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited 10 s until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_ends_at_the_stop_token_or_at_the_limit() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let whole = one(&rig.engine, request("Hi\n", greedy(100)));
    assert_eq!(whole.text, BASE_WORDS.concat());
    assert_eq!(whole.finish_reason, FinishReason::Stop);
    assert_eq!(whole.token_ids().last(), Some(&END_OF_TURN));
    assert_eq!(whole.usage.prompt_tokens, 3);
    assert_eq!(
        (whole.usage.completion_tokens, whole.token_ids().len()),
        (BASE_TOKENS, BASE_TOKENS)
    );

    let cut = one(&rig.engine, request("Hi\n", greedy(3)));
    assert_eq!(
        (cut.text.as_str(), cut.finish_reason),
        ("Hello, this", FinishReason::Length)
    );
    assert_eq!(cut.usage.completion_tokens, 3);
    assert!(cut.timings.prefill_tokens_per_second > 0.0 && cut.timings.decode_tokens_per_second > 0.0);

    // Exactly as many tokens as the answer has, without its stop token: the limit comes first.
    let exact = one(&rig.engine, request("Hi\n", greedy(whole.usage.completion_tokens - 1)));
    assert_eq!((exact.text, exact.finish_reason), (whole.text, FinishReason::Length));

    let on = one(
        &rig.engine,
        request(
            "Hi\n",
            SamplingOptions {
                ignore_eos: true,
                ..greedy(40)
            },
        ),
    );
    assert_eq!(
        (on.usage.completion_tokens, on.finish_reason),
        (40, FinishReason::Length)
    );
}

#[test]
fn a_character_is_never_split_even_when_the_limit_cuts_it() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let mut events = rig.engine.submit(request("Hi\n", greedy(100))).unwrap();
    while let Some(event) = events.blocking_recv() {
        if let Event::Token(token) = event {
            assert!(!token.text.contains('\u{fffd}'), "{}", token.text);
        }
    }
    let until_half_of_the_accent = 8;
    let cut = one(&rig.engine, request("Hi\n", greedy(until_half_of_the_accent)));
    assert_eq!(cut.text, "Hello, this is a mock caf\u{fffd}");
}

#[test]
fn stop_strings_across_tokens_end_the_answer_and_never_show() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let run = |stops: &[&str]| {
        let stop = stops.iter().map(|stop| (*stop).to_owned()).collect();
        one(
            &rig.engine,
            request(
                "Hi\n",
                SamplingOptions {
                    stop,
                    logprobs: Some(0),
                    ..greedy(100)
                },
            ),
        )
    };
    let found = run(&["s a m"]);
    assert_eq!(
        (found.text.as_str(), found.finish_reason),
        ("Hello, this i", FinishReason::Stop)
    );
    // Hello | , | this | is | a | mock: the stop string's own tokens are counted but not handed out.
    assert_eq!(
        (
            found.usage.completion_tokens,
            found.token_ids().len(),
            found.tokens.iter().filter(|token| token.logprob.is_some()).count()
        ),
        (6, 4, 4)
    );
    assert_eq!(run(&["nothing like it", "fé w"]).text, "Hello, this is a mock ca");
    assert_eq!(run(&["🦀"]).text, "Hello, this is a mock café with the");
    assert_eq!(run(&["Hello"]).text, "");
    // A stop string that is still forming when the answer ends is shown after all.
    let harmless = run(&["crab.!"]);
    assert_eq!(
        (harmless.text, harmless.finish_reason),
        (BASE_WORDS.concat(), FinishReason::Stop)
    );
}

#[test]
fn a_batch_gives_each_request_what_it_gets_alone() {
    let options = EngineOptions {
        max_batch: 5,
        prefill_chunk: 7,
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Random, 3), options);
    let requests: Vec<Request> = (0..24usize)
        .map(|index| Request {
            prompt: byte_tokens(&format!("{}{index}", "prompt ".repeat(index % 6))),
            sampling: SamplingOptions {
                temperature: if index % 4 == 0 { 0.0 } else { 0.8 + index as f32 / 40.0 },
                top_k: (index % 3) * 20,
                top_p: if index % 2 == 0 { 1.0 } else { 0.9 },
                min_p: if index % 5 == 0 { 0.05 } else { 0.0 },
                seed: index as u64,
                max_tokens: 5 + index,
                presence_penalty: 0.3,
                frequency_penalty: 0.2,
                repetition_penalty: 1.1,
                logprobs: Some(index % 4),
                ..SamplingOptions::default()
            },
            adapter: [None, Some("first"), Some("second"), Some("third")][index % 4].map(str::to_owned),
            constraint: None,
        })
        .collect();
    let alone: Vec<Completion> = requests
        .iter()
        .map(|request| one(&rig.engine, request.clone()))
        .collect();
    rig.model.trace.lock().unwrap().clear();
    let together = rig.engine.generate(requests).unwrap();
    for (index, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(alone.token_ids(), together.token_ids(), "request {index}");
        assert_eq!(alone.text, together.text, "request {index}");
        assert_eq!(alone.tokens, together.tokens, "request {index}");
        assert_eq!(alone.finish_reason, together.finish_reason, "request {index}");
    }
    let trace = rig.model.trace.lock().unwrap();
    assert!(trace.iter().any(|step| step.len() == 5), "the batch was never full");
    assert!(
        trace
            .iter()
            .any(|step| step.contains(&1) && step.iter().any(|&tokens| tokens > 1)),
        "no step mixed prompts and answers"
    );
}

#[test]
fn prompts_are_read_in_chunks_at_absolute_positions_while_others_answer() {
    let options = EngineOptions {
        prefill_chunk: 10,
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Random, 0), options);
    let answer = || SamplingOptions {
        ignore_eos: true,
        ..greedy(2)
    };
    rig.engine.generate(vec![request(&"x".repeat(25), answer())]).unwrap();
    assert_eq!(*rig.model.trace.lock().unwrap(), [vec![10], vec![10], vec![5], vec![1]]);
    rig.model.trace.lock().unwrap().clear();
    rig.engine
        .generate(vec![
            request(&"x".repeat(25), answer()),
            request(&"y".repeat(14), answer()),
        ])
        .unwrap();
    // Chunks of one prompt have the same borders beside another; a step reads no more than a chunk of prompts.
    for step in rig.model.trace.lock().unwrap().iter() {
        assert!(
            step.iter().filter(|&&tokens| tokens > 1).sum::<usize>() <= 10,
            "{step:?}"
        );
    }
    let read: usize = rig.model.trace.lock().unwrap().iter().flatten().sum();
    assert_eq!(read, 25 + 14 + 2);
}

#[test]
fn seeds_decide_and_nothing_else_does() {
    let rig = rig(MockModel::new(Speech::Random, 0), EngineOptions::default());
    let with_seed = |seed| {
        let sampling = SamplingOptions {
            temperature: 1.0,
            seed,
            ignore_eos: true,
            ..greedy(30)
        };
        one(&rig.engine, request("same", sampling)).token_ids()
    };
    assert_eq!(with_seed(7), with_seed(7));
    assert_ne!(with_seed(7), with_seed(8));
}

#[test]
fn adapters_are_taken_by_name_and_mixed_in_one_batch() {
    let rig = rig(MockModel::new(Speech::Script, 1), EngineOptions::default());
    let under = |adapter: Option<&str>| Request {
        adapter: adapter.map(str::to_owned),
        ..request("Hi\n", greedy(60))
    };
    let answers = rig.engine.generate(vec![under(None), under(Some("first"))]).unwrap();
    assert_eq!(answers[0].text, BASE_WORDS.concat());
    assert_eq!(answers[1].text, ADAPTER_WORDS.concat());
    let error = rig.engine.submit(under(Some("frist"))).unwrap_err();
    assert_eq!(error.to_string(), "no adapter named `frist` is loaded; loaded: first");
}

#[test]
fn impossible_requests_are_refused_before_they_run() {
    let rig = rig(
        MockModel::new(Speech::Script, 0),
        EngineOptions {
            context: Some(20),
            ..EngineOptions::default()
        },
    );
    let error = |request| rig.engine.submit(request).unwrap_err();
    assert_eq!(error(request("", greedy(1))), EngineError::EmptyPrompt);
    assert_eq!(
        error(request("0123456789", greedy(11))),
        EngineError::ContextOverflow {
            prompt_tokens: 10,
            max_tokens: 11,
            limit: 20
        }
    );
    assert!(matches!(
        error(request("x", greedy(usize::MAX))),
        EngineError::ContextOverflow { .. }
    ));
    assert!(matches!(
        error(request("x", greedy(0))),
        EngineError::InvalidOption {
            option: "max_tokens",
            ..
        }
    ));
    let unknown = Request {
        prompt: vec![0, 99_999],
        ..request("", greedy(1))
    };
    assert!(matches!(
        error(unknown),
        EngineError::TokenOutOfRange {
            index: 1,
            id: 99_999,
            ..
        }
    ));
    assert!(rig.model.trace.lock().unwrap().is_empty());
    assert_eq!(rig.engine.in_flight(), 0);
    assert_eq!(
        one(&rig.engine, request("0123456789", greedy(10)))
            .usage
            .completion_tokens,
        10
    );
}

#[test]
fn dropping_the_receiver_cancels_in_every_state() {
    let options = EngineOptions {
        max_batch: 2,
        prefill_chunk: 4,
        ..EngineOptions::default()
    };
    let rig = rig(slow(Speech::Random), options);
    let long = |prompt: &str| {
        request(
            prompt,
            SamplingOptions {
                ignore_eos: true,
                ..greedy(3000)
            },
        )
    };

    let mut decoding = rig.engine.submit(long("x")).unwrap();
    assert!(matches!(decoding.blocking_recv(), Some(Event::Token(_))));
    let prefilling = rig.engine.submit(long(&"y".repeat(1000))).unwrap();
    wait_until("the second prompt is being read", || {
        rig.model
            .trace
            .lock()
            .unwrap()
            .last()
            .is_some_and(|step| step.contains(&4))
    });
    let queued = rig.engine.submit(long("z")).unwrap();
    assert_eq!(rig.engine.in_flight(), 3);

    for (receiver, left) in [(queued, 2), (prefilling, 1), (decoding, 0)] {
        let steps = rig.model.trace.lock().unwrap().len();
        drop(receiver);
        wait_until("the place is free", || rig.engine.in_flight() == left);
        let further = rig.model.trace.lock().unwrap().len() - steps;
        assert!(
            further <= 2,
            "{further} steps were begun after the receiver was dropped"
        );
    }
    let steps = rig.model.trace.lock().unwrap().len();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(rig.model.trace.lock().unwrap().len(), steps, "an idle engine steps");
}

#[test]
fn a_full_engine_refuses_and_takes_again() {
    let options = EngineOptions {
        max_batch: 1,
        max_waiting: 1,
        ..EngineOptions::default()
    };
    let rig = rig(slow(Speech::Random), options);
    let long = || {
        request(
            "x",
            SamplingOptions {
                ignore_eos: true,
                ..greedy(3000)
            },
        )
    };
    let _running: EventReceiver = rig.engine.submit(long()).unwrap();
    let waiting = rig.engine.submit(long()).unwrap();
    assert_eq!(rig.engine.submit(long()).unwrap_err(), EngineError::Full { limit: 2 });
    assert_eq!(rig.engine.admit(1).unwrap_err(), EngineError::Full { limit: 2 });
    drop(waiting);
    wait_until("the waiting one has left", || rig.engine.in_flight() == 1);
    let mut permits = rig.engine.admit(1).unwrap();
    assert_eq!(rig.engine.submit(long()).unwrap_err(), EngineError::Full { limit: 2 });
    assert!(rig.engine.submit_admitted(long(), &mut permits).is_ok());
    assert_eq!(
        rig.engine.submit_admitted(long(), &mut permits).unwrap_err(),
        EngineError::Full { limit: 2 }
    );
}

#[test]
fn a_model_that_panics_fails_its_requests_and_serves_the_next() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let fatal = Request {
        prompt: vec![END_OF_TEXT],
        ..request("", greedy(5))
    };
    assert_eq!(
        rig.engine.generate(vec![fatal]).unwrap_err(),
        EngineError::Failed("the model panicked".into())
    );
    assert_eq!(one(&rig.engine, request("Hi\n", greedy(1))).text, "Hello");
    assert_eq!(rig.engine.in_flight(), 0);
}

#[test]
fn whoever_has_an_answer_finds_its_place_free() {
    let options = EngineOptions {
        max_batch: 1,
        max_waiting: 0,
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Script, 0), options);
    // Each kind of request ends differently, and the engine's thread might be interrupted between any two steps.
    for _ in 0..300 {
        let receiver = rig.engine.submit(request("Hi\n", greedy(1))).unwrap();
        receiver.blocking_collect().unwrap();
        let fatal = Request {
            prompt: vec![END_OF_TEXT],
            ..request("", greedy(5))
        };
        let receiver = rig.engine.submit(fatal).unwrap();
        receiver.blocking_collect().unwrap_err();
        let mut permit = rig.engine.admit(1).unwrap();
        let text = byte_tokens("Hi\n");
        let scores = rig.engine.score(text.clone(), vec![text.clone()], None, &mut permit);
        scores.unwrap().blocking_recv().unwrap().unwrap();
        let mut permit = rig.engine.admit(1).unwrap();
        for embedding in rig.engine.embed(vec![text.clone(), text], None, &mut permit).unwrap() {
            embedding.blocking_recv().unwrap().unwrap();
        }
    }
}

#[test]
fn dropping_the_engine_ends_every_answer() {
    let rig = rig(
        slow(Speech::Random),
        EngineOptions {
            max_batch: 1,
            ..EngineOptions::default()
        },
    );
    let long = || {
        request(
            "x",
            SamplingOptions {
                ignore_eos: true,
                ..greedy(3000)
            },
        )
    };
    let mut receivers = [rig.engine.submit(long()).unwrap(), rig.engine.submit(long()).unwrap()];
    assert!(receivers[0].blocking_recv().is_some());
    drop(rig);
    for receiver in &mut receivers {
        let mut last = None;
        while let Some(event) = receiver.blocking_recv() {
            last = Some(event);
        }
        assert!(
            matches!(
                last,
                Some(Event::Done(Finish {
                    reason: FinishReason::Cancelled,
                    ..
                }))
            ),
            "{last:?}"
        );
    }
}
