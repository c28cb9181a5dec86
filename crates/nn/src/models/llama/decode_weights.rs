//! The weights that generated tokens are multiplied with when a model is held in NF4: linears in tiles of 4 bits, the
//! output head in ggml's 8. A model held in ggml's blocks uses its tiles directly and has none of these.
//!
//! Prefill shares each read of a weight among many tokens and is compute-bound, so it keeps the stored weights and bf16
//! products; decoding one token at a time is bound by memory bandwidth.

use synapse_checkpoint::gguf::TensorType;
use synapse_kernels::{
    Matrix, Precision,
    packed::{PackedFormat, PackedWeight},
};

use crate::{NnError, linear::Linear, tensor::Tensor, weights::quantized_matrix};

/// All tiles of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct DecodeWeights {
    /// In the order of the layers' linears.
    pub(crate) layers: Vec<[PackedWeight; 7]>,
    pub(crate) head: PackedWeight,
}

impl DecodeWeights {
    /// The tiles of NF4 linears, and of the output head `[vocab, hidden]`.
    pub(crate) fn new<'a>(
        layers: impl Iterator<Item = &'a [Linear; 7]>,
        head: Matrix<'_>,
        [vocab, hidden]: [usize; 2],
        precision: Precision,
    ) -> Result<Self, NnError> {
        let tile = |linear: &Linear| match &linear.weight {
            Tensor::Nf4(weight) => check_width(linear.input).map(|()| PackedWeight::from_nf4(weight)),
            _ => unreachable!("the linears were loaded in NF4"),
        };
        let layer = |linears: &[Linear; 7]| -> Result<[PackedWeight; 7], NnError> {
            let tiles = linears.iter().map(tile).collect::<Result<Vec<_>, NnError>>()?;
            Ok(tiles
                .try_into()
                .unwrap_or_else(|_| unreachable!("a layer has seven linears")))
        };
        check_width(hidden)?;
        let shape = ("the output head", [vocab, hidden]);
        let quantized = quantized_matrix(TensorType::Q8_0, shape, precision, |rows, values| {
            values.resize(rows.len() * hidden, 0.0);
            head.widen(rows.start * hidden, values);
            Ok(())
        })?;
        let Tensor::Packed(head) = quantized else {
            unreachable!("whole blocks of 64 are whole blocks of 32")
        };
        Ok(Self {
            layers: layers.map(layer).collect::<Result<_, _>>()?,
            head,
        })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(PackedWeight::bytes).sum::<usize>() + self.head.bytes()
    }
}

fn check_width(inputs: usize) -> Result<(), NnError> {
    if PackedWeight::fits(PackedFormat::Nf4, inputs) {
        return Ok(());
    }
    Err(NnError::Unsupported {
        what: format!("an NF4 linear with {inputs} inputs, which is not a multiple of 64,"),
        hint: "serve this model with `--quant q4_0`, whose blocks are 32, or without --quant".into(),
    })
}
