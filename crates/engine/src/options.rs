//! Options of a request (sampling) and of an engine (limits).

use std::collections::BTreeMap;

use crate::{EngineError, Result};

/// Stop strings a request may have.
const MAX_STOPS: usize = 16;
/// Bytes of one stop string; text is held back for as long as one may be forming.
const MAX_STOP_BYTES: usize = 256;
/// Alternatives per token that a request may ask for (OpenAI's limit).
pub const MAX_TOP_LOGPROBS: usize = 20;

/// How one request samples and when it stops. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the most likely token each time.
    pub temperature: f32,
    /// Keeps the most likely tokens up to this much probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// The same request with the same seed gets the same completion, whatever else runs in the batch.
    pub seed: u64,
    /// The maximum number of generated tokens; at least 1, or 0 with `prompt_logprobs`, which then is all there is.
    pub max_tokens: usize,
    /// Stop strings. The completion ends before the first of them.
    pub stop: Vec<String>,
    /// Divides the positive and multiplies the negative logits of tokens in prompt and completion; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token that was already generated; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once per occurrence in the completion; 0 is off.
    pub frequency_penalty: f32,
    /// Added to the logits of these token ids.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Reports the log-probability of each token and of this many of the most likely tokens. They are computed before
    /// bias, penalties and temperature.
    pub logprobs: Option<usize>,
    /// Reports the same of each token of the prompt except the first, and of the stop token that ends a completion. The
    /// prompt is then read without the prefix cache.
    pub prompt_logprobs: Option<usize>,
    /// Continues past the model's stop tokens until `max_tokens` (for benchmarks).
    pub ignore_eos: bool,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: 0,
            max_tokens: 256,
            stop: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            logprobs: None,
            prompt_logprobs: None,
            ignore_eos: false,
        }
    }
}

impl SamplingOptions {
    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`EngineError::InvalidOption`] naming the first option outside its range.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        in_range("temperature", self.temperature, 0.0, 2.0)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        // Not OpenAI's: the range that leaves logits meaningful.
        in_range("repetition_penalty", self.repetition_penalty, 0.1, 10.0)?;
        if self.max_tokens == 0 && self.prompt_logprobs.is_none() {
            return Err(invalid("max_tokens", "must be at least 1, found 0".into()));
        }
        if self.stop.len() > MAX_STOPS {
            return Err(invalid(
                "stop",
                format!("takes at most {MAX_STOPS} strings, found {}", self.stop.len()),
            ));
        }
        for stop in &self.stop {
            if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
                let found = stop.len();
                return Err(invalid(
                    "stop",
                    format!("takes strings of 1 to {MAX_STOP_BYTES} bytes, found one of {found}"),
                ));
            }
        }
        for (&id, &bias) in &self.logit_bias {
            if id as usize >= vocab_size {
                return Err(invalid(
                    "logit_bias",
                    format!("names token {id}, outside the vocabulary of {vocab_size}"),
                ));
            }
            in_range("logit_bias", bias, -100.0, 100.0)?;
        }
        let tops = self.logprobs.into_iter().chain(self.prompt_logprobs);
        if let Some(top) = tops.max().filter(|&top| top > MAX_TOP_LOGPROBS) {
            return Err(invalid(
                "top_logprobs",
                format!("must be between 0 and {MAX_TOP_LOGPROBS}, found {top}"),
            ));
        }
        Ok(())
    }
}

fn invalid(option: &'static str, message: String) -> EngineError {
    EngineError::InvalidOption { option, message }
}

/// NaN is outside every range.
fn in_range(option: &'static str, value: f32, low: f32, high: f32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(invalid(
        option,
        format!("must be between {low} and {high}, found {value}"),
    ))
}

/// The engine's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences in a batch; at least 1.
    pub max_batch: usize,
    /// Requests that may wait in the queue; further ones are refused.
    pub max_waiting: usize,
    /// Prompt tokens read in one step; at least 1. Prompts are cut at multiples of this, so that chunk boundaries do not
    /// depend on what else runs. It bounds the duration of a step, and with it the delay of other completions and of
    /// cancellations.
    pub prefill_chunk: usize,
    /// Positions of a sequence, if fewer than the model's maximum.
    pub context: Option<usize>,
    /// Bytes of the prefix cache, which holds keys and values of earlier prompts; 0 turns it off.
    pub prefix_cache_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_batch: 16,
            max_waiting: 64,
            prefill_chunk: 512,
            context: None,
            prefix_cache_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option_refused(change: impl FnOnce(&mut SamplingOptions)) -> Option<&'static str> {
        let mut options = SamplingOptions::default();
        change(&mut options);
        match options.validate(100) {
            Err(EngineError::InvalidOption { option, .. }) => Some(option),
            _ => None,
        }
    }

    #[test]
    fn every_range_is_checked_and_named() {
        assert_eq!(option_refused(|_| ()), None);
        assert_eq!(option_refused(|o| o.temperature = -0.1), Some("temperature"));
        assert_eq!(option_refused(|o| o.temperature = f32::NAN), Some("temperature"));
        assert_eq!(option_refused(|o| o.top_p = 1.5), Some("top_p"));
        assert_eq!(option_refused(|o| o.min_p = 2.0), Some("min_p"));
        assert_eq!(option_refused(|o| o.presence_penalty = 2.5), Some("presence_penalty"));
        assert_eq!(
            option_refused(|o| o.frequency_penalty = -2.5),
            Some("frequency_penalty")
        );
        assert_eq!(
            option_refused(|o| o.repetition_penalty = 0.0),
            Some("repetition_penalty")
        );
        assert_eq!(option_refused(|o| o.max_tokens = 0), Some("max_tokens"));
        assert_eq!(option_refused(|o| o.stop = vec![String::new()]), Some("stop"));
        assert_eq!(option_refused(|o| o.stop = vec!["x".into(); 17]), Some("stop"));
        assert_eq!(
            option_refused(|o| _ = o.logit_bias.insert(100, 1.0)),
            Some("logit_bias")
        );
        assert_eq!(
            option_refused(|o| _ = o.logit_bias.insert(99, 101.0)),
            Some("logit_bias")
        );
        assert_eq!(option_refused(|o| o.logprobs = Some(21)), Some("top_logprobs"));
        assert_eq!(option_refused(|o| o.prompt_logprobs = Some(21)), Some("top_logprobs"));
    }
}
