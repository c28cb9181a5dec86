//! Many merges of the same inputs with other numbers, made in memory: for those who look for the numbers.
//!
//! Inputs are opened and checked once. Which entries survive trimming depends on the trim alone, so it is found once a
//! trim; a merge that differs in λ and weights is then a single sweep. What comes out is, byte for byte, what
//! [`crate::merge`] would write. Nothing is written here, and which numbers to try is the caller's business.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use synapse_checkpoint::DType;

use crate::crew::merge_all;
use crate::engine::Engine;
use crate::inputs::Inputs;
use crate::memory::MemorySink;
use crate::merge::formats;
use crate::plan::{TensorPlan, plan};
use crate::sink::Format;
use crate::sparsify::Survivors;
use crate::{MergeError, MergeRequest, Result, Trim};

/// The numbers in which a merge differs from the request that it varies.
#[derive(Clone, Debug, PartialEq)]
pub struct Variation {
    /// Share of each change's entries set to zero; means nothing to a method that does not trim.
    pub trim: Trim,
    /// Factor on the merged change.
    pub lambda: f64,
    /// Weights of the request's adapters, in their order.
    pub weights: Vec<f64>,
}

/// A request held open.
#[derive(Debug)]
pub struct Variations {
    request: MergeRequest,
    inputs: Inputs,
    plans: Vec<TensorPlan>,
    formats: BTreeMap<String, Format>,
    selections: HashMap<Trim, Selections>,
}

/// What survives of every input, by tensor; filled as tensors are merged.
#[derive(Debug, Default)]
pub(crate) struct Selections(Mutex<BTreeMap<usize, Vec<Survivors>>>);

impl Selections {
    /// What is known of a tensor.
    pub(crate) fn get(&self, tensor: usize) -> Option<Vec<Survivors>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&tensor).cloned()
    }

    /// Remembers what was found of a tensor.
    pub(crate) fn put(&self, tensor: usize, survivors: &[Survivors]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(tensor, survivors.to_vec());
    }
}

impl Variations {
    /// Opens and checks everything a request names.
    ///
    /// # Errors
    /// [`MergeError::Request`] lists everything wrong with the request and its folders.
    pub fn open(request: &MergeRequest) -> Result<Self> {
        let inputs = Inputs::open(request)?;
        let plans = plan(request, inputs.base.config());
        Ok(Self {
            formats: formats(request, &inputs, &plans),
            request: request.clone(),
            inputs,
            plans,
            selections: HashMap::new(),
        })
    }

    /// Makes one merge and hands over every tensor that some input changes, in whatever order they are done: its name,
    /// its dtype, and its little-endian bytes. All other tensors are the base's.
    ///
    /// # Errors
    /// The number of weights is not that of the adapters, an input cannot be read or holds what is not finite, or a
    /// value does not fit the output's dtype.
    pub fn make(&mut self, variation: &Variation, mut take: impl FnMut(&str, DType, &[u8])) -> Result<()> {
        let request = &mut self.request;
        if variation.weights.len() != request.adapters.len() {
            return Err(MergeError::request(format!(
                "{} weights for {} adapters",
                variation.weights.len(),
                request.adapters.len()
            )));
        }
        (request.trim, request.lambda) = (variation.trim, variation.lambda);
        for (adapter, &weight) in request.adapters.iter_mut().zip(&variation.weights) {
            adapter.weight = weight;
        }
        let mut engine = Engine::new(&self.request, &self.inputs, &self.plans)?;
        engine.selections = Some(self.selections.entry(variation.trim).or_default());
        let indices: Vec<usize> = (0..self.plans.len())
            .filter(|&index| !engine.touching(&self.plans[index]).is_empty())
            .collect();
        let names = indices.iter().map(|&index| self.plans[index].name.as_str());
        let sink = MemorySink::new(&self.formats, names);
        merge_all(&engine, &indices, &sink, |index, _| {
            let name = &self.plans[index].name;
            if let Some((dtype, bytes)) = sink.take(name) {
                take(name, dtype, &bytes);
            }
        })
    }
}
