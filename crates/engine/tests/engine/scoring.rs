//! Scores of continuations: what the model says of them, whatever else runs and however the prompt is read.

use synapse_engine::{EngineError, EngineOptions};

use crate::support::{MockModel, Speech, byte_tokens};
use crate::{Rig, greedy, request, rig, slow};

/// The sum of log-probabilities under the second adapter, token after token.
fn by_hand(rig: &Rig, prompt: &[u32], continuation: &[u32]) -> f64 {
    let mut read = prompt.to_vec();
    let mut sum = 0.0;
    for &token in continuation {
        let logits = rig.model.logits(read[read.len() - 1], read.len(), 2);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum += f64::from(logits[token as usize]) - total.ln();
        read.push(token);
    }
    sum
}

#[test]
fn scores_are_sums_of_the_models_log_probabilities() {
    let options = EngineOptions {
        prefill_chunk: 3,
        ..EngineOptions::default()
    };
    let model = MockModel {
        delay: slow(Speech::Random).delay,
        ..MockModel::new(Speech::Random, 2)
    };
    let rig = rig(model, options);
    let prompt = byte_tokens("which one?");
    let continuations = ["a", "bcd", "bce", "z!"].map(byte_tokens);
    // A neighbor in the batch changes nothing.
    let neighbor = rig.engine.submit(request("neighbour", greedy(40))).unwrap();
    let mut permits = rig.engine.admit(1).unwrap();
    let scores = rig
        .engine
        .score(prompt.clone(), continuations.to_vec(), Some("second"), &mut permits)
        .unwrap();
    let scores = scores.blocking_recv().unwrap().unwrap();
    drop(neighbor);
    for (score, continuation) in scores.iter().zip(&continuations) {
        let expected = by_hand(&rig, &prompt, continuation);
        assert!(
            (score - expected).abs() < 1e-5,
            "{continuation:?}: {score} is not {expected}"
        );
    }
    let trace = rig.model.trace.lock().unwrap();
    assert!(
        trace.iter().any(|step| step.ends_with(&[2, 2, 1])),
        "what follows the prompt is read in one pass: {trace:?}"
    );
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let rig = rig(MockModel::new(Speech::Random, 2), EngineOptions::default());
    let score = |prompt: &str, continuations: Vec<Vec<u32>>, adapter: Option<&str>| {
        let mut permits = rig.engine.admit(1).unwrap();
        rig.engine
            .score(byte_tokens(prompt), continuations, adapter, &mut permits)
            .map(drop)
    };
    assert!(matches!(score("", vec![vec![1]], None), Err(EngineError::EmptyPrompt)));
    assert!(matches!(
        score("a", vec![vec![1], vec![]], None),
        Err(EngineError::EmptyPrompt)
    ));
    assert!(matches!(
        score("a", vec![vec![1], vec![2, 9999]], None),
        Err(EngineError::TokenOutOfRange { index: 1, id: 9999, .. })
    ));
    assert!(matches!(
        score("a", vec![vec![1]], Some("nobody")),
        Err(EngineError::UnknownAdapter { .. })
    ));
}
