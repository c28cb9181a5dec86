//! Scores: how likely each of several continuations of one prompt is. The prompt is read once; the continuations are then
//! read in one pass.

use synapse_nn::{Adapter, KvCache, LogitsFor, Phase, Sequence};
use tokio::sync::oneshot;

use crate::{EngineError, Result};

/// Receives the summed log-probability of each continuation, in nats. Dropping it cancels the work within a step.
pub type ScoreReceiver = oneshot::Receiver<Result<Vec<f64>>>;

/// The scores of one prompt's continuations while they are computed.
#[derive(Debug)]
pub(crate) struct Scoring {
    /// Each at least one token.
    continuations: Vec<Vec<u32>>,
    scores: Vec<f64>,
    /// A copy of the prompt's cache for each continuation of more than one token, with the continuation's index.
    forks: Vec<(usize, KvCache)>,
    /// Forks that are scored.
    scored: usize,
    /// `None` once the scores or a failure have been sent.
    reply: Option<oneshot::Sender<Result<Vec<f64>>>>,
}

impl Scoring {
    pub(crate) fn new(continuations: Vec<Vec<u32>>, reply: oneshot::Sender<Result<Vec<f64>>>) -> Self {
        Self {
            scores: vec![0.0; continuations.len()],
            continuations,
            forks: Vec::new(),
            scored: 0,
            reply: Some(reply),
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Positions held in addition to the prompt's own cache.
    pub(crate) fn cached_tokens(&self) -> usize {
        self.forks.iter().map(|(_, cache)| cache.len()).sum()
    }

    /// What to read once the prompt is read: all but the last token of each continuation, whose logits are not needed.
    pub(crate) fn parts<'a>(&'a mut self, adapter: Option<&'a Adapter>) -> Vec<Sequence<'a>> {
        let continuations = &self.continuations;
        let part = |(index, cache): &'a mut (usize, KvCache)| {
            let tokens = &continuations[*index];
            Sequence {
                tokens: &tokens[..tokens.len() - 1],
                cache,
                phase: Phase::Prefill,
                adapter,
                logits: LogitsFor::All,
            }
        };
        self.forks.iter_mut().map(part).collect()
    }

    /// Takes the logits of the prompt, then of each part. Returns whether all scores are known.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(crate) fn accept(&mut self, logits: &[f32], prompt: &KvCache) -> std::result::Result<bool, String> {
        if self.forks.is_empty() {
            for (score, continuation) in self.scores.iter_mut().zip(&self.continuations) {
                *score = log_probability(logits, continuation[0])?;
            }
            let longer = |(_, continuation): &(usize, &Vec<u32>)| continuation.len() > 1;
            let longer = self.continuations.iter().enumerate().filter(longer);
            self.forks = longer.map(|(index, _)| (index, prompt.clone())).collect();
        } else {
            let (index, _) = self.forks[self.scored];
            let continuation = &self.continuations[index];
            let width = logits.len() / (continuation.len() - 1);
            for (logits, &next) in logits.chunks_exact(width).zip(&continuation[1..]) {
                self.scores[index] += log_probability(logits, next)?;
            }
            self.scored += 1;
        }
        Ok(self.scored == self.forks.len())
    }

    /// Sends the scores.
    pub(crate) fn finish(&mut self) {
        let scores = std::mem::take(&mut self.scores);
        self.reply(Ok(scores));
    }

    pub(crate) fn fail(&mut self, message: &str) {
        self.reply(Err(EngineError::Failed(message.to_owned())));
    }

    fn reply(&mut self, result: Result<Vec<f64>>) {
        if let Some(reply) = self.reply.take() {
            // A dropped receiver is noticed before the next step.
            let _ = reply.send(result);
        }
    }
}

/// ln softmax(logits)[id].
fn log_probability(logits: &[f32], id: u32) -> std::result::Result<f64, String> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    let chosen = f64::from(logits[id as usize] - largest) - sum.ln();
    if chosen.is_finite() {
        Ok(chosen)
    } else {
        Err(format!("the log-probability of token {id} is {chosen}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [1.0, 2.0, 1000.0, 999.0];
        assert_eq!(log_probability(&logits, 2).map(|p| (p * 1e6).round()), Ok(-313_262.0));
        assert_eq!(log_probability(&logits, 3).map(|p| (p * 1e6).round()), Ok(-1_313_262.0));
        assert!(log_probability(&[f32::NAN, 1.0], 1).is_err());
    }
}
