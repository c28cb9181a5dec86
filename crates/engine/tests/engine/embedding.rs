//! Embeddings beside answers: the mean of hidden states, of length 1, in one place of the line.

use synapse_engine::{EngineError, EngineOptions};

use crate::support::{MockModel, Speech, byte_tokens};
use crate::{Rig, greedy, request, rig, slow, wait_until};

fn embed(rig: &Rig, texts: &[&str], adapter: Option<&str>) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|text| byte_tokens(text)).collect();
    let mut permits = rig.engine.admit(1).unwrap();
    let receivers = rig.engine.embed(texts, adapter, &mut permits).unwrap();
    receivers
        .into_iter()
        .map(|receiver| receiver.blocking_recv().unwrap().unwrap())
        .collect()
}

#[test]
fn an_embedding_is_the_direction_of_the_mean_hidden_state() {
    let options = EngineOptions {
        prefill_chunk: 4,
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Random, 2), options);
    assert_eq!(rig.engine.embedding_size(), 3);
    let found = embed(&rig, &["abcdefghij"], None).remove(0);
    // The mean over ten tokens, whose ids are 97 to 106.
    let mean = [1.0f32, 1.015, 0.0];
    let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
    for (found, mean) in found.iter().zip(mean) {
        assert!((found - mean / length).abs() < 1e-6, "{found} is not {}", mean / length);
    }
    assert_eq!(
        *rig.model.trace.lock().unwrap(),
        [vec![4], vec![4], vec![2]],
        "the text is read in chunks"
    );
    let adapted = embed(&rig, &["abcdefghij"], Some("second")).remove(0);
    assert!(adapted[2] > 0.5, "{adapted:?}");
}

#[test]
fn texts_and_answers_share_steps_and_change_nothing_for_each_other() {
    let rig = rig(slow(Speech::Random), EngineOptions::default());
    let texts = ["one", "another text", "x", "and one more"];
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| embed(&rig, &[text], None).remove(0)).collect();
    let mut events = rig.engine.submit(request("Hi\n", greedy(40))).unwrap();
    assert_eq!(embed(&rig, &texts, None), alone);
    assert!(events.blocking_recv().is_some());
    let trace = rig.model.trace.lock().unwrap();
    assert!(trace.iter().any(|step| step.len() >= texts.len()), "{trace:?}");
}

#[test]
fn many_texts_take_one_place_and_give_it_back() {
    let options = EngineOptions {
        max_batch: 2,
        max_waiting: 1,
        ..EngineOptions::default()
    };
    let rig = rig(slow(Speech::Random), options);
    let mut permits = rig.engine.admit(1).unwrap();
    let texts = vec![byte_tokens("text"); 20];
    let receivers = rig.engine.embed(texts, None, &mut permits).unwrap();
    assert_eq!(rig.engine.in_flight(), 1);
    for receiver in receivers {
        receiver.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(rig.engine.in_flight(), 0);

    let mut permits = rig.engine.admit(1).unwrap();
    let endless = vec![byte_tokens(&"x".repeat(3000)); 20];
    drop(rig.engine.embed(endless, None, &mut permits).unwrap());
    wait_until("abandoned texts are dropped", || rig.engine.in_flight() == 0);
}

#[test]
fn impossible_texts_are_refused() {
    let options = EngineOptions {
        context: Some(10),
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Random, 1), options);
    let error = |text: Vec<u32>, adapter| {
        let mut permits = rig.engine.admit(1).unwrap();
        rig.engine
            .embed(vec![byte_tokens("fine"), text], adapter, &mut permits)
            .unwrap_err()
    };
    assert_eq!(error(Vec::new(), None), EngineError::EmptyPrompt);
    assert!(matches!(
        error(vec![1; 11], None),
        EngineError::ContextOverflow { prompt_tokens: 11, .. }
    ));
    assert!(matches!(error(vec![99_999], None), EngineError::TokenOutOfRange { .. }));
    assert!(matches!(
        error(vec![1], Some("other")),
        EngineError::UnknownAdapter { .. }
    ));
    assert!(rig.model.trace.lock().unwrap().is_empty(), "nothing ran");
    assert_eq!(rig.engine.in_flight(), 0);
}
