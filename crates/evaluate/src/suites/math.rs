//! Shared by `exact-match` and `gsm8k`: asking, extracting the answer's number and scoring it.

use serde_json::{Value, json};

use super::prompt::{Prompt, generate, unfinished_note};
use super::suite::{EvalOptions, SuiteProgress, record};
use crate::Result;
use crate::model::{EvalModel, GenerationOptions};
use crate::number::{AnswerRule, Number, final_answer};
use crate::outcome::{Evaluation, Identity, Item, Outcome};

/// One question with its correct number.
pub(super) struct MathItem {
    pub(super) prompt: Prompt,
    pub(super) question: String,
    pub(super) reference: Number,
}

/// The suite, its domain and its stop strings.
pub(super) struct Asked<'a> {
    pub(super) suite: &'static str,
    pub(super) domain: &'a str,
    pub(super) stop: &'a [&'a str],
}

pub(super) fn score(
    asked: &Asked<'_>,
    model: &mut dyn EvalModel,
    items: Vec<MathItem>,
    options: &EvalOptions,
    progress: SuiteProgress<'_>,
) -> Result<Evaluation> {
    let generation = GenerationOptions::greedy(options.max_new_tokens, asked.stop);
    let mut prompts = Vec::with_capacity(items.len());
    let mut expected = Vec::with_capacity(items.len());
    for MathItem {
        prompt,
        question,
        reference,
    } in items
    {
        expected.push((prompt.id.clone(), question, reference));
        prompts.push(prompt);
    }
    let answers = generate(asked.suite, model, &prompts, &generation, progress)?;
    let mut judged = Vec::with_capacity(answers.len());
    let mut records = Vec::with_capacity(answers.len());
    for ((id, question, reference), answer) in expected.into_iter().zip(&answers) {
        let extracted = final_answer(&answer.text);
        let correct = extracted.as_ref().is_some_and(|(number, _)| *number == reference);
        records.push(record([
            ("id", Value::from(id.as_str())),
            ("question", question.into()),
            ("reference", reference.as_str().into()),
            ("answer", answer.text.as_str().into()),
            (
                "extracted",
                json!(extracted.as_ref().map(|(number, _)| number.as_str())),
            ),
            (
                "rule",
                json!(extracted.as_ref().map(|(_, rule)| AnswerRule::as_str(*rule))),
            ),
            ("correct", correct.into()),
            ("tokens", answer.token_ids.len().into()),
            ("finished", answer.finished.into()),
        ]));
        judged.push(Item::judged(id, correct));
    }
    let identity = Identity {
        suite: asked.suite,
        domain: asked.domain,
        model: model.name(),
    };
    let mut outcome = Outcome::fractions(&identity, judged);
    if let Some(note) = unfinished_note(&answers, options.max_new_tokens) {
        outcome.add_note(&note);
    }
    Ok(Evaluation { outcome, records })
}
