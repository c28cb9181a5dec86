//! `expression`: one-expression Python functions, run by the interpreter in this process.
//!
//! It is for the tiny bundled model, so that a machine without Python still gets a code score. `code-tests` runs the
//! programs of real models.

use serde_json::{Value, json};

use super::prompt::{Prompt, generate, last_question, unfinished_note};
use super::suite::{EvalOptions, Suite, SuiteProgress, record};
use crate::model::{EvalModel, GenerationOptions};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::python::Function;
use crate::python_source::python_source;
use crate::rows::{CallTest, HeldOutConversation};
use crate::{EvaluateError, Result};

/// Held-out rows with `tests`: the answer is right if its function returns the expected value in every call.
#[derive(Debug, Clone)]
pub struct ExpressionSuite {
    /// The domain measured.
    pub domain: String,
    /// Held-out conversations; rows without `tests` are skipped.
    pub rows: Vec<HeldOutConversation>,
}

impl Suite for ExpressionSuite {
    fn id(&self) -> &'static str {
        "expression"
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
        let tested: Vec<(usize, &HeldOutConversation)> = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.tests.is_empty())
            .collect();
        let mut asked = Vec::new();
        let mut prompts = Vec::new();
        for (index, row) in options.limited(&tested) {
            let id = format!("{}-{index}", self.domain);
            let (messages, reference) = row.question_and_answer().ok_or_else(|| EvaluateError::Item {
                suite: self.id(),
                item: id.clone(),
                message: "a row with `tests` has to end in an assistant's answer".into(),
            })?;
            prompts.push(Prompt::chat(model, &id, messages)?);
            asked.push((id, last_question(messages), reference, &row.tests));
        }
        let identity = |model| Identity {
            suite: self.id(),
            domain: &self.domain,
            model,
        };
        if asked.is_empty() {
            let why = "no held-out row has `tests`";
            let outcome = Outcome::unmeasured(&identity(model.name()), Unit::Fraction, why);
            return Ok(vec![Evaluation {
                outcome,
                records: Vec::new(),
            }]);
        }
        let generation = GenerationOptions::greedy(options.max_new_tokens, &[]);
        let answers = generate(self.id(), model, &prompts, &generation, progress)?;
        let mut items = Vec::new();
        let mut records = Vec::new();
        for ((id, question, reference, tests), answer) in asked.into_iter().zip(&answers) {
            let failure = judge(&answer.text, tests).err();
            records.push(record([
                ("id", Value::from(id.as_str())),
                ("question", question.into()),
                ("reference", reference.into()),
                ("answer", answer.text.as_str().into()),
                ("correct", failure.is_none().into()),
                ("failure", json!(failure)),
                ("tokens", answer.token_ids.len().into()),
                ("finished", answer.finished.into()),
            ]));
            items.push(Item::judged(id, failure.is_none()));
        }
        let mut outcome = Outcome::fractions(&identity(model.name()), items);
        if let Some(note) = unfinished_note(&answers, options.max_new_tokens) {
            outcome.add_note(&note);
        }
        Ok(vec![Evaluation { outcome, records }])
    }
}

/// Whether the answer's function passes every test; else the first reason why not.
fn judge(answer: &str, tests: &[CallTest]) -> std::result::Result<(), String> {
    let function = Function::parse(&python_source(answer, ""))?;
    for test in tests {
        let arguments: Vec<String> = test.args.iter().map(Value::to_string).collect();
        let call = format!("{}({})", function.name(), arguments.join(", "));
        let found = function.call(&test.args).map_err(|error| format!("{call}: {error}"))?;
        if !found.equals_json(&test.expected) {
            return Err(format!("{call} returned {found}, expected {}", test.expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(cases: &[(Value, Value)]) -> Vec<CallTest> {
        cases
            .iter()
            .map(|(argument, expected)| CallTest {
                args: vec![argument.clone()],
                expected: expected.clone(),
            })
            .collect()
    }

    #[test]
    fn right_programs_pass_and_wrong_ones_say_why() {
        let double = tests(&[(json!(2), json!(4)), (json!(-3), json!(-6))]);
        assert_eq!(judge("```python\ndef f(x):\n    return x * 2\n```", &double), Ok(()));
        assert_eq!(judge("def double(n):\n    return n + n", &double), Ok(()));
        assert_eq!(
            judge("def f(x):\n    return x ** 2", &double),
            Err("f(-3) returned 9, expected -6".into())
        );
        assert_eq!(
            judge("def f(x):\n    return x // 0", &double),
            Err("f(2): division by zero".into())
        );
        assert!(judge("", &double).is_err());
    }
}
