//! The weights that generated tokens are multiplied with when a model is served in few bits: tiles of 4 and 8 bits.
//!
//! A prompt's tokens share a weight's read and are bound by arithmetic, so they keep the stored weights and bf16
//! products; a generated token is bound by bytes. The head is in 8 bits here, whatever its storage.

use synapse_checkpoint::ModelFolder;
use synapse_kernels::{Nf4Matrix, Precision, tiled::Tiled};

use crate::{Decoder, LoadOptions, NnError, WeightDtype, decoder::Layer, linear::Linear, tensor::Tensor};

/// All tiles of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    /// In the order of the layers' linears.
    pub(crate) layers: Vec<[Tiled; 7]>,
    pub(crate) head: Tiled,
}

/// Bits of the linears' weights for generated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationBits {
    /// NF4's sixteen levels in blocks of 64, half a byte a weight.
    Four,
    /// 127 steps in blocks of 64, a byte a weight.
    Eight,
}

impl Generation {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(Tiled::bytes).sum::<usize>() + self.head.bytes()
    }
}

impl Decoder {
    /// Loads a model folder to generate with: as [`Decoder::load`], and where the weights are NF4 and products may
    /// round, generated tokens are multiplied with them in tiles.
    ///
    /// # Errors
    /// As [`Decoder::load`] and [`Decoder::quantize_generation`].
    pub fn load_to_generate(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, NnError> {
        let mut decoder = Self::load(folder, options)?;
        if matches!(options.dtype, WeightDtype::Nf4 { .. }) && options.precision == Precision::Bf16 {
            decoder.quantize_generation(GenerationBits::Four)?;
        }
        Ok(decoder)
    }

    /// Adds what generated tokens are multiplied with: weights in 4 or 8 bits and activations in 8.
    ///
    /// # Errors
    /// A linear whose inputs are no multiple of 64.
    pub fn quantize_generation(&mut self, bits: GenerationBits) -> Result<(), NnError> {
        let tile = |linear: &Linear| {
            fits(linear.input)?;
            Ok(match (bits, &linear.weight) {
                (GenerationBits::Four, Tensor::Nf4(weight)) => Tiled::from_nf4(weight),
                (GenerationBits::Four, weight) => {
                    let mut dense = vec![0.0; linear.output * linear.input];
                    weight.matrix(&[]).widen(0, &mut dense);
                    Tiled::from_nf4(&Nf4Matrix::quantize(&dense, linear.output, linear.input, false))
                }
                (GenerationBits::Eight, weight) => Tiled::quantize8(weight.matrix(&[]), linear.output, linear.input),
            })
        };
        let layer = |layer: &Layer| -> Result<[Tiled; 7], NnError> {
            let tiles = layer.linears.iter().map(tile).collect::<Result<Vec<_>, NnError>>()?;
            Ok(tiles
                .try_into()
                .unwrap_or_else(|_| unreachable!("a layer has seven linears")))
        };
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        fits(hidden)?;
        self.generation = Some(Generation {
            layers: self.layers.iter().map(layer).collect::<Result<_, _>>()?,
            head: Tiled::quantize8(self.head().matrix(&[]), vocab, hidden),
        });
        Ok(())
    }
}

fn fits(inputs: usize) -> Result<(), NnError> {
    if Tiled::fits(inputs) {
        return Ok(());
    }
    Err(NnError::Unsupported {
        what: format!("a linear of {inputs} inputs in 4 or 8 bits, which come in blocks of 64"),
        hint: "serve this model without --quant".into(),
    })
}
