//! What the engine tells about itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use synapse_engine::{EngineObserver, EngineOptions, FinishReason, StepStats};

use crate::support::{BASE_TOKENS, MockModel, Speech};
use crate::{greedy, one, request, rig, slow, wait_until};

#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    steps: Mutex<Vec<StepStats>>,
}

impl Notes {
    fn note(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
}

impl EngineObserver for Notes {
    fn started(&self, _waited: Duration, _cached_tokens: usize) {
        self.note("began");
    }
    fn first_token(&self, _since_submission: Duration) {
        self.note("first");
    }
    fn next_token(&self, since_last: Duration) {
        assert!(since_last < Duration::from_secs(10));
        self.note("next");
    }
    fn step(&self, step: StepStats) {
        self.steps.lock().unwrap().push(step);
    }
    fn finished(&self, reason: FinishReason) {
        self.note(&format!("{reason:?}"));
    }
    fn failed(&self) {
        self.note("failed");
    }
}

#[test]
fn an_observer_sees_every_token_and_every_end() {
    let rig = rig(MockModel::new(Speech::Script, 0), EngineOptions::default());
    let notes = Arc::new(Notes::default());
    rig.engine.observe(notes.clone());
    one(&rig.engine, request("Hi\n", greedy(100)));
    let mut expected = vec!["began", "first"];
    expected.extend(vec!["next"; BASE_TOKENS - 1]);
    expected.push("Stop");
    assert_eq!(*notes.lines.lock().unwrap(), expected);
    let steps = notes.steps.lock().unwrap();
    assert_eq!(steps.iter().map(|step| step.prompt_tokens).sum::<usize>(), 3);
    // The last token sampled is not read any more.
    assert_eq!(
        steps.iter().map(|step| step.generated_tokens).sum::<usize>(),
        BASE_TOKENS - 1
    );
    assert!(steps.iter().all(|step| step.sequences == 1));
}

#[test]
fn the_load_follows_what_runs_and_waits() {
    let options = EngineOptions {
        max_batch: 1,
        context: Some(500),
        ..EngineOptions::default()
    };
    let rig = rig(slow(Speech::Random), options);
    let endless = || {
        request(
            "x",
            synapse_engine::SamplingOptions {
                ignore_eos: true,
                ..greedy(400)
            },
        )
    };
    let running = rig.engine.submit(endless()).unwrap();
    let waiting = rig.engine.submit(endless()).unwrap();
    wait_until("one runs and one waits", || {
        let load = rig.engine.load();
        (load.running, load.waiting) == (1, 1) && load.cached_tokens > 1
    });
    assert_eq!(rig.engine.load().cache_limit, 500);
    drop((running, waiting));
    wait_until("nothing is held", || {
        let load = rig.engine.load();
        (load.running, load.waiting, load.cached_tokens) == (0, 0, 0)
    });
}
