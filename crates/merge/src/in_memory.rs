//! Many merges of the same inputs in memory, with different trims, λ and weights: what a search for the best ones needs.
//!
//! Inputs are opened and checked once. The masks depend on the trim alone and are found once per trim, so a merge that
//! differs in λ and weights takes a single sweep. The results are, byte for byte, those that [`crate::merge`] writes.
//! What this is not: the search itself, which decides what to try.

use std::collections::{BTreeMap, HashMap};

use synapse_checkpoint::DType;

use crate::inputs::Inputs;
use crate::mask_cache::MaskCache;
use crate::memory::MemorySink;
use crate::parallel::merge_all;
use crate::plan::{TensorPlan, plan};
use crate::sink::{Format, formats};
use crate::tensor_merger::TensorMerger;
use crate::{MergeError, MergeRequest, Result, Trim};

/// The numbers in which one merge differs from the request.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeCandidate {
    /// Share of each change's entries set to zero; ignored by methods that do not trim.
    pub trim: Trim,
    /// Factor on the merged change.
    pub lambda: f64,
    /// Weights of the request's adapters, in their order.
    pub weights: Vec<f64>,
}

/// A request with its inputs open.
#[derive(Debug)]
pub struct InMemoryMerger {
    request: MergeRequest,
    inputs: Inputs,
    plans: Vec<TensorPlan>,
    formats: BTreeMap<String, Format>,
    mask_caches: HashMap<Trim, MaskCache>,
}

impl InMemoryMerger {
    /// Opens and checks everything a request names.
    ///
    /// # Errors
    /// [`MergeError::Request`] lists everything wrong with the request and its folders.
    pub fn open(request: &MergeRequest) -> Result<Self> {
        let inputs = Inputs::open(request)?;
        let plans = plan(request, &inputs.config);
        Ok(Self {
            formats: formats(request, &inputs, &plans),
            request: request.clone(),
            inputs,
            plans,
            mask_caches: HashMap::new(),
        })
    }

    /// Merges, and passes every tensor that some input changes to `take`, in any order: its name, its dtype, and its
    /// little-endian bytes. All other tensors are the base's.
    ///
    /// # Errors
    /// The number of weights differs from that of the adapters, an input cannot be read or is not finite, or a value does
    /// not fit the output's dtype.
    pub fn merge(&mut self, candidate: &MergeCandidate, mut take: impl FnMut(&str, DType, &[u8])) -> Result<()> {
        let request = &mut self.request;
        if candidate.weights.len() != request.adapters.len() {
            return Err(MergeError::request(format!(
                "{} weights for {} adapters",
                candidate.weights.len(),
                request.adapters.len()
            )));
        }
        (request.trim, request.lambda) = (candidate.trim, candidate.lambda);
        for (adapter, &weight) in request.adapters.iter_mut().zip(&candidate.weights) {
            adapter.weight = weight;
        }
        let cache = self.mask_caches.entry(candidate.trim).or_default();
        let tensor_merger = TensorMerger::new(&self.request, &self.inputs, &self.plans)?.with_mask_cache(cache);
        let indices: Vec<usize> = (0..self.plans.len())
            .filter(|&index| !tensor_merger.source.tensors[index].inputs.is_empty())
            .collect();
        let names = indices.iter().map(|&index| self.plans[index].name.as_str());
        let sink = MemorySink::new(&self.formats, names);
        merge_all(&tensor_merger, &indices, &sink, |index, _| {
            let name = &self.plans[index].name;
            if let Some((dtype, bytes)) = sink.take(name) {
                take(name, dtype, &bytes);
            }
        })
    }
}
