//! The log-probabilities of a prompt, which evaluation harnesses ask for.

use synapse_engine::{EngineError, EngineOptions, FinishReason, SamplingOptions};

use crate::support::{END_OF_TURN, MockModel, Speech, byte_tokens};
use crate::{greedy, one, request, rig};

fn scored(max_tokens: usize) -> SamplingOptions {
    SamplingOptions {
        logprobs: Some(2),
        prompt_logprobs: Some(2),
        ..greedy(max_tokens)
    }
}

#[test]
fn each_token_of_a_prompt_is_scored_under_what_comes_before_it() {
    // Prompts of several chunks, read beside a neighbor, with a prefix cache that must not be used.
    let options = EngineOptions {
        prefill_chunk: 100,
        prefix_cache_bytes: 1 << 20,
        ..EngineOptions::default()
    };
    let rig = rig(MockModel::new(Speech::Random, 0), options);
    let prompt = "which one? ".repeat(24);
    let tokens = byte_tokens(&prompt);
    let neighbor = request(&prompt, greedy(3));
    for _ in 0..2 {
        let both = vec![neighbor.clone(), request(&prompt, scored(1))];
        let completion = rig.engine.generate(both).unwrap().remove(1);
        assert_eq!(completion.prompt_logprobs.len(), tokens.len() - 1);
        assert_eq!(completion.usage.cached_tokens, 0);
        for (index, scored) in completion.prompt_logprobs.iter().enumerate() {
            let logits = rig.model.logits(tokens[index], index + 1, 0);
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            let of = |id: u32| f64::from(logits[id as usize]) - total.ln();
            assert!(
                (f64::from(scored.logprob) - of(tokens[index + 1])).abs() < 1e-5,
                "token {index}"
            );
            assert_eq!(scored.top.len(), 2);
            assert!((f64::from(scored.top[0].1) - of(scored.top[0].0)).abs() < 1e-5);
        }
        // What is generated is what would be generated without.
        assert_eq!(
            completion.token_ids(),
            one(&rig.engine, request(&prompt, greedy(1))).token_ids()
        );
    }
}

#[test]
fn a_prompt_can_be_scored_alone_and_its_stop_token_too() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let alone = one(&rig.engine, request("Hi\n", scored(0)));
    assert_eq!((alone.prompt_logprobs.len(), alone.tokens.len()), (2, 0));
    assert_eq!(
        (alone.finish_reason, alone.usage.completion_tokens),
        (FinishReason::Length, 0)
    );
    // The answer ends at once: the harness still finds an entry for the token that it asked for.
    let end = one(&rig.engine, request("Hi\n.", scored(1)));
    assert_eq!(end.token_ids(), [END_OF_TURN]);
    assert!(end.tokens[0].logprob.is_some());
    let plain = SamplingOptions {
        prompt_logprobs: None,
        ..scored(1)
    };
    assert_eq!(one(&rig.engine, request("Hi\n.", plain)).tokens[0].logprob, None);
    let nothing = rig.engine.generate(vec![request("Hi\n", greedy(0))]);
    assert!(matches!(
        nothing,
        Err(EngineError::InvalidOption {
            option: "max_tokens",
            ..
        })
    ));
}
