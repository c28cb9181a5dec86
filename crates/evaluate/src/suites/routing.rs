//! `routing`: the accuracy of the coordinator's routing decisions.
//!
//! It has two outcomes. `routing` scores the decision as serving makes it: the label with the highest summed
//! log-probability; the softmax is its confidence. `routing-exact` is stricter: the generated answer must be exactly the
//! trained JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::prompt::{Prompt, check_count, generate, last_question};
use super::suite::{CHUNK, EvalOptions, Suite, SuiteProgress, record};
use crate::model::{EvalModel, GenerationOptions, MultipleChoiceItem};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::rows::HeldOutConversation;
use crate::{EvaluateError, Result};

/// Confidence bins of the calibration error.
const BINS: usize = 10;

/// Held-out rows whose answer is `{"route":"LABEL"}`; other rows are skipped.
#[derive(Debug, Clone)]
pub struct RoutingSuite {
    /// The domain measured.
    pub domain: String,
    /// Held-out conversations.
    pub rows: Vec<HeldOutConversation>,
    /// The labels of router.json.
    pub labels: Vec<String>,
}

/// One query with the index of its label.
struct Query<'a> {
    id: String,
    question: &'a str,
    prompt: Prompt,
    label: usize,
    kind: Option<&'a str>,
}

impl RoutingSuite {
    fn queries<'a>(&'a self, model: &dyn EvalModel, options: &EvalOptions) -> Result<Vec<Query<'a>>> {
        let mut queries = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            if options.limit.is_some_and(|limit| queries.len() == limit) {
                break;
            }
            let Some((messages, answer)) = row.question_and_answer() else {
                continue;
            };
            let Some(route) = route_of(answer) else {
                continue;
            };
            let id = format!("{}-{index}", self.domain);
            let label = self
                .labels
                .iter()
                .position(|label| *label == route)
                .ok_or_else(|| EvaluateError::Item {
                    suite: self.id(),
                    item: id.clone(),
                    message: format!("label `{route}` is not among {}", self.labels.join(", ")),
                })?;
            let prompt = Prompt::scored(model, &id, messages)?;
            queries.push(Query {
                kind: row.kind.as_deref(),
                id,
                question: last_question(messages),
                prompt,
                label,
            });
        }
        Ok(queries)
    }

    fn answers(&self) -> Vec<String> {
        self.labels
            .iter()
            .map(|label| json!({ "route": label }).to_string())
            .collect()
    }

    /// The labels' probabilities for each query.
    fn probabilities(&self, model: &mut dyn EvalModel, queries: &[Query<'_>]) -> Result<Vec<Vec<f64>>> {
        let mut continuations = Vec::new();
        for answer in self.answers() {
            let tokens = model.chat().encode_text(&answer);
            continuations.push(tokens.map_err(|source| EvaluateError::Chat { item: answer, source })?);
        }
        let mut found = Vec::with_capacity(queries.len());
        for chunk in queries.chunks(CHUNK) {
            let items: Vec<MultipleChoiceItem> = chunk
                .iter()
                .map(|query| MultipleChoiceItem {
                    prompt: query.prompt.tokens.clone(),
                    continuations: continuations.clone(),
                })
                .collect();
            let scores = model.score(&items)?;
            check_count(model, "queries", items.len(), scores.len())?;
            for scores in &scores {
                check_count(model, "labels", self.labels.len(), scores.len())?;
                found.push(softmax(scores));
            }
        }
        Ok(found)
    }
}

impl Suite for RoutingSuite {
    fn id(&self) -> &'static str {
        "routing"
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
        let queries = self.queries(model, options)?;
        if queries.is_empty() {
            let why = "no held-out row has an answer of the form {\"route\":\"LABEL\"}";
            let unmeasured = |suite| {
                let identity = Identity {
                    suite,
                    domain: &self.domain,
                    model: model.name(),
                };
                Evaluation {
                    outcome: Outcome::unmeasured(&identity, Unit::Fraction, why),
                    records: Vec::new(),
                }
            };
            return Ok(vec![unmeasured("routing"), unmeasured("routing-exact")]);
        }
        let probabilities = self.probabilities(model, &queries)?;
        let expected: Vec<(String, String, usize, Option<&str>)> = queries
            .iter()
            .map(|query| (query.id.clone(), query.question.to_owned(), query.label, query.kind))
            .collect();
        let prompts: Vec<Prompt> = queries.into_iter().map(|query| query.prompt).collect();
        let generation = GenerationOptions::greedy(options.max_new_tokens.min(32), &[]);
        let generated = generate(self.id(), model, &prompts, &generation, progress)?;

        let exact_answers = self.answers();
        let (mut scored, mut exact, mut records) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tally, mut valid) = (Tally::new(&self.labels), 0usize);
        for (((id, question, label, kind), probabilities), answer) in
            expected.into_iter().zip(&probabilities).zip(&generated)
        {
            let (chosen, confidence) = highest(probabilities);
            tally.add(label, chosen, confidence);
            tally.add_kind(kind, label == chosen);
            let is_exact = answer.text == exact_answers[label];
            valid += usize::from(route_of(&answer.text).is_some_and(|route| self.labels.contains(&route)));
            let by_label: Map<String, Value> = self
                .labels
                .iter()
                .cloned()
                .zip(probabilities.iter().map(|p| json!(p)))
                .collect();
            records.push(record([
                ("id", Value::from(id.as_str())),
                ("question", question.into()),
                ("label", self.labels[label].as_str().into()),
                ("chosen", self.labels[chosen].as_str().into()),
                ("probabilities", by_label.into()),
                ("answer", answer.text.as_str().into()),
                ("correct", (chosen == label).into()),
                ("exact", is_exact.into()),
            ]));
            scored.push(Item::judged(id.clone(), chosen == label));
            exact.push(Item::judged(id, is_exact));
        }
        let validity = valid as f64 / exact.len() as f64;
        let identity = |suite| Identity {
            suite,
            domain: &self.domain,
            model: model.name(),
        };
        let mut outcome = Outcome::fractions(&identity("routing"), scored);
        outcome.details = tally.details();
        let mut exact = Outcome::fractions(&identity("routing-exact"), exact);
        exact.details.insert("json_valid".into(), json!(validity));
        Ok(vec![
            Evaluation {
                outcome,
                records: records.clone(),
            },
            Evaluation {
                outcome: exact,
                records,
            },
        ])
    }
}

/// The label of `{"route":"LABEL"}`.
fn route_of(answer: &str) -> Option<String> {
    let json: Value = serde_json::from_str(answer.trim()).ok()?;
    Some(json.get("route")?.as_str()?.to_owned())
}

fn softmax(log_probabilities: &[f64]) -> Vec<f64> {
    let highest = log_probabilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shifted: Vec<f64> = log_probabilities.iter().map(|value| (value - highest).exp()).collect();
    let sum: f64 = shifted.iter().sum();
    shifted.into_iter().map(|value| value / sum).collect()
}

/// The first highest entry and its index.
fn highest(values: &[f64]) -> (usize, f64) {
    values
        .iter()
        .copied()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (index, value)| {
            if value > best.1 { (index, value) } else { best }
        })
}

/// Accumulates the confusion matrix and the calibration.
struct Tally<'a> {
    labels: &'a [String],
    /// `[label][chosen]`.
    confusion: Vec<Vec<u64>>,
    /// Per confidence bin: items, summed confidence, right ones.
    bins: [(u64, f64, u64); BINS],
    /// By the origin of the prompt: items, right ones.
    kinds: BTreeMap<String, (u64, u64)>,
}

impl<'a> Tally<'a> {
    fn new(labels: &'a [String]) -> Self {
        Self {
            labels,
            confusion: vec![vec![0; labels.len()]; labels.len()],
            bins: [(0, 0.0, 0); BINS],
            kinds: BTreeMap::new(),
        }
    }

    fn add_kind(&mut self, kind: Option<&str>, right: bool) {
        let Some(kind) = kind else { return };
        let tally = self.kinds.entry(kind.to_owned()).or_default();
        tally.0 += 1;
        tally.1 += u64::from(right);
    }

    fn add(&mut self, label: usize, chosen: usize, confidence: f64) {
        self.confusion[label][chosen] += 1;
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += confidence;
        bin.2 += u64::from(label == chosen);
    }

    /// Expected calibration error (Guo et al. 2017): mean gap between confidence and accuracy over equal-width bins.
    fn calibration_error(&self) -> f64 {
        let n: u64 = self.bins.iter().map(|bin| bin.0).sum();
        let gaps: f64 = self
            .bins
            .iter()
            .map(|(_, confidence, right)| (confidence - *right as f64).abs())
            .sum();
        gaps / n.max(1) as f64
    }

    fn details(&self) -> Map<String, Value> {
        let accuracy = self
            .labels
            .iter()
            .zip(&self.confusion)
            .enumerate()
            .map(|(index, (label, row))| {
                let n: u64 = row.iter().sum();
                (
                    label.clone(),
                    json!({ "n": n, "accuracy": (n > 0).then(|| row[index] as f64 / n as f64) }),
                )
            });
        let kinds = self.kinds.iter().map(|(kind, &(n, right))| {
            let accuracy = right as f64 / n as f64;
            (kind.clone(), json!({ "n": n, "accuracy": accuracy }))
        });
        record([
            ("per_kind", Value::Object(kinds.collect())),
            ("per_class", Value::Object(accuracy.collect())),
            ("labels", json!(self.labels)),
            ("confusion", json!(self.confusion)),
            ("expected_calibration_error", json!(self.calibration_error())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_error_by_hand() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let mut tally = Tally::new(&labels);
        // Two answers at 0.9, one of them right: gap 0.4; two at 0.6, both right: gap 0.4.
        for (label, chosen, confidence) in [(0, 0, 0.9), (1, 0, 0.9), (0, 0, 0.6), (1, 1, 0.6)] {
            tally.add(label, chosen, confidence);
        }
        assert!((tally.calibration_error() - 0.4).abs() < 1e-12);
        [(Some("real"), true), (Some("real"), false), (None, true)]
            .into_iter()
            .for_each(|(kind, right)| tally.add_kind(kind, right));
        assert_eq!(
            tally.details()["per_kind"],
            json!({ "real": { "n": 2, "accuracy": 0.5 } })
        );
        assert_eq!(tally.details()["confusion"], json!([[2, 0], [1, 1]]));
        assert_eq!(tally.details()["per_class"]["b"], json!({ "n": 2, "accuracy": 0.5 }));
    }

    #[test]
    fn softmax_of_very_negative_sums_is_finite() {
        let p = softmax(&[-1000.0, -1000.0 - std::f64::consts::LN_2]);
        assert!((p[0] - 2.0 / 3.0).abs() < 1e-12 && (p[1] - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn only_the_json_form_is_a_route() {
        assert_eq!(route_of(" {\"route\":\"math\"}\n").as_deref(), Some("math"));
        assert_eq!(route_of("math"), None);
        assert_eq!(route_of("{\"route\":\"math\"} because"), None);
    }
}
