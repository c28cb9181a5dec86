//! The decoder's weights and how they are loaded.

use synapse_checkpoint::{GgufModel, ModelConfig, ModelFolder};
use synapse_kernels::{Precision, attention::Heads, rope};

use crate::{
    LoadOptions, NnError, WeightDtype,
    linear::{Linear, ReductionOrder},
    loss::LmHead,
    rotary::inverse_frequencies,
    tensor::Tensor,
    weights::{FolderSource, GgufSource, ParameterSource, QuantizedSource, RandomSource, WeightSource},
};

use super::decode_weights::DecodeWeights;

/// Slots of a layer's seven linears, in the order of [`ModelConfig::linear_modules`].
pub(crate) mod slot {
    pub(crate) const QUERY: usize = 0;
    pub(crate) const KEY: usize = 1;
    pub(crate) const VALUE: usize = 2;
    pub(crate) const OUTPUT: usize = 3;
    pub(crate) const GATE: usize = 4;
    pub(crate) const UP: usize = 5;
    pub(crate) const DOWN: usize = 6;
}

/// One decoder layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) post_norm: Tensor,
    pub(crate) linears: [Linear; 7],
    pub(crate) head_norms: Option<HeadNorms>,
    /// Whether queries and keys are rotated by their positions.
    pub(crate) is_rotated: bool,
}

/// Weights `[head_dim]` of the RMSNorm over each head of queries and keys, before their rotation.
#[derive(Debug, Clone)]
pub(crate) struct HeadNorms {
    pub(crate) query: Tensor,
    pub(crate) key: Tensor,
}

/// A decoder of the Llama family in memory.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: ModelConfig,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    /// `None` where the head is tied to the embedding.
    pub(crate) head: Option<Tensor>,
    pub(crate) rope: rope::Table,
    pub(crate) precision: Precision,
    /// The weights that generated tokens are multiplied with, if not those above.
    pub(crate) decode_weights: Option<DecodeWeights>,
}

impl Decoder {
    /// Loads a model folder.
    ///
    /// # Errors
    /// A missing or unreadable tensor.
    pub fn load(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, NnError> {
        if let Some(wanted) = options.dtype.ggml() {
            let mut source = QuantizedSource {
                folder,
                wanted,
                precision: options.precision,
            };
            return Self::assemble(folder.config(), options.precision, &mut source);
        }
        Self::assemble(
            folder.config(),
            options.precision,
            &mut FolderSource {
                folder,
                dtype: options.dtype,
                precision: options.precision,
            },
        )
    }

    /// Loads a model folder for inference: as [`Decoder::load`], and where the weights are NF4 and products may round,
    /// generated tokens are multiplied with packed 4-bit tiles instead.
    ///
    /// # Errors
    /// As [`Decoder::load`], and a linear whose number of inputs is not a multiple of 64.
    pub fn load_for_inference(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, NnError> {
        let mut decoder = Self::load(folder, options)?;
        if matches!(options.dtype, WeightDtype::Nf4 { .. }) && options.precision == Precision::Bf16 {
            let layers = decoder.layers.iter().map(|layer| &layer.linears);
            let head = decoder.head().matrix(&[]);
            let shape = [decoder.config.vocab_size, decoder.config.hidden_size];
            decoder.decode_weights = Some(DecodeWeights::new(layers, head, shape, decoder.precision)?);
        }
        Ok(decoder)
    }

    /// Loads a GGUF file for inference: Q4_0 and Q8_0 as they are, other types as bf16, or as f32 where products do
    /// not round.
    ///
    /// # Errors
    /// An unreadable tensor.
    pub fn load_gguf(model: &GgufModel, precision: Precision) -> Result<Self, NnError> {
        Self::assemble(model.config(), precision, &mut GgufSource { model, precision })
    }

    /// A decoder of this shape with random weights, of the configuration's `initializer_range`: for benchmarks and tests.
    ///
    /// # Errors
    /// A model without attention, or a storage that the shape does not allow.
    pub fn random(config: &ModelConfig, options: &LoadOptions) -> Result<Self, NnError> {
        Self::assemble(config, options.precision, &mut RandomSource::new(config, options))
    }

    /// A decoder whose weights all lie in one flat buffer, and the buffer's layout.
    pub(crate) fn parametric(config: &ModelConfig, precision: Precision) -> Result<(Self, ParameterSource), NnError> {
        let mut source = ParameterSource::default();
        let decoder = Self::assemble(config, precision, &mut source)?;
        Ok((decoder, source))
    }

    fn assemble(config: &ModelConfig, precision: Precision, source: &mut impl WeightSource) -> Result<Self, NnError> {
        if !config.has_attention() {
            return Err(NnError::Unsupported {
                what: "a model without attention as a Llama decoder".into(),
                hint: "load a model of the Llama family here, such as Llama or Qwen3".into(),
            });
        }
        let hidden = config.hidden_size;
        let embedding = source.matrix("model.embed_tokens.weight", [config.vocab_size, hidden], false)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(Self::layer(config, index, source)?);
        }
        let norm = source.vector("model.norm.weight", hidden)?;
        let head = if config.tie_word_embeddings {
            None
        } else {
            Some(source.matrix("lm_head.weight", [config.vocab_size, hidden], false)?)
        };
        let rope = rope::Table::new(&inverse_frequencies(config), config.max_position_embeddings);
        Ok(Self {
            config: config.clone(),
            embedding,
            layers,
            norm,
            head,
            rope,
            precision,
            decode_weights: None,
        })
    }

    fn layer(config: &ModelConfig, index: usize, source: &mut impl WeightSource) -> Result<Layer, NnError> {
        let prefix = format!("model.layers.{index}");
        let input_norm = source.vector(&format!("{prefix}.input_layernorm.weight"), config.hidden_size)?;
        let mut linears = Vec::with_capacity(7);
        for (module, output, input) in config.linear_modules() {
            let full_name = format!("{prefix}.{module}");
            let weight = source.matrix(&format!("{full_name}.weight"), [output, input], true)?;
            let bias = if config.has_bias(module) {
                Some(source.vector(&format!("{full_name}.bias"), output)?)
            } else {
                None
            };
            linears.push(Linear {
                weight,
                bias,
                input,
                output,
                module: full_name.into(),
            });
        }
        let mut head_norm = |name: &str| source.vector(&format!("{prefix}.self_attn.{name}.weight"), config.head_dim);
        let head_norms = match config.qk_norm {
            true => Some(HeadNorms {
                query: head_norm("q_norm")?,
                key: head_norm("k_norm")?,
            }),
            false => None,
        };
        let post_norm = source.vector(&format!("{prefix}.post_attention_layernorm.weight"), config.hidden_size)?;
        let linears = linears
            .try_into()
            .unwrap_or_else(|_| unreachable!("a layer has seven linears"));
        Ok(Layer {
            input_norm,
            post_norm,
            linears,
            head_norms,
            is_rotated: config.is_rotated(index),
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Bytes of frozen weights held.
    pub fn bytes(&self) -> usize {
        let layer = |layer: &Layer| layer.linears.iter().map(|linear| linear.weight.bytes()).sum::<usize>();
        self.embedding.bytes()
            + self.layers.iter().map(layer).sum::<usize>()
            + self.head.as_ref().map_or(0, Tensor::bytes)
            + self.decode_weights.as_ref().map_or(0, DecodeWeights::bytes)
    }

    /// The output head: its own matrix or the embedding.
    pub(crate) fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The heads of the attention.
    pub(crate) fn heads(&self) -> Heads {
        Heads {
            queries: self.config.num_attention_heads,
            keys: self.config.num_key_value_heads,
            dim: self.config.head_dim,
            precision: self.precision,
        }
    }

    /// The final norm and the output head as the loss goes over them.
    pub(crate) fn lm_head<'a>(&'a self, parameters: &'a [f32], order: ReductionOrder, chunk_rows: usize) -> LmHead<'a> {
        LmHead {
            norm: self.norm.vector(parameters),
            norm_gradient: self.norm.range(),
            weight: self.head().matrix(parameters),
            weight_gradient: self.head().range(),
            hidden: self.config.hidden_size,
            vocab: self.config.vocab_size,
            epsilon: self.config.rms_norm_eps as f32,
            precision: self.precision,
            storage: self.precision,
            order,
            chunk_rows,
        }
    }

    /// Looks tokens up: `[t, hidden]`.
    pub(crate) fn embed(&self, parameters: &[f32], tokens: &[u32], out: &mut [f32]) {
        let hidden = self.config.hidden_size;
        let matrix = self.embedding.matrix(parameters);
        synapse_kernels::for_each_row_block(out, hidden, |first, block| {
            for (row, &token) in block.chunks_exact_mut(hidden).zip(&tokens[first..]) {
                matrix.widen(token as usize * hidden, row);
            }
        });
    }

    /// Refuses token ids that the embedding has no row for.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), NnError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(NnError::TokenOutOfRange { id, vocab_size }),
            None => Ok(()),
        }
    }
}
