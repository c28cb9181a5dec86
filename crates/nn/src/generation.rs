//! What generated tokens are multiplied with when a model is held in NF4: linears in tiles of 4 bits, head in 8.
//!
//! A prompt's tokens share a weight's read and are bound by arithmetic, so they keep the stored weights and bf16
//! products; a generated token is bound by bytes.

use synapse_checkpoint::ModelFolder;
use synapse_kernels::{Precision, tiled::Tiled};

use crate::{Decoder, LoadOptions, NnError, WeightDtype, decoder::Layer, linear::Linear, tensor::Tensor};

/// All tiles of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    /// In the order of the layers' linears.
    pub(crate) layers: Vec<[Tiled; 7]>,
    pub(crate) head: Tiled,
}

impl Generation {
    /// The tiles of a decoder with NF4 linears.
    fn of(decoder: &Decoder) -> Result<Self, NnError> {
        let tile = |linear: &Linear| match &linear.weight {
            Tensor::Nf4(weight) => fits(linear.input).map(|()| Tiled::from_nf4(weight)),
            _ => unreachable!("the linears were loaded in NF4"),
        };
        let layer = |layer: &Layer| -> Result<[Tiled; 7], NnError> {
            let tiles = layer.linears.iter().map(tile).collect::<Result<Vec<_>, NnError>>()?;
            Ok(tiles
                .try_into()
                .unwrap_or_else(|_| unreachable!("a layer has seven linears")))
        };
        let (vocab, hidden) = (decoder.config.vocab_size, decoder.config.hidden_size);
        fits(hidden)?;
        Ok(Self {
            layers: decoder.layers.iter().map(layer).collect::<Result<_, _>>()?,
            head: Tiled::quantize8(decoder.head().matrix(&[]), vocab, hidden),
        })
    }

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
    /// As [`Decoder::load`], and a linear whose inputs are no multiple of 64.
    pub fn load_to_generate(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, NnError> {
        let mut decoder = Self::load(folder, options)?;
        if matches!(options.dtype, WeightDtype::Nf4 { .. }) && options.precision == Precision::Bf16 {
            decoder.generation = Some(Generation::of(&decoder)?);
        }
        Ok(decoder)
    }
}

fn fits(inputs: usize) -> Result<(), NnError> {
    if Tiled::fits(inputs) {
        return Ok(());
    }
    Err(NnError::Unsupported {
        what: format!("a linear of {inputs} inputs in tiles, which are blocks of 64"),
        hint: "serve this model without --quant".into(),
    })
}
