//! `echo: true`: the prompt before its completion, with the log-probabilities of its tokens.

use synapse_engine::TokenLogprob;
use synapse_tokenizer::{ChatTokenizer, TokenizerError};

use crate::encoding::Prompt;

/// A prompt as it is repeated.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    pub(crate) text: String,
    tokens: Vec<u32>,
    /// Where each token begins, in characters of the text.
    offsets: Vec<usize>,
}

/// A token of a prompt, with its log-probability unless it is the first.
pub(crate) struct EchoedToken {
    pub(crate) id: u32,
    pub(crate) offset: usize,
    pub(crate) logprob: Option<TokenLogprob>,
}

impl Echo {
    /// `text` is the prompt as it was sent, if it was sent as text.
    pub(crate) fn new(chat: &ChatTokenizer, prompt: &Prompt, tokens: &[u32]) -> Result<Self, TokenizerError> {
        let text = match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat(_) | Prompt::Tokens(_) => chat.decode(tokens, false)?,
        };
        let (starts, length) = starts(chat, tokens);
        let characters = text.chars().count();
        // Tokens that the tokenizer put before the text, such as one that begins a document, begin where it begins.
        let before = length.saturating_sub(characters);
        let offset = |start: usize| start.saturating_sub(before).min(characters);
        Ok(Self {
            offsets: starts.into_iter().map(offset).collect(),
            text,
            tokens: tokens.to_vec(),
        })
    }

    /// The tokens with these log-probabilities, which the first token lacks.
    pub(crate) fn tokens(&self, logprobs: Vec<TokenLogprob>) -> Vec<EchoedToken> {
        let logprobs = std::iter::once(None).chain(logprobs.into_iter().map(Some));
        let tokens = self.tokens.iter().zip(&self.offsets);
        tokens
            .zip(logprobs)
            .map(|((&id, &offset), logprob)| EchoedToken { id, offset, logprob })
            .collect()
    }
}

/// Where each token begins in the text of them all, in characters, and how long that text is.
fn starts(chat: &ChatTokenizer, tokens: &[u32]) -> (Vec<usize>, usize) {
    let mut detokenizer = chat.detokenizer();
    let (mut starts, mut length) = (Vec::with_capacity(tokens.len()), 0);
    for &id in tokens {
        if chat.is_special_token(id) {
            length += detokenizer.finish().map_or(0, |text| text.chars().count());
            starts.push(length);
            length += chat.token_text(id).chars().count();
        } else {
            starts.push(length);
            length += detokenizer.push(id).map_or(0, |text| text.chars().count());
        }
    }
    length += detokenizer.finish().map_or(0, |text| text.chars().count());
    (starts, length)
}
