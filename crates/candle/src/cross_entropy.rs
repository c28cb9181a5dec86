//! Final norm, head and cross-entropy over chunks of the positions that have a target. The gradient of a chunk's logits is formed
//! by hand and multiplied back at once, so `[t, vocab]` never exists and no tape sees the head.

use candle_core::{DType, Tensor, Var};
use synapse_nn::MicroBatch;

use crate::{CandleDecoder, CandleError, frozen};

/// Elements of logits held at once: 128 rows of a 49,152-word vocabulary on the CPU, sixteen times that on a GPU,
/// which wants taller products.
const CHUNK_ELEMENTS: usize = 128 * 49_152;

/// The positions of a batch that have a target.
struct TargetRows {
    /// Rows of the batch.
    positions: Vec<u32>,
    /// `[n]` u32, on the device.
    rows: Tensor,
    /// `[n]` u32, on the device.
    targets: Tensor,
}

/// A chunk of those rows: their logits and the logarithms of their sums of powers.
struct Chunk {
    count: usize,
    /// `[count, 1]` u32.
    targets: Tensor,
    /// `[count, vocab]` f32.
    logits: Tensor,
    /// `[count, 1]` f32.
    log_sums: Tensor,
}

impl Chunk {
    /// `[count]`: the negative log-likelihood of each row.
    fn losses(&self) -> candle_core::Result<Tensor> {
        (&self.log_sums - self.logits.gather(&self.targets, 1)?)?.squeeze(1)
    }

    /// Gradient of the summed loss by the logits: the probabilities less one at the target.
    fn gradient(&self) -> candle_core::Result<Tensor> {
        let ones = Tensor::ones((self.count, 1), DType::F32, self.logits.device())?;
        self.logits
            .broadcast_sub(&self.log_sums)?
            .exp()?
            .scatter_add(&self.targets, &ones.neg()?, 1)
    }
}

impl CandleDecoder {
    /// Summed loss, and the gradient `[t, hidden]` of `scale · sum` by the last layer's output. At least one
    /// position must have a target.
    pub(crate) fn loss_gradient(
        &self,
        batch: &MicroBatch,
        x: &Tensor,
        scale: f64,
    ) -> Result<(f64, Tensor), CandleError> {
        let target_rows = self.target_rows(batch)?;
        let rows = Var::from_tensor(&x.index_select(&target_rows.rows, 0)?)?;
        let normed = self.final_norm(&rows)?;
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        self.for_each_chunk(&target_rows, &normed.detach(), |chunk| {
            losses.push(chunk.losses()?);
            gradients.push((chunk.gradient()?.to_dtype(self.dtype())?.matmul(self.head())? * scale)?);
            Ok(())
        })?;
        let store = frozen::seeded(&normed, &Tensor::cat(&gradients, 0)?)?.backward()?;
        let by_row = store.get(&rows).ok_or_else(|| CandleError::GradientCut {
            parameter: "the last layer's output".to_owned(),
        })?;
        let sum = host(&losses)?.into_iter().sum();
        Ok((sum, x.zeros_like()?.index_add(&target_rows.rows, by_row, 0)?))
    }

    /// Summed loss and number of targets of each document. At least one position must have a target.
    pub(crate) fn losses_by_document(&self, batch: &MicroBatch, x: &Tensor) -> Result<Vec<(f64, usize)>, CandleError> {
        let target_rows = self.target_rows(batch)?;
        let normed = self.final_norm(&x.index_select(&target_rows.rows, 0)?)?;
        let mut losses = Vec::new();
        self.for_each_chunk(&target_rows, &normed, |chunk| {
            losses.push(chunk.losses()?);
            Ok(())
        })?;
        let ends: Vec<usize> = batch
            .lengths
            .iter()
            .scan(0, |end, &length| {
                *end += length;
                Some(*end)
            })
            .collect();
        let mut sums = vec![(0.0, 0); batch.lengths.len()];
        for (&position, loss) in target_rows.positions.iter().zip(host(&losses)?) {
            let document = ends.partition_point(|&end| end <= position as usize);
            sums[document].0 += loss;
            sums[document].1 += 1;
        }
        Ok(sums)
    }

    fn target_rows(&self, batch: &MicroBatch) -> Result<TargetRows, CandleError> {
        let (positions, targets): (Vec<u32>, Vec<u32>) = (0..)
            .zip(&batch.targets)
            .filter_map(|(position, target)| Some((position, (*target)?)))
            .unzip();
        let count = positions.len();
        let rows = Tensor::from_slice(&positions, count, self.device())?;
        Ok(TargetRows {
            positions,
            rows,
            targets: Tensor::from_vec(targets, count, self.device())?,
        })
    }

    /// Computes the logits of the normed rows chunk by chunk.
    fn for_each_chunk(
        &self,
        target_rows: &TargetRows,
        normed: &Tensor,
        mut each: impl FnMut(Chunk) -> Result<(), CandleError>,
    ) -> Result<(), CandleError> {
        let (elements, total) = (
            if self.device().is_cpu() {
                CHUNK_ELEMENTS
            } else {
                16 * CHUNK_ELEMENTS
            },
            target_rows.positions.len(),
        );
        let size = (elements / self.config().vocab_size).max(16);
        for first in (0..total).step_by(size) {
            let count = size.min(total - first);
            let logits = self.head_logits(&normed.narrow(0, first, count)?)?;
            let log_sums = logits.log_sum_exp(1)?.unsqueeze(1)?;
            let targets = target_rows
                .targets
                .narrow(0, first, count)?
                .unsqueeze(1)?
                .contiguous()?;
            each(Chunk {
                count,
                targets,
                logits,
                log_sums,
            })?;
        }
        Ok(())
    }
}

/// The chunks' losses on the host, in order; the only wait for the device.
fn host(losses: &[Tensor]) -> Result<Vec<f64>, CandleError> {
    let values: Vec<f32> = Tensor::cat(losses, 0)?.to_vec1()?;
    Ok(values.into_iter().map(f64::from).collect())
}
