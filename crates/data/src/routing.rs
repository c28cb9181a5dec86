//! The coordinator's synthetic routing data: requests whose label follows from what they ask.
//!
//! math, code and general are the specialists. A request that joins two of their domains is `several`; what is empty,
//! unintelligible, small talk, unsafe or no request at all is `none`. Labels are never drawn at random, and the
//! held-out prompts come from templates that training never uses (`phrases` has two columns of everything).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use synapse_chat::Message;

use crate::random::Random;
use crate::row::{Fingerprint, Row};
use crate::{DataError, Result};

mod compose;
mod phrases;

/// Changes when the same seed gives other prompts.
pub const VERSION: u32 = 1;
/// Prompts made when the recipe says no number.
pub const DEFAULT_COUNT: usize = 5000;
/// The labels, in the order in which they are scored.
pub const LABELS: [&str; 5] = ["math", "code", "general", "several", "none"];
/// The coordinator's answer, with `LABEL` for the label.
pub const ANSWER_FORMAT: &str = r#"{"route":"LABEL"}"#;
/// What the coordinator is told, in training and in serving.
pub const SYSTEM_PROMPT: &str = "Route the request. Answer only {\"route\":\"LABEL\"}: math, code or general for \
    the specialist that should reply, several if it needs more than one, none if it is empty, unintelligible, small \
    talk, unsafe or no request.";

/// Known prompts drawn one after the other before the phrases are taken to be exhausted.
const MOST_MISSES: usize = 5000;

/// router.json: what a coordinator's adapter folder says about how to ask it.
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
    /// What the user writes.
    pub prompt: String,
    /// One of [`LABELS`].
    pub label: &'static str,
}

/// Which column of the phrases is used.
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
    /// The file is missing, or is no router.json.
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

/// `count` different training prompts, labels balanced. `prompts_by_domain` may hold real requests of the specialists
/// (label → prompts); where it does, about half of that domain's prompts are built on them.
///
/// # Errors
/// The phrases do not give that many different prompts.
pub fn generate(count: usize, seed: u64, prompts_by_domain: &BTreeMap<String, Vec<String>>) -> Result<Vec<Example>> {
    examples(count, seed, Split::Train, prompts_by_domain, &HashSet::new())
}

/// Like [`generate`], from templates that it never uses.
///
/// # Errors
/// The phrases do not give that many different prompts.
pub fn generate_held_out(count: usize, seed: u64) -> Result<Vec<Example>> {
    examples(count, seed, Split::HeldOut, &BTreeMap::new(), &HashSet::new())
}

/// Training rows that ask none of the `excluded` questions.
pub(crate) fn rows(count: usize, seed: u64, excluded: &HashSet<Fingerprint>) -> Result<Vec<Row>> {
    let examples = examples(count, seed, Split::Train, &BTreeMap::new(), excluded)?;
    Ok(examples.into_iter().map(row).collect())
}

/// Held-out rows.
pub(crate) fn held_out_rows(count: usize, seed: u64) -> Result<Vec<Row>> {
    Ok(generate_held_out(count, seed)?.into_iter().map(row).collect())
}

fn row(example: Example) -> Row {
    let answer = ANSWER_FORMAT.replace("LABEL", example.label);
    Row::Chat(
        vec![
            Message::new("system", SYSTEM_PROMPT),
            Message::new("user", example.prompt),
            Message::new("assistant", answer),
        ],
        None,
    )
}

fn examples(
    count: usize,
    seed: u64,
    split: Split,
    prompts_by_domain: &BTreeMap<String, Vec<String>>,
    excluded: &HashSet<Fingerprint>,
) -> Result<Vec<Example>> {
    let mut taken = excluded.clone();
    let mut examples = Vec::with_capacity(count);
    for (index, label) in LABELS.into_iter().enumerate() {
        let asked = count / LABELS.len() + usize::from(index < count % LABELS.len());
        let mut random = Random::new(seed, &format!("routing {label} {split:?}"));
        let composer = compose::Composer {
            split,
            prompts_by_domain,
        };
        let next = || composer.prompt(label, &mut random);
        let prompts = different(asked, next, &mut taken).map_err(|found| DataError::TooFewPrompts {
            label: label.to_owned(),
            asked,
            found,
        })?;
        examples.extend(prompts.into_iter().map(|prompt| Example { prompt, label }));
    }
    Random::new(seed, "order of routing prompts").shuffle(&mut examples);
    Ok(examples)
}

/// Draws until there are enough prompts that were not taken before; if there are none left, how many were found.
fn different(
    asked: usize,
    mut next: impl FnMut() -> String,
    taken: &mut HashSet<Fingerprint>,
) -> std::result::Result<Vec<String>, usize> {
    let mut found = Vec::with_capacity(asked);
    let mut misses = 0;
    while found.len() < asked {
        let prompt = next();
        let fingerprint = Row::Chat(vec![Message::new("user", prompt.as_str())], None).prompt_fingerprint();
        if taken.insert(fingerprint) {
            found.push(prompt);
            misses = 0;
        } else {
            misses += 1;
            if misses == MOST_MISSES {
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

    #[test]
    fn ten_thousand_prompts_are_different_balanced_and_reproducible() {
        let examples = generate(10_000, 42, &BTreeMap::new()).unwrap();
        assert_eq!(prompts(&examples).len(), 10_000);
        for label in LABELS {
            assert_eq!(examples.iter().filter(|example| example.label == label).count(), 2000);
        }
        assert_eq!(examples, generate(10_000, 42, &BTreeMap::new()).unwrap());
        assert_ne!(examples, generate(10_000, 43, &BTreeMap::new()).unwrap());
        assert!(examples.iter().all(|example| !example.prompt.contains(['{', '}'])));
    }

    #[test]
    fn held_out_prompts_are_never_trained() {
        let train = prompts(&generate(10_000, 1, &BTreeMap::new()).unwrap());
        let held_out = generate_held_out(500, 1).unwrap();
        assert!(prompts(&held_out).is_disjoint(&train));
        assert!(held_out.iter().all(|example| !example.prompt.contains(['{', '}'])));
    }

    #[test]
    fn real_prompts_are_used_where_they_are_given() {
        let real: Vec<String> = (0..50).map(|n| format!("real question {n}")).collect();
        let domains = BTreeMap::from([("math".to_owned(), real)]);
        let examples = generate(100, 1, &domains).unwrap();
        let used = examples
            .iter()
            .filter(|example| example.prompt.to_lowercase().contains("real question"));
        assert!(used.clone().count() >= 5);
        assert!(used.clone().all(|example| matches!(example.label, "math" | "several")));
    }

    #[test]
    fn phrases_that_run_out_are_seen() {
        let mut numbers = (0..3).cycle();
        let next = || numbers.next().map(|n: usize| n.to_string()).unwrap_or_default();
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
