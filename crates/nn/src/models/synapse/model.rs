//! A whole model: embedding, layers, norm and head over one flat buffer of weights. This holds the
//! shapes and offsets; the caller owns the values, in training as in inference.

use std::ops::Range;

use crate::{
    MicroBatch, NnError, Parameter, adapter_source::AdapterSource, linear::ReductionOrder, training::read_parameters,
};
use synapse_checkpoint::{ModelConfig, ModelFolder, SynapseConfig};
use synapse_kernels::Precision;

use super::{
    layer::Layer,
    layout::Layout,
    linear::{Linear, Weights},
};

/// A Synapse model without its weights' values.
#[derive(Debug, Clone)]
pub struct SynapseModel {
    pub(crate) config: ModelConfig,
    pub(crate) modules: SynapseConfig,
    pub(crate) layers: Vec<Layer>,
    pub(crate) embedding: Range<usize>,
    pub(crate) norm: Range<usize>,
    pub(crate) head: Linear,
    pub(crate) precision: Precision,
    layout: Layout,
}

impl SynapseModel {
    /// The model that a configuration describes.
    ///
    /// # Errors
    /// The configuration is of another architecture.
    pub fn new(config: &ModelConfig, precision: Precision) -> Result<Self, NnError> {
        let Some(modules) = config.synapse.clone() else {
            return Err(NnError::Unsupported {
                what: format!("{} as a Synapse model", config.architecture.class_name()),
                hint: "load a folder whose config.json has `model_type: synapse`".into(),
            });
        };
        let layout = Layout::new(config);
        let embedding = layout.range("model.embed_tokens.weight");
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            layout.range("lm_head.weight")
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(&layout, index, config, &modules))
            .collect();
        Ok(Self {
            config: config.clone(),
            modules,
            layers,
            embedding,
            norm: layout.range("model.norm.weight"),
            head: Linear::over(head, config.hidden_size, config.vocab_size),
            precision,
            layout,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tensors in the order they lie in the flat buffer.
    pub fn layout(&self) -> &[Parameter] {
        &self.layout.parameters
    }

    /// Length of the flat buffer.
    pub fn parameters(&self) -> usize {
        self.layout.len()
    }

    /// Random initial values; the same seed gives the same values.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        self.layout.initial(&self.config, &self.modules, seed)
    }

    /// A folder's values.
    ///
    /// # Errors
    /// An unreadable tensor.
    pub fn read(&self, folder: &ModelFolder) -> Result<Vec<f32>, NnError> {
        read_parameters(folder, self.layout())
    }

    /// Values of one sequence's recurrent state, all layers; independent of its length.
    pub fn state_len(&self) -> usize {
        self.layers.iter().map(Layer::state_len).sum()
    }

    /// The names of what the router chooses among, in the order of its logits.
    pub fn choice_names(&self) -> Vec<String> {
        let experts = (0..self.modules.num_experts).map(|expert| format!("expert {expert}"));
        match self.modules.routing {
            synapse_checkpoint::RoutingMode::Dispatch => std::iter::once("language".to_owned())
                .chain(experts)
                .chain(std::iter::once("memory".to_owned()))
                .collect(),
            synapse_checkpoint::RoutingMode::Sequential => experts.collect(),
        }
    }

    pub(crate) fn weights<'a>(
        &self,
        values: &'a [f32],
        order: ReductionOrder,
        adapter: Option<AdapterSource<'a>>,
    ) -> Weights<'a> {
        Weights {
            values,
            precision: self.precision,
            order,
            adapter,
        }
    }

    /// Looks tokens up: `[t, hidden]`.
    pub(crate) fn embed(&self, values: &[f32], tokens: &[u32]) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let table = &values[self.embedding.clone()];
        let mut x = Vec::with_capacity(tokens.len() * hidden);
        for &token in tokens {
            let start = token as usize * hidden;
            x.extend_from_slice(&table[start..start + hidden]);
        }
        x
    }

    /// Refuses tokens outside the vocabulary, and documents longer than the context.
    pub(crate) fn check(&self, batch: &MicroBatch) -> Result<(), NnError> {
        self.check_tokens(&batch.tokens)?;
        let limit = self.config.max_position_embeddings;
        match batch.lengths.iter().find(|&&length| length > limit) {
            Some(&positions) => Err(NnError::ContextOverflow { positions, limit }),
            None => Ok(()),
        }
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), NnError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(NnError::TokenOutOfRange { id, vocab_size }),
            None => Ok(()),
        }
    }
}
