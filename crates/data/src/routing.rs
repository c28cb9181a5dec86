//! The coordinator's synthetic routing data: requests whose label follows from what they ask.
//!
//! math, code and general are the specialists. A request that joins two of their domains is `several`; an empty,
//! unintelligible or unsafe text, small talk, and anything else without a request is `none`. Labels are never random.
//!
//! Prompts are made of templates and, where the recipe names other recipes, of their real requests. The two splits share
//! no phrasing: `phrases` has two columns of everything, and real requests are held out where their own recipe holds
//! them out, by a hash of their content. Half of the held-out prompts are real then: no template makes them.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use synapse_tokenizer::Message;

use crate::random::Random;
use crate::row::{Fingerprint, Row, fingerprint_of};
use crate::{DataError, Result};

mod compose;
mod phrases;
mod requests;

pub use requests::Requests;

/// Changes when the same seed gives other prompts.
pub const VERSION: u32 = 3;
/// Prompts made if the recipe states no number.
pub const DEFAULT_COUNT: usize = 5000;
/// The labels, in the order in which they are scored.
pub const LABELS: [&str; 5] = ["math", "code", "general", "several", "none"];
/// The coordinator's answer, with `LABEL` for the label.
pub const ANSWER_FORMAT: &str = r#"{"route":"LABEL"}"#;
/// The coordinator's system prompt, in training and in serving.
pub const SYSTEM_PROMPT: &str = "Route the request. Answer only {\"route\":\"LABEL\"}: math, code or general for \
    the specialist that should reply, several if it needs more than one, none if it is empty, unintelligible, small \
    talk, unsafe or no request.";

/// Successive repeated prompts after which the templates count as exhausted.
const MAX_MISSES: usize = 5000;

/// router.json in a coordinator's adapter folder: how to prompt it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// The system turn of a routing request.
    pub system_prompt: String,
    /// Labels in the order in which they are scored.
    pub labels: Vec<String>,
    /// The trained answer, with `LABEL` for the label.
    pub format: String,
}

/// One routing example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The request.
    pub prompt: String,
    /// One of [`LABELS`].
    pub label: &'static str,
    /// How the prompt was made.
    pub kind: PromptKind,
}

/// How a prompt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// Templates and their fillers.
    Template,
    /// Requests that people wrote.
    Real,
}

impl PromptKind {
    /// Its name in held_out.jsonl.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Real => "real",
        }
    }
}

/// Which column of the templates is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    Train,
    HeldOut,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            system_prompt: SYSTEM_PROMPT.to_owned(),
            labels: LABELS.map(str::to_owned).to_vec(),
            format: ANSWER_FORMAT.to_owned(),
        }
    }
}

impl Router {
    /// Reads a router.json.
    ///
    /// # Errors
    /// The file is missing, or is not a router.json.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        serde_json::from_str(&text)
            .map_err(|error| DataError::malformed(&path.display(), format!("not a router.json: {error}")))
    }

    /// Writes router.json into an adapter's folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("router.json");
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| DataError::malformed(&path.display(), error.to_string()))?;
        text.push('\n');
        Ok(synapse_checkpoint::write_atomic(&path, text.as_bytes())?)
    }

    /// The answer that stands for a label.
    #[must_use]
    pub fn answer(&self, label: &str) -> String {
        self.format.replace("LABEL", label)
    }
}

/// `count` different training prompts, labels balanced; where there are real requests, more than half of the prompts
/// are made of them.
///
/// # Errors
/// Phrases and requests do not give that many different prompts.
pub fn generate(count: usize, seed: u64, requests: &Requests) -> Result<Vec<Example>> {
    examples(count, seed, Split::Train, requests, &HashSet::new())
}

/// Like [`generate`], from templates and requests that it never uses.
///
/// # Errors
/// Phrases and requests do not give that many different prompts.
pub fn generate_held_out(count: usize, seed: u64, requests: &Requests) -> Result<Vec<Example>> {
    examples(count, seed, Split::HeldOut, requests, &HashSet::new())
}

/// Training rows without the `excluded` prompts.
pub(crate) fn rows(
    count: usize,
    seed: u64,
    requests: &Requests,
    excluded: &HashSet<Fingerprint>,
) -> Result<Vec<(Row, PromptKind)>> {
    let examples = examples(count, seed, Split::Train, requests, excluded)?;
    Ok(examples.into_iter().map(row).collect())
}

/// Held-out rows.
pub(crate) fn held_out_rows(count: usize, seed: u64, requests: &Requests) -> Result<Vec<(Row, PromptKind)>> {
    let examples = generate_held_out(count, seed, requests)?;
    Ok(examples.into_iter().map(row).collect())
}

/// The row; its system turn is the recipe's or [`SYSTEM_PROMPT`].
fn row(example: Example) -> (Row, PromptKind) {
    let answer = ANSWER_FORMAT.replace("LABEL", example.label);
    let messages = vec![Message::new("user", example.prompt), Message::new("assistant", answer)];
    (Row::from(messages), example.kind)
}

fn examples(
    count: usize,
    seed: u64,
    split: Split,
    requests: &Requests,
    excluded: &HashSet<Fingerprint>,
) -> Result<Vec<Example>> {
    let mut used = excluded.clone();
    let mut examples = Vec::with_capacity(count);
    for (index, label) in LABELS.into_iter().enumerate() {
        let asked = count / LABELS.len() + usize::from(index < count % LABELS.len());
        let mut random = Random::new(seed, &format!("routing {label} {split:?}"));
        let composer = compose::Composer {
            split,
            real: requests.half(split),
        };
        let next = || composer.prompt(label, &mut random);
        let prompts = different(asked, next, &mut used).map_err(|found| DataError::TooFewPrompts {
            label: label.to_owned(),
            asked,
            found,
        })?;
        let example = |(prompt, kind)| Example { prompt, label, kind };
        examples.extend(prompts.into_iter().map(example));
    }
    Random::new(seed, "order of routing prompts").shuffle(&mut examples);
    Ok(examples)
}

/// Draws until there are enough prompts that were not used before; `Err` with the number found if there are no more.
fn different(
    asked: usize,
    mut next: impl FnMut() -> (String, PromptKind),
    used: &mut HashSet<Fingerprint>,
) -> std::result::Result<Vec<(String, PromptKind)>, usize> {
    let mut found = Vec::with_capacity(asked);
    let mut misses = 0;
    while found.len() < asked {
        let (prompt, kind) = next();
        if used.insert(fingerprint_of(&prompt)) {
            found.push((prompt, kind));
            misses = 0;
        } else {
            misses += 1;
            if misses == MAX_MISSES {
                return Err(found.len());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    fn prompts(examples: &[Example]) -> HashSet<String> {
        examples.iter().map(|example| example.prompt.to_lowercase()).collect()
    }

    /// A hundred requests of each domain in each half.
    fn requests() -> Requests {
        let of = |text: &str, half: &str| (0..100).map(|n| text.replace('#', &format!("{half}{n}"))).collect();
        let mut requests = Requests::default();
        for (label, text) in [
            (
                "math",
                "Shop # sold some eggs. It sold as many on Monday. What did it sell in all?",
            ),
            ("code", "Sort the array a# in Java without a library."),
            ("general", "Describe the old town of # to a visitor."),
        ] {
            let sorted = requests.add(label, of(text, "in"), of(text, "out"));
            assert_eq!((sorted.held_in, sorted.held_out), (100, 100), "{sorted:?}");
        }
        requests
    }

    #[test]
    fn ten_thousand_prompts_are_different_balanced_and_reproducible() {
        for requests in [Requests::default(), requests()] {
            let examples = generate(10_000, 42, &requests).unwrap();
            assert_eq!(prompts(&examples).len(), 10_000);
            for label in LABELS {
                assert_eq!(examples.iter().filter(|example| example.label == label).count(), 2000);
            }
            assert_eq!(examples, generate(10_000, 42, &requests).unwrap());
            assert_ne!(examples, generate(10_000, 43, &requests).unwrap());
            assert!(examples.iter().all(|example| !example.prompt.contains(['{', '}'])));
        }
    }

    /// Manifests name [`VERSION`], which stands for these bytes: whoever changes templates, words or the order in which
    /// they are drawn raises it and writes the new hashes here.
    #[test]
    fn the_rows_are_those_of_this_version() {
        let hash = |examples: Vec<Example>| {
            let line = |example: &Example| format!("{}\t{:?}\t{}\n", example.label, example.kind, example.prompt);
            synapse_checkpoint::sha256_bytes(examples.iter().map(line).collect::<String>().as_bytes())
        };
        let templates = include_str!("routing/phrases.json");
        let hashes = [
            synapse_checkpoint::sha256_bytes(templates.as_bytes()),
            hash(generate(2000, 42, &Requests::default()).unwrap()),
            hash(generate_held_out(200, 42, &Requests::default()).unwrap()),
            hash(generate(2000, 42, &requests()).unwrap()),
            hash(generate_held_out(200, 42, &requests()).unwrap()),
        ];
        assert_eq!(
            (VERSION, hashes.each_ref().map(|hash| &hash[..16])),
            (
                3,
                [
                    "71b6b8d91a30cd3d",
                    "299326381d17dad4",
                    "b35aea0f35628545",
                    "e82b265456b7d5a4",
                    "39681eaac874130c"
                ]
            )
        );
    }

    #[test]
    fn held_out_prompts_are_never_trained() {
        for requests in [Requests::default(), requests()] {
            let train = prompts(&generate(10_000, 1, &requests).unwrap());
            let held_out = generate_held_out(500, 1, &requests).unwrap();
            assert!(prompts(&held_out).is_disjoint(&train));
            assert!(held_out.iter().all(|example| !example.prompt.contains(['{', '}'])));
        }
    }

    #[test]
    fn real_requests_are_used_in_their_own_half_and_label() {
        let requests = requests();
        let (train, held_out) = (
            generate(500, 1, &requests).unwrap(),
            generate_held_out(500, 1, &requests).unwrap(),
        );
        for (examples, half, other) in [(&train, "in", "out"), (&held_out, "out", "in")] {
            for (label, word) in [("math", "eggs"), ("code", "array a"), ("general", "old town")] {
                let real = examples
                    .iter()
                    .filter(|example| example.kind == PromptKind::Real && example.label == label);
                assert!(real.clone().count() >= 20, "{label}");
                for example in real {
                    assert!(example.prompt.to_lowercase().contains(word), "{example:?}");
                }
            }
            let names = |example: &Example, half: &str| {
                let digit = |at: usize| {
                    example
                        .prompt
                        .as_bytes()
                        .get(at + half.len())
                        .is_some_and(u8::is_ascii_digit)
                };
                example.prompt.match_indices(half).any(|(at, _)| digit(at))
            };
            let real = || examples.iter().filter(|example| example.kind == PromptKind::Real);
            assert!(real().all(|example| !names(example, other)));
            assert!(real().any(|example| names(example, half)));
            let untold = |example: &&Example| example.label == "none" && example.prompt.ends_with("on Monday.");
            assert!(examples.iter().any(|example| untold(&example)));
        }
    }

    #[test]
    fn two_requests_of_one_domain_are_not_several() {
        let examples = generate(2000, 3, &Requests::default()).unwrap();
        let joined = |example: &&Example| example.label == "math" && example.prompt.contains("\n");
        assert!(examples.iter().filter(joined).count() > 5);
    }

    #[test]
    fn phrases_that_run_out_are_seen() {
        let mut numbers = (0..3).cycle();
        let next = || {
            (
                numbers.next().map(|n: usize| n.to_string()).unwrap_or_default(),
                PromptKind::Template,
            )
        };
        assert_eq!(different(4, next, &mut HashSet::new()), Err(3));
    }

    #[test]
    fn the_router_file_carries_the_trained_answer() {
        let folder = tempfile::tempdir().unwrap();
        Router::default().write(folder.path()).unwrap();
        let router = Router::read(&folder.path().join("router.json")).unwrap();
        assert_eq!(router, Router::default());
        assert_eq!(router.answer("math"), r#"{"route":"math"}"#);
    }
}
