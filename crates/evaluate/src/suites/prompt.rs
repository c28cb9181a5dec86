//! From questions to prompts, and from prompts to answers: shared by all generative suites.

use serde::{Deserialize, Serialize};
use synapse_tokenizer::Message;

use super::suite::SuiteProgress;
use crate::model::{EvalModel, Generated, GenerationOptions};
use crate::{EvaluateError, Result};

/// Whether a benchmark's questions use the chat template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptStyle {
    /// With the template, as in training and serving.
    #[default]
    Chat,
    /// Plain text that a base model continues.
    Raw,
}

/// How the questions of a benchmark are formatted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptFormat {
    /// With or without the template.
    pub style: PromptStyle,
    /// Number of worked examples before each question, in suites that have some.
    pub shots: usize,
    /// System turn of a chat, if any.
    pub system_prompt: Option<String>,
}

impl PromptFormat {
    /// With the template, without examples.
    #[must_use]
    pub fn chat(system_prompt: Option<&str>) -> Self {
        Self {
            system_prompt: system_prompt.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Plain text.
    #[must_use]
    pub fn raw(shots: usize) -> Self {
        Self {
            style: PromptStyle::Raw,
            shots,
            system_prompt: None,
        }
    }

    /// The optional system turn, worked examples as earlier turns, and one question.
    pub(super) fn conversation(&self, examples: &[(&str, &str)], question: &str) -> Vec<Message> {
        let system = self.system_prompt.iter().map(|text| Message::new("system", text));
        let examples = examples
            .iter()
            .flat_map(|(question, answer)| [Message::new("user", *question), Message::new("assistant", *answer)]);
        system.chain(examples).chain([Message::new("user", question)]).collect()
    }

    /// One question with the template, whose answers are scored.
    pub(super) fn ask_for_choice(&self, model: &dyn EvalModel, id: &str, question: &str) -> Result<Prompt> {
        Prompt::scored(model, id, &self.conversation(&[], question))
    }

    /// One question with the template, or its plain text.
    pub(super) fn ask(&self, model: &dyn EvalModel, id: &str, question: &str, text: &str) -> Result<Prompt> {
        match self.style {
            PromptStyle::Chat => Prompt::chat(model, id, &self.conversation(&[], question)),
            PromptStyle::Raw => Prompt::raw(model, id, text),
        }
    }
}

/// A prompt with the id of its item.
pub(super) struct Prompt {
    pub(super) id: String,
    pub(super) tokens: Vec<u32>,
}

impl Prompt {
    /// A conversation whose answers are scored rather than written: up to the model's turn, without thoughts.
    pub(super) fn scored(model: &dyn EvalModel, id: &str, messages: &[Message]) -> Result<Self> {
        Self::of(id, model.chat().without_thoughts().encode_prompt(messages))
    }

    /// A conversation in the model's template, up to the model's turn.
    pub(super) fn chat(model: &dyn EvalModel, id: &str, messages: &[Message]) -> Result<Self> {
        Self::of(id, model.chat().encode_prompt(messages))
    }

    /// Plain text as the tokenizer encodes it on its own.
    pub(super) fn raw(model: &dyn EvalModel, id: &str, text: &str) -> Result<Self> {
        Self::of(id, model.chat().encode_raw(text))
    }

    fn of(id: &str, tokens: synapse_tokenizer::Result<Vec<u32>>) -> Result<Self> {
        let tokens = tokens.map_err(|source| EvaluateError::Chat {
            item: id.to_owned(),
            source,
        })?;
        Ok(Self {
            id: id.to_owned(),
            tokens,
        })
    }
}

/// Answers to every prompt, as one batch. A prompt that fills the context is refused, never truncated.
pub(super) fn generate(
    suite: &'static str,
    model: &mut dyn EvalModel,
    prompts: &[Prompt],
    generation: &GenerationOptions,
    progress: SuiteProgress<'_>,
) -> Result<Vec<Generated>> {
    if let Some(limit) = model.max_positions()
        && let Some(prompt) = prompts.iter().find(|prompt| prompt.tokens.len() >= limit)
    {
        return Err(EvaluateError::TooLong {
            suite,
            item: prompt.id.clone(),
            tokens: prompt.tokens.len() + 1,
            limit,
        });
    }
    let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let mut answers = Vec::with_capacity(prompts.len());
    model.generate(&tokens, generation, &mut |answer| {
        answers.push(answer);
        progress(answers.len(), prompts.len());
        Ok(())
    })?;
    check_count(model, "prompts", prompts.len(), answers.len())?;
    Ok(answers)
}

pub(super) fn check_count(model: &dyn EvalModel, what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(EvaluateError::WrongCount {
        model: model.name().to_owned(),
        what,
        expected,
        found,
    })
}

/// The last user turn; it identifies an item in the log.
pub(super) fn last_question(messages: &[Message]) -> &str {
    messages
        .iter()
        .rev()
        .find(|message| message.role == "user")
        .map_or("", |message| &message.content)
}

/// A note about truncated answers, if there are any.
pub(super) fn unfinished_note<'a>(
    answers: impl IntoIterator<Item = &'a Generated>,
    max_new_tokens: usize,
) -> Option<String> {
    let (mut unfinished, mut all) = (0, 0);
    for answer in answers {
        unfinished += usize::from(!answer.finished);
        all += 1;
    }
    (unfinished > 0).then(|| format!("{unfinished} of {all} answers cut off at {max_new_tokens} tokens"))
}
