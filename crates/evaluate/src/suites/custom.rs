//! `custom`: questions of one's own, each with the rule by which its answer is judged.

use serde_json::{Value, json};

use super::prompt::{Form, Prompt, Prompting, generate, last_question, unfinished_note};
use super::{Progress, RunOptions, Suite, record, unmeasured};
use crate::Result;
use crate::layouts::CustomRow;
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::subject::{Generation, Subject};

/// Rows of JSONL: a prompt or a conversation, the right answers, a scorer.
#[derive(Debug, Clone)]
pub struct Custom {
    /// The domain measured.
    pub domain: String,
    /// The questions.
    pub rows: Vec<CustomRow>,
    /// How they are put.
    pub form: Form,
}

impl Custom {
    fn prompt(&self, subject: &dyn Subject, row: &CustomRow) -> Result<Prompt> {
        match self.form.prompting {
            Prompting::Raw => Prompt::raw(subject, &row.id, last_question(&row.messages)),
            Prompting::Chat => {
                let own = row.messages.first().is_some_and(|message| message.role == "system");
                let system = self.form.system_prompt.iter().filter(|_| !own);
                let system = system.map(|text| synapse_tokenizer::Message::new("system", text));
                let messages: Vec<_> = system.chain(row.messages.iter().cloned()).collect();
                Prompt::chat(subject, &row.id, &messages)
            }
        }
    }
}

impl Suite for Custom {
    fn id(&self) -> &'static str {
        "custom"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        let rows = options.limited(&self.rows);
        if rows.is_empty() {
            return Ok(vec![unmeasured(self, subject, Unit::Fraction, "no questions")]);
        }
        let prompts = rows
            .iter()
            .map(|row| self.prompt(subject, row))
            .collect::<Result<Vec<_>>>()?;
        let generation = Generation::greedy(options.max_new_tokens, &[]);
        let answers = generate(self.id(), subject, &prompts, &generation, progress)?;
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
            subject: subject.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        if let Some(note) = unfinished_note(&answers, options.max_new_tokens) {
            outcome.add_note(&note);
        }
        Ok(vec![Evaluation { outcome, records }])
    }
}
