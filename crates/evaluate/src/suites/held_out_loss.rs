//! `held-out-loss`: mean nats per target token over documents that are not trained on.

use serde_json::{Value, json};

use super::prompt::check_count;
use super::suite::{CHUNK, EvalOptions, Suite, SuiteProgress, record};
use crate::model::{EvalModel, LabeledDocument};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::rows::HeldOutDocument;
use crate::{EvaluateError, Result};

/// Mean cross-entropy per target token; its interval resamples whole documents.
#[derive(Debug, Clone)]
pub struct HeldOutLossSuite {
    /// The domain measured.
    pub domain: String,
    /// The documents, tokenized and labeled as in training, but not packed.
    pub documents: Vec<HeldOutDocument>,
}

impl Suite for HeldOutLossSuite {
    fn id(&self) -> &'static str {
        "held-out-loss"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, model: &mut dyn EvalModel, _: &EvalOptions, progress: SuiteProgress<'_>) -> Result<Vec<Evaluation>> {
        // one forward pass per document is cheap compared with generation, so a limit on items does not apply
        let documents = &self.documents;
        let mut losses = Vec::with_capacity(documents.len());
        for chunk in documents.chunks(CHUNK) {
            let rows: Vec<LabeledDocument<'_>> = chunk
                .iter()
                .map(|document| LabeledDocument {
                    input_ids: &document.input_ids,
                    labels: &document.labels,
                })
                .collect();
            let found = model.losses(&rows)?;
            check_count(model, "documents", rows.len(), found.len())?;
            losses.extend(found);
            progress(losses.len(), documents.len());
        }
        let name = model.name();
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            model: name,
        };
        let mut items = Vec::new();
        let mut records = Vec::new();
        for (index, loss) in losses.iter().enumerate() {
            let id = format!("{}-{index}", self.domain);
            if !loss.sum.is_finite() {
                return Err(EvaluateError::model(
                    name,
                    "measuring the loss",
                    format!("{id}: the loss is {}", loss.sum),
                ));
            }
            if loss.tokens == 0 {
                continue;
            }
            let mean = loss.sum / loss.tokens as f64;
            records.push(record([
                ("id", Value::from(id.as_str())),
                ("nats", json!(loss.sum)),
                ("tokens", json!(loss.tokens)),
                ("nats_per_token", json!(mean)),
            ]));
            items.push(Item {
                id,
                value: mean,
                weight: loss.tokens as f64,
            });
        }
        let outcome = if items.is_empty() {
            Outcome::unmeasured(
                &identity,
                Unit::NatsPerToken,
                "no held-out document has a trained token",
            )
        } else {
            Outcome::losses(&identity, items)
        };
        Ok(vec![Evaluation { outcome, records }])
    }
}
