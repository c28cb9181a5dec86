//! The decoder's weights and how they are loaded.

use std::ops::Range;

use half::bf16;
use synapse_checkpoint::{GgufModel, ModelConfig, ModelFolder, gguf::TensorType};
use synapse_kernels::{Nf4Matrix, Precision, random::Stream, rope};

use crate::{
    NnError,
    generation::Generation,
    linear::Linear,
    stored::{self, GgufSource, QuantizedSource},
    tensor::Tensor,
};

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

/// Storage of the linears' weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDtype {
    /// f32, and f32 arithmetic.
    F32,
    /// bf16.
    Bf16,
    /// 4-bit NormalFloat in blocks of 64; embeddings, head and norms stay in bf16 or f32.
    Nf4 {
        /// Whether the blocks' scales are quantized to 8 bits too.
        double_quant: bool,
    },
    /// ggml's Q4_0, as an export to GGUF quantizes: 4 bits, the output head (or the embedding it is tied to) 8.
    Q4_0,
    /// ggml's Q8_0: 8 bits, the embedding too.
    Q8_0,
}

impl WeightDtype {
    /// ggml's type, of a storage that is ggml's.
    fn ggml(self) -> Option<TensorType> {
        match self {
            Self::Q4_0 => Some(TensorType::Q4_0),
            Self::Q8_0 => Some(TensorType::Q8_0),
            Self::F32 | Self::Bf16 | Self::Nf4 { .. } => None,
        }
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Storage of the weights.
    pub dtype: WeightDtype,
    /// Rounding of the factors of matrix products.
    pub precision: Precision,
}

impl LoadOptions {
    /// f32 throughout, for parity with reference implementations.
    pub const EXACT: Self = Self {
        dtype: WeightDtype::F32,
        precision: Precision::F32,
    };
    /// bf16 storage and products.
    pub const BF16: Self = Self {
        dtype: WeightDtype::Bf16,
        precision: Precision::Bf16,
    };
}

/// One decoder layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) post_norm: Tensor,
    pub(crate) linears: [Linear; 7],
}

/// A Llama or Qwen2 decoder in memory.
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
    /// What generated tokens are multiplied with, where that is not the weights above.
    pub(crate) generation: Option<Generation>,
}

/// Gives a decoder its tensors by name.
pub(crate) trait Source {
    fn matrix(&mut self, name: &str, shape: [usize; 2], linear: bool) -> Result<Tensor, NnError>;
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError>;
}

struct FolderSource<'a> {
    folder: &'a ModelFolder,
    dtype: WeightDtype,
    precision: Precision,
}

impl Source for FolderSource<'_> {
    fn matrix(&mut self, name: &str, [rows, cols]: [usize; 2], linear: bool) -> Result<Tensor, NnError> {
        Ok(match self.dtype {
            WeightDtype::F32 => Tensor::F32(self.folder.read_f32(name)?),
            // f32 arithmetic asks for the embedding as it is stored
            WeightDtype::Nf4 { .. } if !linear && self.precision == Precision::F32 => {
                Tensor::F32(self.folder.read_f32(name)?)
            }
            WeightDtype::Nf4 { double_quant } if linear => Tensor::Nf4(Nf4Matrix::quantize(
                &self.folder.read_f32(name)?,
                rows,
                cols,
                double_quant,
            )),
            _ => Tensor::Bf16(self.folder.read_bf16(name)?),
        })
    }

    fn vector(&mut self, name: &str, _len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(self.folder.read_f32(name)?))
    }
}

/// Random weights, a stream a tensor.
struct RandomSource {
    options: LoadOptions,
    spread: f32,
    next: u64,
}

impl RandomSource {
    fn values(&mut self, len: usize) -> Vec<f32> {
        let stream = Stream::new(&[self.next]);
        self.next += 1;
        let mut values = vec![0.0f32; len];
        synapse_kernels::for_each_chunk(&mut values, |first, block| {
            for (offset, value) in block.iter_mut().enumerate() {
                *value = self.spread * (2.0 * stream.uniform((first + offset) as u64) - 1.0);
            }
        });
        values
    }
}

impl Source for RandomSource {
    fn matrix(&mut self, name: &str, [rows, cols]: [usize; 2], linear: bool) -> Result<Tensor, NnError> {
        let values = self.values(rows * cols);
        if let Some(tensor_type) = self.options.dtype.ggml() {
            let shape = (name, [rows, cols]);
            return stored::quantized(tensor_type, shape, self.options.precision, |piece, target| {
                target.clear();
                target.extend_from_slice(&values[piece.start * cols..piece.end * cols]);
                Ok(())
            });
        }
        Ok(match self.options.dtype {
            WeightDtype::F32 => Tensor::F32(values),
            WeightDtype::Nf4 { .. } if !linear && self.options.precision == Precision::F32 => Tensor::F32(values),
            WeightDtype::Nf4 { double_quant } if linear => {
                Tensor::Nf4(Nf4Matrix::quantize(&values, rows, cols, double_quant))
            }
            _ => Tensor::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(if name.ends_with("norm.weight") {
            vec![1.0; len]
        } else {
            self.values(len)
        }))
    }
}

/// All weights in one flat buffer of trainable parameters; the offsets follow the order of the calls.
#[derive(Default)]
pub(crate) struct ParameterSource {
    pub(crate) entries: Vec<(String, Vec<usize>, Range<usize>)>,
    next: usize,
}

impl ParameterSource {
    fn place(&mut self, name: &str, shape: Vec<usize>) -> Tensor {
        let range = self.next..self.next + shape.iter().product::<usize>();
        self.next = range.end;
        self.entries.push((name.to_owned(), shape, range.clone()));
        Tensor::Parameter(range)
    }
}

impl Source for ParameterSource {
    fn matrix(&mut self, name: &str, shape: [usize; 2], _linear: bool) -> Result<Tensor, NnError> {
        Ok(self.place(name, shape.to_vec()))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError> {
        Ok(self.place(name, vec![len]))
    }
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

    /// Loads a GGUF file to generate with: Q4_0 and Q8_0 as they are, other types as bf16, or as f32 where products do
    /// not round.
    ///
    /// # Errors
    /// An unreadable tensor.
    pub fn load_gguf(model: &GgufModel, precision: Precision) -> Result<Self, NnError> {
        Self::assemble(model.config(), precision, &mut GgufSource { model, precision })
    }

    /// Random weights of the standard deviation that the configuration starts from.
    pub(crate) fn random(config: &ModelConfig, options: &LoadOptions) -> Result<Self, NnError> {
        let mut source = RandomSource {
            options: *options,
            // a uniform value of this spread has that deviation
            spread: config.initializer_range as f32 * 3.0f32.sqrt(),
            next: 0,
        };
        Self::assemble(config, options.precision, &mut source)
    }

    /// A decoder whose weights all lie in one flat buffer, and the buffer's layout.
    pub(crate) fn parametric(config: &ModelConfig, precision: Precision) -> Result<(Self, ParameterSource), NnError> {
        let mut source = ParameterSource::default();
        let decoder = Self::assemble(config, precision, &mut source)?;
        Ok((decoder, source))
    }

    fn assemble(config: &ModelConfig, precision: Precision, source: &mut impl Source) -> Result<Self, NnError> {
        if !config.has_attention() {
            return Err(NnError::Unsupported {
                what: "a Synapse model in the place of a decoder with attention".into(),
                hint: "this works on Llama and Qwen2 models".into(),
            });
        }
        let hidden = config.hidden_size;
        let embedding = source.matrix("model.embed_tokens.weight", [config.vocab_size, hidden], false)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(Self::layer(config, &format!("model.layers.{index}"), source)?);
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
            generation: None,
        })
    }

    fn layer(config: &ModelConfig, prefix: &str, source: &mut impl Source) -> Result<Layer, NnError> {
        let input_norm = source.vector(&format!("{prefix}.input_layernorm.weight"), config.hidden_size)?;
        let mut linears = Vec::with_capacity(7);
        for (module, output, input) in config.linear_modules() {
            let weight = source.matrix(&format!("{prefix}.{module}.weight"), [output, input], true)?;
            let bias = if config.has_bias(module) {
                Some(source.vector(&format!("{prefix}.{module}.bias"), output)?)
            } else {
                None
            };
            linears.push(Linear {
                weight,
                bias,
                input,
                output,
            });
        }
        let post_norm = source.vector(&format!("{prefix}.post_attention_layernorm.weight"), config.hidden_size)?;
        let linears = linears
            .try_into()
            .unwrap_or_else(|_| unreachable!("a layer has seven linears"));
        Ok(Layer {
            input_norm,
            post_norm,
            linears,
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
            + self.generation.as_ref().map_or(0, Generation::bytes)
    }

    /// The output head: its own matrix or the embedding.
    pub(crate) fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
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

/// `1 / θ^(2i/d)`, divided as Llama 3's frequency scaling says where the model asks for it.
fn inverse_frequencies(config: &ModelConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let divisors = config.rope_scaling.as_ref().map_or_else(
        || vec![1.0; half],
        |scaling| scaling.divisors(config.head_dim, config.rope_theta),
    );
    let frequency = |pair: usize| 1.0 / config.rope_theta.powf((2 * pair) as f64 / config.head_dim as f64);
    divisors
        .into_iter()
        .enumerate()
        .map(|(pair, divisor)| (frequency(pair) / divisor) as f32)
        .collect()
}
