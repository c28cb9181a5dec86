//! Inference with a recurrent state of a fixed size per sequence.
//!
//! Cells run token by token here, and products are batch-invariant, so a sequence gets the same bits alone or in a batch,
//! and for its prompt in one chunk or in several.

use crate::{
    Adapter, CausalLm, KvCache, LanguageModel, LayerTrace, LogitsFor, MicroBatch, ModuleTrace, NnError, Phase,
    Sequence, adapter_source::AdapterSource, linear::ReductionOrder,
};
use synapse_checkpoint::{DType, ModelFolder};
use synapse_kernels::{Precision, norm};

use super::{linear::Weights, model::SynapseModel};

/// A Synapse model with its weights, ready for inference.
#[derive(Debug, Clone)]
pub struct SynapseCausalLm {
    model: SynapseModel,
    values: Vec<f32>,
}

impl SynapseCausalLm {
    /// Loads a model folder.
    ///
    /// # Errors
    /// A folder of another architecture, or an unreadable tensor.
    pub fn load(folder: &ModelFolder, precision: Precision) -> Result<Self, NnError> {
        let model = SynapseModel::new(folder.config(), precision)?;
        let values = model.read(folder)?;
        Ok(Self { model, values })
    }

    /// A model from values in memory.
    ///
    /// # Panics
    /// If the number of values is not that of the model's parameters.
    pub fn new(model: SynapseModel, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), model.parameters(), "one value for every parameter");
        Self { model, values }
    }

    /// The model without its values.
    pub fn model(&self) -> &SynapseModel {
        &self.model
    }

    /// The flat buffer.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The hidden states `[t, hidden]` after the last layer.
    fn layers(
        &self,
        tokens: &[u32],
        lengths: &[usize],
        mut states: Vec<&mut [f32]>,
        weights: Weights<'_>,
        mut traces: Option<&mut Vec<LayerTrace>>,
    ) -> Vec<f32> {
        let mut x = self.model.embed(&self.values, tokens);
        for layer in &self.model.layers {
            let mut own = Vec::with_capacity(states.len());
            states = states
                .into_iter()
                .map(|state| {
                    let (first, rest) = state.split_at_mut(layer.state_len());
                    own.push(first);
                    rest
                })
                .collect();
            let (y, saved) = layer.forward(weights, &x, lengths, Some(own));
            if let Some(traces) = &mut traces {
                traces.push(layer.trace(&saved));
            }
            x = y;
        }
        x
    }
}

impl CausalLm for SynapseCausalLm {
    fn vocab_size(&self) -> usize {
        self.model.config.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.model.config.hidden_size
    }

    fn max_positions(&self) -> usize {
        self.model.config.max_position_embeddings
    }

    fn modules(&self) -> Vec<String> {
        self.model.choice_names()
    }

    fn trace(&self, tokens: &[u32], adapter: Option<&Adapter>) -> Result<Option<ModuleTrace>, NnError> {
        self.model.check_tokens(tokens)?;
        let mut state = vec![0.0; self.model.state_len()];
        let mut layers = Vec::with_capacity(self.model.layers.len());
        self.layers(
            tokens,
            &[tokens.len()],
            vec![&mut state],
            self.model
                .weights(&self.values, ReductionOrder::Panels, adapter.map(AdapterSource::Loaded)),
            Some(&mut layers),
        );
        Ok(Some(ModuleTrace {
            modules: self.model.choice_names(),
            layers,
        }))
    }

    fn new_cache(&self) -> KvCache {
        KvCache::recurrent(self.model.state_len())
    }

    fn forward(&self, batch: &mut [Sequence<'_>]) -> Result<Vec<Vec<f32>>, NnError> {
        for sequence in batch.iter() {
            self.model.check_tokens(sequence.tokens)?;
            let (positions, limit) = (sequence.cache.len() + sequence.tokens.len(), self.max_positions());
            if positions > limit {
                return Err(NnError::ContextOverflow { positions, limit });
            }
        }
        let mut outputs = vec![Vec::new(); batch.len()];
        for group in groups(batch) {
            let (phase, adapter) = (batch[group[0]].phase, batch[group[0]].adapter);
            let order = match phase {
                Phase::Prefill => ReductionOrder::Panels,
                Phase::Decode => ReductionOrder::DotProducts,
            };
            let weights = self
                .model
                .weights(&self.values, order, adapter.map(AdapterSource::Loaded));
            let (mut tokens, mut lengths, mut states, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (_, sequence) in batch.iter_mut().enumerate().filter(|(place, _)| group.contains(place)) {
                tokens.extend_from_slice(sequence.tokens);
                lengths.push(sequence.tokens.len());
                wanted.push(sequence.logits);
                sequence.cache.advance(sequence.tokens.len());
                states.push(sequence.cache.state_mut());
            }
            let x = self.layers(&tokens, &lengths, states, weights, None);
            self.outputs(&x, &lengths, &wanted, order, |index, output| {
                outputs[group[index]] = output;
            });
        }
        Ok(outputs)
    }
}

/// Groups of sequences with the same phase and adapter. A group does not affect the bits of another.
fn groups(batch: &[Sequence<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (place, sequence) in batch.iter().enumerate() {
        let same = |other: &Sequence<'_>| {
            other.phase == sequence.phase
                && match (other.adapter, sequence.adapter) {
                    (None, None) => true,
                    (Some(one), Some(other)) => std::ptr::eq(one, other),
                    _ => false,
                }
        };
        match groups.iter_mut().find(|group| same(&batch[group[0]])) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

impl LanguageModel for SynapseCausalLm {
    fn document_losses(&self, batch: &MicroBatch, adapter: Option<&Adapter>) -> Result<Vec<(f64, usize)>, NnError> {
        let weights = self.model.weights(
            &self.values,
            ReductionOrder::Fastest,
            adapter.map(AdapterSource::Loaded),
        );
        self.model.losses_under(weights, batch)
    }

    fn set_tensor(&mut self, name: &str, dtype: DType, bytes: &[u8]) -> Result<(), NnError> {
        let refused = |hint: String| NnError::Unsupported {
            what: format!("replacing {name} by {} bytes of {dtype}", bytes.len()),
            hint,
        };
        let parameter = self.model.layout().iter().find(|parameter| parameter.name == name);
        let Some(range) = parameter.map(|parameter| parameter.range.clone()) else {
            return Err(refused("this model has no such tensor".into()));
        };
        let mut values = Vec::with_capacity(range.len());
        dtype.extend_f32(bytes, &mut values);
        if values.len() != range.len() {
            return Err(refused(format!("it has {} elements of F32, F16 or BF16", range.len())));
        }
        self.values[range].copy_from_slice(&values);
        Ok(())
    }
}

impl SynapseCausalLm {
    /// The requested output of each sequence, from the hidden states `[t, hidden]`.
    fn outputs(
        &self,
        x: &[f32],
        lengths: &[usize],
        wanted: &[LogitsFor],
        order: ReductionOrder,
        mut give: impl FnMut(usize, Vec<f32>),
    ) {
        let weights = self.model.weights(&self.values, order, None);
        let (hidden, epsilon) = (self.model.config.hidden_size, self.model.config.rms_norm_eps as f32);
        let mut start = 0;
        let mut rows = Vec::new();
        let mut counts = Vec::with_capacity(lengths.len());
        for (&length, &wanted) in lengths.iter().zip(wanted) {
            let from = match wanted {
                LogitsFor::None => length,
                LogitsFor::Last => length - 1,
                LogitsFor::All | LogitsFor::HiddenSum => 0,
            };
            rows.extend_from_slice(&x[(start + from) * hidden..(start + length) * hidden]);
            counts.push(length - from);
            start += length;
        }
        let (mut normed, mut inverse) = (vec![0.0; rows.len()], vec![0.0; rows.len() / hidden]);
        norm::forward(&rows, weights.of(&self.model.norm), epsilon, &mut normed, &mut inverse);
        let mut at = 0;
        let (mut logit_rows, mut takers) = (Vec::new(), Vec::new());
        for (index, (&count, &wanted)) in counts.iter().zip(wanted).enumerate() {
            let own = &normed[at * hidden..(at + count) * hidden];
            at += count;
            if wanted == LogitsFor::HiddenSum {
                // first to last in f64, so that it depends on these rows alone
                let mut sum = vec![0.0f64; hidden];
                for row in own.chunks_exact(hidden) {
                    sum.iter_mut()
                        .zip(row)
                        .for_each(|(sum, &value)| *sum += f64::from(value));
                }
                give(index, sum.into_iter().map(|sum| sum as f32).collect());
            } else if count > 0 {
                logit_rows.extend_from_slice(own);
                takers.push((index, count));
            }
        }
        let logits = self.model.head.forward(weights, &logit_rows);
        let vocab = self.model.config.vocab_size;
        let mut at = 0;
        for (index, count) in takers {
            give(index, logits[at * vocab..(at + count) * vocab].to_vec());
            at += count;
        }
    }
}
