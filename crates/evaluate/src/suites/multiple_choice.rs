//! `choices`, `mmlu`, `arc`, `hellaswag`: multiple choice by log-likelihood.
//!
//! The tokens of the choices are scored, so no answer has to be parsed. A prompt that does not fit is refused, because
//! truncating a question would change it.

use serde_json::{Map, Value, json};

use super::prompt::{PromptFormat, PromptStyle, check_count};
use super::suite::{CHUNK, EvalOptions, Suite, SuiteProgress, record, unmeasured};
use crate::model::{EvalModel, MultipleChoiceItem};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::rows::MultipleChoiceRow;
use crate::{EvaluateError, Result};

/// What is scored, and how the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChoiceStyle {
    /// The choices are listed with letters, and the letters are scored (MMLU).
    Letters,
    /// The choices are not listed, and their texts are scored; their likelihood per byte is logged, too (ARC).
    Texts,
    /// The question is a text to continue, and its endings are scored (HellaSwag).
    Endings,
}

/// Multiple-choice questions.
#[derive(Debug, Clone)]
pub struct MultipleChoiceSuite {
    /// The suite's id.
    pub id: &'static str,
    /// The domain measured.
    pub domain: String,
    /// The questions.
    pub rows: Vec<MultipleChoiceRow>,
    /// What is scored.
    pub style: ChoiceStyle,
    /// How the question is formatted.
    pub prompt_format: PromptFormat,
}

/// A question to be scored.
struct Scored<'a> {
    id: String,
    right: usize,
    row: &'a MultipleChoiceRow,
}

impl MultipleChoiceSuite {
    fn invalid(&self, id: &str, message: String) -> EvaluateError {
        EvaluateError::Item {
            suite: self.id,
            item: id.to_owned(),
            message,
        }
    }

    fn item<'a>(
        &self,
        model: &dyn EvalModel,
        index: usize,
        row: &'a MultipleChoiceRow,
    ) -> Result<(Scored<'a>, MultipleChoiceItem)> {
        let id = row.id.clone().unwrap_or_else(|| format!("{}-{index}", self.domain));
        if !(2..=26).contains(&row.choices.len()) {
            let message = format!("expected 2 to 26 choices, found {}", row.choices.len());
            return Err(self.invalid(&id, message));
        }
        let right = row.answer.index().filter(|index| *index < row.choices.len());
        let right = right.ok_or_else(|| {
            let message = format!("answer {} is not one of the {} choices", row.answer, row.choices.len());
            self.invalid(&id, message)
        })?;
        let choices = match self.prompt_format.style {
            PromptStyle::Chat => self.chat(model, &id, row)?,
            PromptStyle::Raw => self.raw(model, &id, row)?,
        };
        if choices.continuations.iter().any(Vec::is_empty) {
            return Err(self.invalid(&id, "a choice is empty".into()));
        }
        let longest = choices.continuations.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = choices.prompt.len() + longest;
        if let Some(limit) = model.max_positions().filter(|limit| tokens > *limit) {
            return Err(EvaluateError::TooLong {
                suite: self.id,
                item: id,
                tokens,
                limit,
            });
        }
        Ok((Scored { id, right, row }, choices))
    }

    /// What is scored: letters or texts.
    fn candidates(&self, row: &MultipleChoiceRow) -> Vec<String> {
        match self.style {
            ChoiceStyle::Letters => letters(row).map(|(letter, _)| letter.to_string()).collect(),
            ChoiceStyle::Texts | ChoiceStyle::Endings => row.choices.clone(),
        }
    }

    fn chat(&self, model: &dyn EvalModel, id: &str, row: &MultipleChoiceRow) -> Result<MultipleChoiceItem> {
        let question = match self.style {
            ChoiceStyle::Letters => format!("{}\n\n{}\nAnswer with the letter only.", row.question, listed(row)),
            ChoiceStyle::Texts => row.question.clone(),
            ChoiceStyle::Endings => format!(
                "How does this text go on? Answer with its ending only.\n\n{}",
                row.question
            ),
        };
        let prompt = self.prompt_format.ask_for_choice(model, id, &question)?;
        let candidates = self.candidates(row);
        let continuations = candidates.iter().map(|candidate| {
            model
                .chat()
                .encode_text(candidate)
                .map_err(|source| EvaluateError::Chat {
                    item: id.to_owned(),
                    source,
                })
        });
        Ok(MultipleChoiceItem {
            prompt: prompt.tokens,
            continuations: continuations.collect::<Result<_>>()?,
        })
    }

    /// Plain text: the context and each candidate are tokenized as one text, and the candidate is what comes after the
    /// context's own tokens.
    fn raw(&self, model: &dyn EvalModel, id: &str, row: &MultipleChoiceRow) -> Result<MultipleChoiceItem> {
        let context = match self.style {
            ChoiceStyle::Letters => {
                let about = row
                    .group
                    .as_ref()
                    .map(|group| format!(" about {group}"))
                    .unwrap_or_default();
                format!(
                    "The following are multiple choice questions (with answers){about}.\n\n{}\n{}Answer:",
                    row.question.trim(),
                    listed(row)
                )
            }
            ChoiceStyle::Texts => format!("Question: {}\nAnswer:", row.question),
            ChoiceStyle::Endings => row.question.clone(),
        };
        let context = context.trim_end();
        let encode = |text: &str| {
            model.chat().encode_raw(text).map_err(|source| EvaluateError::Chat {
                item: id.to_owned(),
                source,
            })
        };
        let prompt = encode(context)?;
        let candidates = self.candidates(row);
        let continuations = candidates.iter().map(|candidate| {
            let whole = encode(&format!("{context} {candidate}"))?;
            Ok(whole.get(prompt.len()..).unwrap_or_default().to_vec())
        });
        Ok(MultipleChoiceItem {
            continuations: continuations.collect::<Result<_>>()?,
            prompt,
        })
    }
}

impl Suite for MultipleChoiceSuite {
    fn id(&self) -> &'static str {
        self.id
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(
        &self,
        model: &mut dyn EvalModel,
        options: &EvalOptions,
        progress: SuiteProgress<'_>,
    ) -> Result<Vec<Evaluation>> {
        let rows = options.limited(&self.rows);
        if rows.is_empty() {
            let why = "no multiple-choice questions";
            return Ok(vec![unmeasured(self, model, Unit::Fraction, why)]);
        }
        let (mut items, mut records) = (Vec::new(), Vec::new());
        let mut tally = Tally::default();
        for (chunk_index, chunk) in rows.chunks(CHUNK).enumerate() {
            let mut expected = Vec::with_capacity(chunk.len());
            let mut asked = Vec::with_capacity(chunk.len());
            for (offset, row) in chunk.iter().enumerate() {
                let (scored, choices) = self.item(model, chunk_index * CHUNK + offset, row)?;
                expected.push(scored);
                asked.push(choices);
            }
            let found = model.score(&asked)?;
            check_count(model, "questions", asked.len(), found.len())?;
            for (Scored { id, right, row }, scores) in expected.into_iter().zip(&found) {
                check_count(model, "choices", row.choices.len(), scores.len())?;
                let chosen = highest(scores.iter().copied());
                let per_byte = row
                    .choices
                    .iter()
                    .zip(scores)
                    .map(|(text, score)| score / text.len().max(1) as f64);
                let chosen_per_byte = highest(per_byte);
                tally.add(row.group.as_deref(), chosen == right, chosen_per_byte == right);
                records.push(record([
                    ("id", Value::from(id.as_str())),
                    ("question", row.question.as_str().into()),
                    ("right", right.into()),
                    ("chosen", chosen.into()),
                    ("chosen_per_byte", chosen_per_byte.into()),
                    ("log_probabilities", json!(scores)),
                    ("correct", (chosen == right).into()),
                ]));
                items.push(Item::judged(id, chosen == right));
            }
            progress(items.len(), rows.len());
        }
        let identity = Identity {
            suite: self.id,
            domain: &self.domain,
            model: model.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        outcome.details = tally.details(self.style != ChoiceStyle::Letters);
        Ok(vec![Evaluation { outcome, records }])
    }
}

/// Right answers by group and by the length-normalized rule.
#[derive(Default)]
struct Tally {
    all: usize,
    right_per_byte: usize,
    /// Group → (right, all).
    groups: std::collections::BTreeMap<String, (usize, usize)>,
}

impl Tally {
    fn add(&mut self, group: Option<&str>, right: bool, right_per_byte: bool) {
        self.all += 1;
        self.right_per_byte += usize::from(right_per_byte);
        if let Some(group) = group {
            let (count, all) = self.groups.entry(group.to_owned()).or_default();
            *count += usize::from(right);
            *all += 1;
        }
    }

    fn details(&self, per_byte: bool) -> Map<String, Value> {
        let mut details = Map::new();
        if per_byte {
            let share = self.right_per_byte as f64 / self.all.max(1) as f64;
            details.insert("accuracy_per_byte".into(), json!(share));
        }
        if !self.groups.is_empty() {
            let groups = self
                .groups
                .iter()
                .map(|(group, (right, all))| {
                    (
                        group.clone(),
                        json!({ "n": all, "accuracy": *right as f64 / *all as f64 }),
                    )
                })
                .collect();
            details.insert("per_group".into(), Value::Object(groups));
        }
        details
    }
}

fn letters(row: &MultipleChoiceRow) -> impl Iterator<Item = (char, &String)> {
    ('A'..='Z').zip(&row.choices)
}

/// `A. …`, one line per choice.
fn listed(row: &MultipleChoiceRow) -> String {
    letters(row)
        .map(|(letter, choice)| format!("{letter}. {choice}\n"))
        .collect()
}

/// The index of the first highest score.
fn highest(scores: impl Iterator<Item = f64>) -> usize {
    scores
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (index, score)| {
            if score > best.1 { (index, score) } else { best }
        })
        .0
}
