//! `custom`: the user's own questions, each with its scorer.

use serde_json::{Value, json};

use super::prompt::{Prompt, PromptFormat, PromptStyle, generate, last_question, unfinished_note};
use super::suite::{EvalOptions, Suite, SuiteProgress, record, unmeasured};
use crate::Result;
use crate::datasets::CustomRow;
use crate::model::{EvalModel, GenerationOptions};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};

/// Rows of JSONL: a prompt or a conversation, the right answers, a scorer.
#[derive(Debug, Clone)]
pub struct CustomSuite {
    /// The domain measured.
    pub domain: String,
    /// The questions.
    pub rows: Vec<CustomRow>,
    /// How they are formatted.
    pub prompt_format: PromptFormat,
}

impl CustomSuite {
    fn prompt(&self, model: &dyn EvalModel, row: &CustomRow) -> Result<Prompt> {
        match self.prompt_format.style {
            PromptStyle::Raw => Prompt::raw(model, &row.id, last_question(&row.messages)),
            PromptStyle::Chat => {
                let own = row.messages.first().is_some_and(|message| message.role == "system");
                let system = self.prompt_format.system_prompt.iter().filter(|_| !own);
                let system = system.map(|text| synapse_tokenizer::Message::new("system", text));
                let messages: Vec<_> = system.chain(row.messages.iter().cloned()).collect();
                Prompt::chat(model, &row.id, &messages)
            }
        }
    }
}

impl Suite for CustomSuite {
    fn id(&self) -> &'static str {
        "custom"
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
            return Ok(vec![unmeasured(self, model, Unit::Fraction, "no questions")]);
        }
        let prompts = rows
            .iter()
            .map(|row| self.prompt(model, row))
            .collect::<Result<Vec<_>>>()?;
        let generation = GenerationOptions::greedy(options.max_new_tokens, &[]);
        let answers = generate(self.id(), model, &prompts, &generation, progress)?;
        let (mut items, mut records) = (Vec::new(), Vec::new());
        for (row, answer) in rows.iter().zip(&answers) {
            let correct = row
                .answers
                .iter()
                .any(|expected| row.scorer.judges(&answer.text, expected));
            records.push(record([
                ("id", Value::from(row.id.as_str())),
                ("question", last_question(&row.messages).into()),
                ("reference", row.answers.join("\n").into()),
                ("expected", json!(row.answers)),
                ("answer", answer.text.as_str().into()),
                ("correct", correct.into()),
                ("tokens", answer.token_ids.len().into()),
                ("finished", answer.finished.into()),
            ]));
            items.push(Item::judged(&row.id, correct));
        }
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            model: model.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        if let Some(note) = unfinished_note(&answers, options.max_new_tokens) {
            outcome.add_note(&note);
        }
        Ok(vec![Evaluation { outcome, records }])
    }
}
