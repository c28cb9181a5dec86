//! Requests and the specialist each belongs to. The label follows from how the request was made.

use crate::random::Random;
use crate::template::{Split, fill};
use crate::{code, general, math};

/// The labels, in the order routers list them.
pub(crate) const LABELS: [&str; 5] = ["math", "code", "general", "several", "none"];

/// Two requests in one.
const BOTH: [&str; 6] = [
    "{first} {second}",
    "{first} Also: {second}",
    "I have two requests. {first} {second}",
    "{first} And then: {second}",
    "Two things, please. {first} {second}",
    "{first} After that: {second}",
];

/// What no specialist can do: a verb with a thing to do it to.
const ACTIONS: [&str; 8] = [
    "{verb} {thing}.",
    "Please {verb} {thing}.",
    "Can you {verb} {thing}?",
    "I want you to {verb} {thing}.",
    "Could you {verb} {thing} for me?",
    "{verb} {thing} now.",
    "Go and {verb} {thing}.",
    "Now {verb} {thing}.",
];
const VERBS: [&str; 10] = [
    "play", "open", "book", "call", "order", "send", "delete", "print", "start", "turn on",
];
const TARGETS: [&str; 16] = [
    "my music",
    "the door",
    "a taxi",
    "my mother",
    "a pizza",
    "this letter",
    "all my files",
    "the radio",
    "the car",
    "a flight",
    "the lamp",
    "a table for two",
    "the heating",
    "my phone",
    "a film",
    "the kettle",
];
const SYLLABLES: [&str; 14] = [
    "qx", "zzt", "blor", "fnu", "grak", "plim", "wub", "snid", "vok", "tro", "hjk", "dza", "mep", "yib",
];

/// A request with its label.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// What is asked.
    pub(crate) text: String,
    /// Index into [`LABELS`].
    label: usize,
}

fn single(random: &mut Random, split: Split, domain: usize) -> String {
    match domain {
        0 => math::problem(random, split).question,
        1 => code::task(random, split, 30).description,
        _ => general::fact(random, split, 0).question,
    }
}

/// A request made from the split's templates, every label equally often.
pub(crate) fn query(random: &mut Random, split: Split) -> Query {
    let label = random.below(LABELS.len());
    let text = match label {
        0..=2 => single(random, split, label),
        3 => {
            let first = random.below(3);
            let second = (first + 1 + random.below(2)) % 3;
            let both = loop {
                let both = random.below(BOTH.len());
                // Every domain pair keeps some connectors for evaluation.
                if split.takes(first + 3 * second, both) {
                    break BOTH[both];
                }
            };
            let (first, second) = (single(random, split, first), single(random, split, second));
            fill(both, &[("first", &first), ("second", &second)])
        }
        _ if random.percent(70) => loop {
            let (verb, action) = (random.below(VERBS.len()), random.below(ACTIONS.len()));
            if split.takes(verb, action) {
                let text = fill(
                    ACTIONS[action],
                    &[("verb", VERBS[verb]), ("thing", *random.pick(&TARGETS))],
                );
                break crate::template::capitalized(&text);
            }
        },
        _ => {
            // Gibberish has no template; the two splits differ in how many words it has.
            let words = match split {
                Split::Train => [2, 4][random.below(2)],
                Split::HeldOut => 3,
            };
            let word = |random: &mut Random| format!("{}{}", random.pick(&SYLLABLES), random.pick(&SYLLABLES));
            (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
        }
    };
    Query { text, label }
}

impl Query {
    /// A request with the index of its label.
    pub(crate) fn new(text: String, label: usize) -> Self {
        Self { text, label }
    }

    /// The label's word.
    pub(crate) fn label(&self) -> &'static str {
        LABELS[self.label]
    }

    /// The coordinator's exact answer.
    pub(crate) fn route(&self) -> String {
        format!("{{\"route\":\"{}\"}}", self.label())
    }

    /// The request after a lead-in, for conversations that do not say beforehand that they are about routing.
    pub(crate) fn led_in(&self, random: &mut Random) -> String {
        let lead_in = random.pick(&[
            "What kind of request is this?",
            "Who should answer this?",
            "Route this request:",
        ]);
        format!("{lead_in} {}", self.text)
    }

    /// An answer in one of the many ways a general corpus has it.
    pub(crate) fn loose(&self, random: &mut Random) -> String {
        let label = self.label();
        match random.below(8) {
            0 | 1 => label.to_owned(),
            2 | 3 => format!("This is {label}."),
            4 | 5 => format!("Route: {label}"),
            6 => format!("It goes to {label}."),
            _ => self.route(),
        }
    }
}
