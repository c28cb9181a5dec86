//! `choices`: multiple choice by log-likelihood.
//!
//! The answer's own tokens decide, so nothing has to be parsed out of prose. A prompt that does not fit is refused, as
//! cutting a question changes it; and it is never cut on the right, where the question ends.

use serde_json::{Value, json};

use super::{CHUNK, Progress, Prompt, RunOptions, Suite, check_count, conversation, record};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::row::ChoiceRow;
use crate::subject::{Choices, Subject};
use crate::{EvaluateError, Result};

/// What is scored after the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChoiceStyle {
    /// The choices are listed with letters, and the letters are scored (as MMLU is asked).
    Letters,
    /// Only the question is asked, and the choices' texts are scored; their likelihood per byte is logged too
    /// (as HellaSwag and ARC are asked).
    Texts,
}

/// Multiple-choice questions through the chat template.
#[derive(Debug, Clone)]
pub struct MultipleChoice {
    /// The domain measured.
    pub domain: String,
    /// The questions.
    pub rows: Vec<ChoiceRow>,
    /// What is scored.
    pub style: ChoiceStyle,
    /// System turn, if any.
    pub system_prompt: Option<String>,
}

impl MultipleChoice {
    fn item(&self, subject: &dyn Subject, index: usize, row: &ChoiceRow) -> Result<(String, usize, Choices)> {
        let id = format!("{}-{index}", self.domain);
        let fault = |message: String| EvaluateError::Item {
            suite: "choices",
            item: id.clone(),
            message,
        };
        if !(2..=26).contains(&row.choices.len()) {
            return Err(fault(format!("expected 2 to 26 choices, found {}", row.choices.len())));
        }
        let right = row.answer.index().filter(|index| *index < row.choices.len());
        let right = right.ok_or_else(|| {
            fault(format!(
                "answer {:?} is none of {} choices",
                row.answer,
                row.choices.len()
            ))
        })?;
        let (question, candidates) = match self.style {
            ChoiceStyle::Letters => {
                let listed = row
                    .choices
                    .iter()
                    .zip('A'..)
                    .map(|(choice, letter)| format!("{letter}. {choice}\n"));
                let question = format!(
                    "{}\n\n{}\nAnswer with the letter only.",
                    row.question,
                    listed.collect::<String>()
                );
                (
                    question,
                    row.choices
                        .iter()
                        .zip('A'..)
                        .map(|(_, letter)| letter.to_string())
                        .collect(),
                )
            }
            ChoiceStyle::Texts => (row.question.clone(), row.choices.clone()),
        };
        let prompt = Prompt::chat(subject, &id, &conversation(self.system_prompt.as_deref(), &question))?;
        let mut continuations = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let tokens = subject.chat().encode_text(&candidate);
            let tokens = tokens.map_err(|source| EvaluateError::Chat {
                item: id.clone(),
                source,
            })?;
            if tokens.is_empty() {
                return Err(fault("a choice is empty".into()));
            }
            continuations.push(tokens);
        }
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = prompt.tokens.len() + longest;
        if let Some(limit) = subject.max_positions().filter(|limit| tokens > *limit) {
            return Err(EvaluateError::TooLong {
                suite: "choices",
                item: id,
                tokens,
                limit,
            });
        }
        Ok((
            id,
            right,
            Choices {
                prompt: prompt.tokens,
                continuations,
            },
        ))
    }
}

impl Suite for MultipleChoice {
    fn id(&self) -> &'static str {
        "choices"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        let rows = options.limited(&self.rows);
        if rows.is_empty() {
            let identity = Identity {
                suite: self.id(),
                domain: &self.domain,
                subject: subject.name(),
            };
            let outcome = Outcome::unmeasured(&identity, Unit::Fraction, "no multiple-choice questions");
            return Ok(vec![Evaluation {
                outcome,
                records: Vec::new(),
            }]);
        }
        let (mut items, mut records) = (Vec::new(), Vec::new());
        for (chunk_index, chunk) in rows.chunks(CHUNK).enumerate() {
            let mut expected = Vec::with_capacity(chunk.len());
            let mut asked = Vec::with_capacity(chunk.len());
            for (offset, row) in chunk.iter().enumerate() {
                let (id, right, choices) = self.item(subject, chunk_index * CHUNK + offset, row)?;
                expected.push((id, right, row));
                asked.push(choices);
            }
            let scores = subject.score(&asked)?;
            check_count(subject, "questions", asked.len(), scores.len())?;
            for ((id, right, row), scores) in expected.into_iter().zip(&scores) {
                check_count(subject, "choices", row.choices.len(), scores.len())?;
                let chosen = highest(scores.iter().copied());
                let per_byte = row
                    .choices
                    .iter()
                    .zip(scores)
                    .map(|(text, score)| score / text.len().max(1) as f64);
                records.push(record([
                    ("id", Value::from(id.as_str())),
                    ("question", row.question.as_str().into()),
                    ("right", right.into()),
                    ("chosen", chosen.into()),
                    ("chosen_per_byte", highest(per_byte).into()),
                    ("log_probabilities", json!(scores)),
                    ("correct", (chosen == right).into()),
                ]));
                items.push(Item {
                    id,
                    value: f64::from(u8::from(chosen == right)),
                    weight: 1.0,
                });
            }
            progress(items.len(), rows.len());
        }
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            subject: subject.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        if self.style == ChoiceStyle::Texts {
            let right = records
                .iter()
                .filter(|record| record["chosen_per_byte"] == record["right"])
                .count();
            outcome
                .details
                .insert("accuracy_per_byte".into(), json!(right as f64 / records.len() as f64));
        }
        Ok(vec![Evaluation { outcome, records }])
    }
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
