//! The log-probabilities of a prompt's own tokens, while the prompt is read chunk by chunk.

use crate::TokenLogprob;
use crate::distribution::StepLogprobs;
use crate::sampler::check_finite;

/// Positions read in one step: all their logits are held at once, which for a large vocabulary is half a megabyte each.
pub(crate) const CHUNK: usize = 64;

/// The log-probabilities of one prompt so far.
#[derive(Debug)]
pub(crate) struct PromptLogprobs {
    /// Alternatives of each token.
    top: usize,
    /// Positions whose logits were taken.
    read: usize,
    logprobs: Vec<TokenLogprob>,
}

impl PromptLogprobs {
    pub(crate) fn new(top: usize) -> Self {
        Self {
            top,
            read: 0,
            logprobs: Vec::new(),
        }
    }

    /// Takes the logits of the positions up to `read`, \[positions × vocabulary\]. Returns the last row once the prompt is
    /// read: what comes after it is not the prompt's.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(crate) fn accept<'l>(
        &mut self,
        prompt: &[u32],
        read: usize,
        logits: &'l mut [f32],
    ) -> Result<Option<&'l mut [f32]>, String> {
        let rows = read - self.read;
        let width = logits.len() / rows;
        if width == 0 {
            return Err("the model gave no logits".into());
        }
        for (logits, &next) in logits.chunks_exact(width).zip(&prompt[self.read + 1..]) {
            check_finite(logits)?;
            let step = StepLogprobs::new(logits, self.top);
            self.logprobs.push(step.of(logits[next as usize]));
        }
        self.read = read;
        Ok((read == prompt.len()).then(|| &mut logits[(rows - 1) * width..]))
    }

    /// All of them, once the prompt is read.
    pub(crate) fn take(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.logprobs)
    }
}
