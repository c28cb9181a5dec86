//! The report of a merge in progress. Tensors may be finished in any order; sums are taken in the plan's order.

use std::collections::BTreeMap;

use super::job::{MergeJob, MergeProgress, OnProgress};
use crate::combine::Accumulators;
use crate::report::{FORMAT, InputReport, TensorReport, Totals};
use crate::tensor_merger::TensorResult;
use crate::{MergeReport, Method};

/// The tensors finished so far, and the progress they make.
pub(super) struct ReportBuilder<'a> {
    job: MergeJob<'a>,
    merged: BTreeMap<usize, (Accumulators, TensorReport)>,
    done: usize,
    bytes: u64,
    total_bytes: u64,
}

impl<'a> ReportBuilder<'a> {
    pub(super) fn new(job: &MergeJob<'a>) -> Self {
        let mut builder = Self {
            job: *job,
            merged: BTreeMap::new(),
            done: 0,
            bytes: 0,
            total_bytes: 0,
        };
        builder.total_bytes = (0..job.plans.len()).map(|index| builder.size(index)).sum();
        builder
    }

    fn size(&self, index: usize) -> u64 {
        let plan = &self.job.plans[index];
        (plan.shape.iter().product::<usize>() * self.job.formats[&plan.name].dtype.size()) as u64
    }

    pub(super) fn add(&mut self, index: usize, result: TensorResult, resumed: usize, progress: OnProgress<'_>) {
        if let Some(merged) = result.merged {
            self.merged.insert(index, merged);
        }
        self.done += 1;
        self.bytes += self.size(index);
        progress(MergeProgress {
            tensor: &self.job.plans[index].name,
            done: self.done,
            total: self.job.plans.len(),
            bytes: self.bytes,
            total_bytes: self.total_bytes,
            resumed,
        });
    }

    pub(super) fn build(self) -> MergeReport {
        let request = self.job.request;
        let mut totals = Accumulators::default();
        self.merged
            .values()
            .for_each(|(accumulators, _)| totals.add(accumulators));
        let trims = request.method.sparsity().is_some();
        MergeReport {
            format: FORMAT,
            method: request.method.to_string(),
            sign: (request.method.elects_signs() || request.method == Method::Ties)
                .then(|| request.ties.sign.to_string()),
            inputs: request
                .inputs()
                .map(|input| InputReport::new(request, input, trims))
                .collect(),
            totals: Totals::from(&totals),
            copied: self.job.plans.len() - self.merged.len(),
            tensors: self.merged.into_values().map(|(_, report)| report).collect(),
        }
    }
}
