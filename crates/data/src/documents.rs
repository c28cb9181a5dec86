//! Tokenizes the selected rows of all sources.

use std::collections::BTreeMap;

use crate::Result;
use crate::mix::Preparation;
use crate::pack::Document;
use crate::provenance::{Origin, SampledRow};
use crate::request::PrepareEvent;
use crate::routing;
use crate::row::Row;
use crate::source_manifest::Totals;
use crate::tokenize::{Outcome, tokenize};

/// The index of a source, one of its rows and the document made of it.
pub(crate) type TokenizedRow = (usize, SampledRow, Document);

impl Preparation<'_> {
    /// Tokenizes the training or held-out rows of all sources. Rows that give no document are counted as dropped.
    pub(crate) fn documents(&mut self, held_out: bool) -> Result<(Vec<TokenizedRow>, Vec<Totals>)> {
        let request = self.request;
        let mut rows: Vec<(usize, SampledRow)> = Vec::new();
        let mut totals = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            let prompt = source.plan.system_prompt.as_deref().or(request.system_prompt);
            let prompt = prompt.or(source.is_generated().then_some(routing::SYSTEM_PROMPT));
            let from = std::mem::take(if held_out {
                &mut source.held_out
            } else {
                &mut source.train
            });
            let has_special =
                |sampled: &&SampledRow| sampled.row.any_text(|text| request.chat.contains_special_tokens(text));
            totals.push(Totals {
                rows_taken: from.len() as u64,
                special_token_rows: from.iter().filter(has_special).count() as u64,
                ..Totals::default()
            });
            rows.extend(from.into_iter().map(|sampled| {
                let row = sampled.row.with_system_prompt(prompt);
                (index, SampledRow { row, ..sampled })
            }));
        }
        let total = rows.len();
        let report = |done| (self.progress)(PrepareEvent::Tokenized { done, total });
        let borrowed: Vec<&Row> = rows.iter().map(|(_, sampled)| &sampled.row).collect();
        let outcomes = tokenize(request.chat, &borrowed, request.train.loss_on, &report)?;
        let mut documents = Vec::with_capacity(total);
        let mut refusals: BTreeMap<usize, (u64, String)> = BTreeMap::new();
        for ((index, sampled), outcome) in rows.into_iter().zip(outcomes) {
            let reason = match outcome {
                Outcome::Document(document) => {
                    documents.push((index, sampled, document));
                    continue;
                }
                Outcome::NoTargets => "nothing_trained",
                Outcome::Refused(reason) => {
                    refusals.entry(index).or_insert((0, reason)).0 += 1;
                    "refused_by_template"
                }
            };
            let source = &mut self.sources[index];
            let place = Origin::describe(sampled.origin, source.files);
            source.collected.drop_row(reason, place);
        }
        for (index, (count, reason)) in refusals {
            let dataset = self.sources[index].plan.dataset.clone();
            self.warn(format!(
                "{dataset}: {count} rows cannot be rendered, the first because: {reason}"
            ));
        }
        Ok((documents, totals))
    }
}
