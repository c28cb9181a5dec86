//! Embeddings: the hidden states of a text after the last norm, averaged over its tokens and scaled to length 1.

use tokio::sync::oneshot;

use crate::{EngineError, Result};

/// Receives an embedding. Dropping it cancels the work within a step.
pub type EmbeddingReceiver = oneshot::Receiver<Result<Vec<f32>>>;

/// Mean pooling: the sum of the hidden states over the tokens read so far.
#[derive(Debug)]
pub(crate) struct Pooling {
    sum: Vec<f64>,
    /// `None` once the embedding or a failure has been sent.
    reply: Option<oneshot::Sender<Result<Vec<f32>>>>,
}

impl Pooling {
    pub(crate) fn new(reply: oneshot::Sender<Result<Vec<f32>>>) -> Self {
        Self {
            sum: Vec::new(),
            reply: Some(reply),
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Adds the sum over a part of the text. Parts end at fixed positions, whatever else runs, so the sum is deterministic.
    ///
    /// # Errors
    /// A sum that is not finite: the model is broken.
    pub(crate) fn add(&mut self, part: &[f32]) -> std::result::Result<(), String> {
        if let Some(index) = part.iter().position(|value| !value.is_finite()) {
            return Err(format!("the model's hidden state {index} is {}", part[index]));
        }
        self.sum.resize(part.len(), 0.0);
        for (total, &value) in self.sum.iter_mut().zip(part) {
            *total += f64::from(value);
        }
        Ok(())
    }

    /// Sends the embedding. Normalizing the sum gives the same vector as normalizing the mean.
    pub(crate) fn finish(&mut self) {
        let length = self.sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        // A hidden state of zeros has no direction.
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        let embedding = self.sum.iter().map(|value| (value * scale) as f32).collect();
        self.reply(Ok(embedding));
    }

    pub(crate) fn fail(&mut self, message: &str) {
        self.reply(Err(EngineError::Failed(message.to_owned())));
    }

    fn reply(&mut self, result: Result<Vec<f32>>) {
        if let Some(reply) = self.reply.take() {
            // A dropped receiver is noticed before the next step.
            let _ = reply.send(result);
        }
    }
}
