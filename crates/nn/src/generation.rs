//! What generated tokens are multiplied with when a model is held in NF4: linears in tiles of 4 bits, head in ggml's 8.
//! A model held in ggml's blocks has its tiles in the place of its weights.
//!
//! A prompt's tokens share a weight's read and are bound by arithmetic, so they keep the stored weights and bf16
//! products; a generated token is bound by bytes.

use synapse_checkpoint::{ModelFolder, gguf::TensorType};
use synapse_kernels::{
    Precision,
    tiled::{Kind, Tiled},
};

use crate::{Decoder, LoadOptions, NnError, WeightDtype, decoder::Layer, linear::Linear, stored, tensor::Tensor};

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
        let matrix = decoder.head().matrix(&[]);
        let shape = ("the output head", [vocab, hidden]);
        let head = stored::quantized(TensorType::Q8_0, shape, decoder.precision, |rows, values| {
            values.resize(rows.len() * hidden, 0.0);
            matrix.widen(rows.start * hidden, values);
            Ok(())
        })?;
        let Tensor::Tiled(head) = head else {
            unreachable!("whole blocks of 64 are whole blocks of 32")
        };
        Ok(Self {
            layers: decoder.layers.iter().map(layer).collect::<Result<_, _>>()?,
            head,
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
    if Tiled::fits(Kind::Nf4, inputs) {
        return Ok(());
    }
    Err(NnError::Unsupported {
        what: format!("a linear of {inputs} inputs in tiles, which are blocks of 64"),
        hint: "serve this model with `--quant q4_0`, whose blocks are 32, or without --quant".into(),
    })
}
