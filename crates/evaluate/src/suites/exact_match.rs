//! `exact-match`: greedy answers to held-out questions, scored by the reference's number.

use super::math::{Asked, MathItem, score};
use super::prompt::{Prompt, last_question};
use super::suite::{EvalOptions, Suite, SuiteProgress};
use crate::Result;
use crate::model::EvalModel;
use crate::number::reference_answer;
use crate::outcome::{Evaluation, Identity, Outcome, Unit};
use crate::rows::HeldOutConversation;

/// Held-out conversations whose last answer ends in `#### N` or in a number; other rows are left out and counted.
#[derive(Debug, Clone)]
pub struct ExactMatchSuite {
    /// The domain measured.
    pub domain: String,
    /// held_out.jsonl.
    pub rows: Vec<HeldOutConversation>,
}

impl Suite for ExactMatchSuite {
    fn id(&self) -> &'static str {
        "exact-match"
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
        let mut items = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let Some((messages, answer)) = row.question_and_answer() else {
                continue;
            };
            let Some(reference) = reference_answer(answer) else {
                continue;
            };
            if options.limit.is_some_and(|limit| items.len() == limit) {
                break;
            }
            let prompt = Prompt::chat(model, &format!("{}-{index}", self.domain), messages)?;
            items.push(MathItem {
                prompt,
                question: last_question(messages).to_owned(),
                reference,
            });
        }
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            model: model.name(),
        };
        if items.is_empty() {
            let why = "no held-out row has an answer that ends in a number";
            return Ok(vec![Evaluation {
                outcome: Outcome::unmeasured(&identity, Unit::Fraction, why),
                records: Vec::new(),
            }]);
        }
        let numeric = self.rows.iter().filter_map(HeldOutConversation::question_and_answer);
        let left_out = self.rows.len() - numeric.filter(|(_, answer)| reference_answer(answer).is_some()).count();
        let asked = Asked {
            suite: self.id(),
            domain: &self.domain,
            stop: &[],
        };
        let mut evaluation = score(&asked, model, items, options, progress)?;
        if left_out > 0 {
            evaluation
                .outcome
                .add_note(&format!("{left_out} rows without a numeric answer left out"));
        }
        Ok(vec![evaluation])
    }
}
