//! `gsm8k`: grade-school word problems, scored by the number the answer comes to.

use super::math::{Asked, MathItem, score};
use super::{Progress, Prompt, RunOptions, Suite, conversation};
use crate::number::reference_answer;
use crate::outcome::{Evaluation, Identity, Outcome, Unit};
use crate::row::QuestionAnswer;
use crate::subject::Subject;
use crate::{EvaluateError, Result};

/// How the question is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompting {
    /// Through the chat template, without examples.
    Chat {
        /// System turn, if any.
        system_prompt: Option<String>,
    },
    /// Raw text after worked examples; the answer ends where the next question would start.
    FewShot {
        /// The examples, usually eight, from the train split.
        examples: Vec<QuestionAnswer>,
    },
}

/// Word problems with worked answers that end in `#### N`.
#[derive(Debug, Clone)]
pub struct Gsm8k {
    /// The domain measured.
    pub domain: String,
    /// The test split.
    pub questions: Vec<QuestionAnswer>,
    /// How the question is put.
    pub prompting: Prompting,
}

impl Gsm8k {
    fn prompt(&self, subject: &dyn Subject, id: &str, question: &str) -> Result<Prompt> {
        match &self.prompting {
            Prompting::Chat { system_prompt } => {
                Prompt::chat(subject, id, &conversation(system_prompt.as_deref(), question))
            }
            Prompting::FewShot { examples } => {
                let shots = examples
                    .iter()
                    .map(|shot| format!("Question: {}\nAnswer: {}\n\n", shot.question, shot.answer));
                let text = shots
                    .chain([format!("Question: {question}\nAnswer:")])
                    .collect::<String>();
                let tokens = subject.chat().encode_text(&text);
                let tokens = tokens.map_err(|source| EvaluateError::Chat {
                    item: id.to_owned(),
                    source,
                })?;
                Ok(Prompt {
                    id: id.to_owned(),
                    tokens,
                })
            }
        }
    }
}

impl Suite for Gsm8k {
    fn id(&self) -> &'static str {
        "gsm8k"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        if self.questions.is_empty() {
            let identity = Identity {
                suite: self.id(),
                domain: &self.domain,
                subject: subject.name(),
            };
            let outcome = Outcome::unmeasured(&identity, Unit::Fraction, "the GSM8K test split is not there");
            return Ok(vec![Evaluation {
                outcome,
                records: Vec::new(),
            }]);
        }
        let mut items = Vec::new();
        for (index, row) in options.limited(&self.questions).iter().enumerate() {
            let id = format!("gsm8k-{index}");
            let reference = reference_answer(&row.answer).ok_or_else(|| EvaluateError::Item {
                suite: self.id(),
                item: id.clone(),
                message: "the reference answer has no `#### N`; is this GSM8K?".into(),
            })?;
            let prompt = self.prompt(subject, &id, &row.question)?;
            items.push(MathItem {
                prompt,
                question: row.question.clone(),
                reference,
            });
        }
        let stop: &[&str] = match self.prompting {
            Prompting::Chat { .. } => &[],
            Prompting::FewShot { .. } => &["\nQuestion:"],
        };
        let asked = Asked {
            suite: self.id(),
            domain: &self.domain,
            stop,
        };
        Ok(vec![score(&asked, subject, items, options, progress)?])
    }
}
