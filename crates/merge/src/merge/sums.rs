//! What a merge has come to so far: the report's sums, in the tensors' order whatever order they are done in, and how
//! far it is.

use std::collections::BTreeMap;

use super::MergeProgress;
use crate::engine::Outcome;
use crate::plan::TensorPlan;
use crate::report::{FORMAT, InputReport, Tally};
use crate::sink::Format;
use crate::{MergeReport, MergeRequest, Method};

/// The sums so far, in the tensors' order whatever order they came in, and progress.
pub(super) struct Sums<'a> {
    request: &'a MergeRequest,
    plans: &'a [TensorPlan],
    formats: &'a BTreeMap<String, Format>,
    merged: BTreeMap<usize, (Tally, crate::TensorReport)>,
    done: usize,
    bytes: u64,
    total_bytes: u64,
}

impl<'a> Sums<'a> {
    pub(super) fn new(
        request: &'a MergeRequest,
        plans: &'a [TensorPlan],
        formats: &'a BTreeMap<String, Format>,
    ) -> Self {
        let mut sums = Self {
            request,
            plans,
            formats,
            merged: BTreeMap::new(),
            done: 0,
            bytes: 0,
            total_bytes: 0,
        };
        sums.total_bytes = (0..plans.len()).map(|index| sums.size(index)).sum();
        sums
    }

    fn size(&self, index: usize) -> u64 {
        let plan = &self.plans[index];
        (plan.shape.iter().product::<usize>() * self.formats[&plan.name].dtype.size()) as u64
    }

    pub(super) fn add(&mut self, index: usize, outcome: Outcome, resumed: usize, progress: &dyn Fn(MergeProgress<'_>)) {
        if let Some(merged) = outcome.merged {
            self.merged.insert(index, merged);
        }
        self.done += 1;
        self.bytes += self.size(index);
        progress(MergeProgress {
            tensor: &self.plans[index].name,
            done: self.done,
            total: self.plans.len(),
            bytes: self.bytes,
            total_bytes: self.total_bytes,
            resumed,
        });
    }

    pub(super) fn report(self) -> MergeReport {
        let request = self.request;
        let mut totals = Tally::default();
        self.merged.values().for_each(|(tally, _)| totals.add(tally));
        let trims = request.method.sparsity().is_some();
        MergeReport {
            format: FORMAT,
            method: request.method.to_string(),
            sign: (request.method.elects() || request.method == Method::Ties).then(|| request.sign.to_string()),
            inputs: request
                .inputs()
                .map(|input| InputReport {
                    name: input.name.clone(),
                    weight: input.weight,
                    trim: trims.then(|| request.trim_of(&input.name).to_string()),
                })
                .collect(),
            totals: totals.totals(),
            copied: self.plans.len() - self.merged.len(),
            tensors: self.merged.into_values().map(|(_, report)| report).collect(),
        }
    }
}
