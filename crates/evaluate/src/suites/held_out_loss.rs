//! `held-out-loss`: mean nats per trained token over documents that training never saw.

use serde_json::{Value, json};

use super::prompt::check_count;
use super::{CHUNK, Progress, RunOptions, Suite, record};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::row::Document;
use crate::subject::{PackedLoss, Subject};
use crate::{EvaluateError, Result};

/// Mean cross-entropy per trained token; its interval resamples whole documents.
#[derive(Debug, Clone)]
pub struct HeldOutLoss {
    /// The domain measured.
    pub domain: String,
    /// The documents, as the trainer packs them but one by one.
    pub documents: Vec<Document>,
}

impl Suite for HeldOutLoss {
    fn id(&self) -> &'static str {
        "held-out-loss"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, _: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        // one forward pass a document: cheap beside generating, so a limit on items does not apply
        let documents = &self.documents;
        let mut losses = Vec::with_capacity(documents.len());
        for chunk in documents.chunks(CHUNK) {
            let rows: Vec<PackedLoss<'_>> = chunk
                .iter()
                .map(|document| PackedLoss {
                    input_ids: &document.input_ids,
                    labels: &document.labels,
                })
                .collect();
            let found = subject.losses(&rows)?;
            check_count(subject, "documents", rows.len(), found.len())?;
            losses.extend(found);
            progress(losses.len(), documents.len());
        }
        let name = subject.name();
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            subject: name,
        };
        let mut items = Vec::new();
        let mut records = Vec::new();
        for (index, loss) in losses.iter().enumerate() {
            let id = format!("{}-{index}", self.domain);
            if !loss.sum.is_finite() {
                return Err(EvaluateError::subject(
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
