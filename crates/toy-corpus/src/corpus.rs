//! The bundled corpus: what the base is pre-trained on, what each specialist learns, and what is held out.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::random::Random;
use crate::routing::Query;
use crate::template::Split;
use crate::{Error, Result, code, everyday, general, math, routing};

/// Seed of everything that is bundled.
pub const SEED: u64 = 7;
/// Training rows of each specialist.
pub const SPECIALIST_ROWS: usize = 1_000;
/// Held-out rows of each domain.
pub const HELD_OUT_ROWS: usize = 200;
/// Everyday requests that the coordinator trains on beside its templates' rows.
pub(crate) const EVERYDAY_ROWS: usize = 4_000;
/// Base rows of math, code, general and routing.
const BASE_ROWS: [usize; 4] = [8_000, 3_000, 4_000, 4_000];

/// System prompts of the specialists, as the recipes in recipes/nano have them.
pub(crate) const SYSTEM: [&str; 4] = [
    "You solve word problems step by step.",
    "You write short Python functions.",
    "You answer in one full sentence.",
    "You route each request to a specialist.",
];

/// A conversation: system turn if any, then user and assistant in turn.
pub(crate) type Conversation = Vec<(&'static str, String)>;

/// A held-out or training row of a specialist: what is asked, what is answered, and what evaluation needs beside it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) question: String,
    pub(crate) answer: String,
    /// Calls with expected values, for code.
    pub(crate) tests: Vec<Json>,
    /// Sentences to choose from and the place of the right one, for facts.
    pub(crate) choices: Option<(Vec<String>, usize)>,
}

/// The four domains, in the order of [`SYSTEM`].
pub(crate) const DOMAINS: [&str; 4] = ["math", "code", "general", "coordinator"];

/// Every row of every bundled file, in order.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Per domain, what the base learns.
    pub(crate) base: [Vec<Conversation>; 4],
    /// Per domain, what its specialist learns.
    pub(crate) train: [Vec<Row>; 4],
    /// Per domain, what no training sees.
    pub(crate) held_out: [Vec<Row>; 4],
    /// Everyday requests that the coordinator trains on.
    pub(crate) everyday_train: Vec<Row>,
    /// Everyday requests written by hand, which no training sees.
    pub(crate) everyday_held_out: Vec<Row>,
}

impl Corpus {
    /// Writes the whole corpus from `seed`.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when the templates cannot give as many different rows.
    pub fn new(seed: u64) -> Result<Self> {
        let mut held_out: [Vec<Row>; 4] = Default::default();
        let mut train: [Vec<Row>; 4] = Default::default();
        let mut base: [Vec<Conversation>; 4] = Default::default();
        let mut kept_out = BTreeSet::new();
        for domain in 0..4 {
            let mut random = Random::new(seed, &format!("{} held out", DOMAINS[domain]));
            held_out[domain] = distinct(DOMAINS[domain], HELD_OUT_ROWS, &kept_out, || {
                let row = row(domain, &mut random, Split::HeldOut);
                (row.question.clone(), row)
            })?;
            kept_out.extend(held_out[domain].iter().map(|row| row.question.clone()));
        }
        for domain in 0..4 {
            let mut random = Random::new(seed, &format!("{} train", DOMAINS[domain]));
            train[domain] = distinct(DOMAINS[domain], SPECIALIST_ROWS, &kept_out, || {
                let row = row(domain, &mut random, Split::Train);
                (row.question.clone(), row)
            })?;
            let mut random = Random::new(seed, &format!("{} base", DOMAINS[domain]));
            base[domain] = distinct(DOMAINS[domain], BASE_ROWS[domain], &BTreeSet::new(), || {
                let conversation = conversation(domain, &mut random);
                let key = conversation
                    .iter()
                    .map(|(_, text)| text.as_str())
                    .collect::<Vec<_>>()
                    .join("\n");
                (key, conversation)
            })?;
        }
        let questions = everyday::questions()?;
        let mut random = Random::new(seed, "everyday train");
        let requests = everyday::training(&mut random, EVERYDAY_ROWS, &questions)?;
        Ok(Self {
            base,
            train,
            held_out,
            everyday_train: requests.into_iter().map(routed).collect(),
            everyday_held_out: questions.into_iter().map(routed).collect(),
        })
    }

    /// What users ask in every training file.
    pub fn training_questions(&self) -> impl Iterator<Item = &str> {
        let base = self
            .base
            .iter()
            .flatten()
            .flatten()
            .filter(|(role, _)| *role == "user")
            .map(|(_, text)| text);
        let rows = self.train.iter().flatten().chain(&self.everyday_train);
        base.chain(rows.map(|row| &row.question)).map(String::as_str)
    }

    /// What is asked in the held-out files of the four domains.
    pub fn held_out_questions(&self) -> impl Iterator<Item = &str> {
        self.held_out.iter().flatten().map(|row| row.question.as_str())
    }

    /// The everyday requests of the held-out file, written by hand.
    pub fn everyday_questions(&self) -> impl Iterator<Item = &str> {
        self.everyday_held_out.iter().map(|row| row.question.as_str())
    }

    /// Every text of the base's corpus, for the tokenizer.
    pub fn base_texts(&self) -> impl Iterator<Item = &str> {
        self.base.iter().flatten().flatten().map(|(_, text)| text.as_str())
    }
}

/// Draws until `wanted` rows with different keys are found, none of them in `refused`.
fn distinct<T>(
    domain: &'static str,
    wanted: usize,
    refused: &BTreeSet<String>,
    mut draw: impl FnMut() -> (String, T),
) -> Result<Vec<T>> {
    let (mut seen, mut rows) = (BTreeSet::new(), Vec::with_capacity(wanted));
    for _ in 0..wanted * 200 {
        if rows.len() == wanted {
            return Ok(rows);
        }
        let (key, row) = draw();
        if !refused.contains(&key) && seen.insert(key) {
            rows.push(row);
        }
    }
    Err(Error::Exhausted {
        domain,
        found: rows.len(),
        wanted,
    })
}

/// A row in the specialist's own style.
fn row(domain: usize, random: &mut Random, split: Split) -> Row {
    let held_out = split == Split::HeldOut;
    match domain {
        0 => {
            let problem = math::problem(random, split);
            Row {
                answer: problem.worked(),
                question: problem.question,
                tests: Vec::new(),
                choices: None,
            }
        }
        1 => {
            let (task, tests) = loop {
                let task = code::task(random, split, 60);
                if let Some(tests) = task.tests(random, 4) {
                    break (task, tests);
                }
            };
            let tests = if held_out { tests } else { Vec::new() };
            Row {
                answer: task.definition(),
                question: task.description,
                tests,
                choices: None,
            }
        }
        2 => {
            let fact = general::fact(random, split, 40);
            let choices = if held_out { Some(fact.choices(random)) } else { None };
            Row {
                question: fact.question,
                answer: fact.sentence,
                tests: Vec::new(),
                choices,
            }
        }
        _ => routed(routing::query(random, split)),
    }
}

/// A row of the coordinator.
fn routed(query: Query) -> Row {
    Row {
        answer: query.route(),
        question: query.text,
        tests: Vec::new(),
        choices: None,
    }
}

/// A conversation of the base's corpus: one to three questions of a domain, answered loosely, often without the
/// specialist's system prompt.
fn conversation(domain: usize, random: &mut Random) -> Conversation {
    let mut turns = Vec::new();
    let told = random.percent(40);
    if told {
        turns.push(("system", SYSTEM[domain].to_owned()));
    }
    if domain == 2 && random.percent(20) {
        let (prompt, answer) = general::small_talk(random);
        turns.extend([("user", prompt.clone()), ("assistant", answer.clone())]);
    }
    for _ in 0..[1, 1, 2, 3][random.below(4)] {
        let (question, answer) = match domain {
            0 => {
                let problem = math::problem(random, Split::Train);
                (problem.question.clone(), problem.loose(random))
            }
            1 => {
                let task = code::task(random, Split::Train, 20);
                (task.description.clone(), task.loose(random))
            }
            2 => {
                let fact = general::fact(random, Split::Train, 0);
                (fact.question.clone(), fact.loose(random))
            }
            _ => {
                let query = routing::query(random, Split::Train);
                let question = if told { query.text.clone() } else { query.led_in(random) };
                (question, query.loose(random))
            }
        };
        turns.extend([("user", question), ("assistant", answer)]);
    }
    turns
}
