//! The model as the training loop sees it, on any backend.
//!
//! Parameters and gradients belong to the optimizer: flat f32 buffers on the host, in the order of the layout. A model
//! holds the frozen weights and computes losses and gradients; it has neither optimizer nor schedule.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_data::PackedRow;
use synapse_nn::{MicroBatch, Parameter, StepContext};

use crate::{RouterReport, TrainError};

/// A model with trainable parameters.
pub trait Model {
    /// The configuration of the whole model.
    fn config(&self) -> &ModelConfig;

    /// The trainable tensors, in the order of the flat buffers.
    fn layout(&self) -> &[Parameter];

    /// Initial values of the trainable tensors, drawn from a seed.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// The weights of a folder, as initial values of full training.
    ///
    /// # Errors
    /// A missing or unreadable tensor, or a backend that trains adapters only.
    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError>;

    /// Groups dataset rows into micro-batches of `batch_size` rows; the last one may be smaller.
    ///
    /// # Errors
    /// A row that the backend refuses.
    fn micro_batches(&self, rows: &[PackedRow], batch_size: usize) -> Result<Vec<MicroBatch>, TrainError> {
        let micro_batches = rows.chunks(batch_size).map(|rows| {
            let mut batch = MicroBatch::default();
            for row in rows {
                batch.push(&row.input_ids, &row.labels, &row.seq_lengths);
            }
            batch
        });
        Ok(micro_batches.collect())
    }

    /// Adds `context.scale ·` the gradient of a micro-batch's summed loss to `gradients`, and returns the summed
    /// negative log-likelihood in nats.
    ///
    /// # Errors
    /// A batch that the model or its device refuses.
    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, TrainError>;

    /// Summed negative log-likelihood and number of target tokens of each document, without gradients or dropout.
    ///
    /// # Errors
    /// A batch that the model or its device refuses.
    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError>;

    /// Updates after an optimizer step that do not come from the gradient, such as the bias that balances a router.
    fn post_step(&mut self, parameters: &mut [f32]) {
        let _ = parameters;
    }

    /// Router statistics since the last call, for mixture-of-experts models.
    fn router_report(&mut self) -> Option<RouterReport> {
        None
    }

    /// Length of the flat buffers.
    fn parameters(&self) -> usize {
        self.layout().last().map_or(0, |last| last.range.end)
    }
}
