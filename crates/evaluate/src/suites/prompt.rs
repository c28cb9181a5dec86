//! How questions become prompts, and prompts answers: what every suite that asks shares.

use serde::{Deserialize, Serialize};
use synapse_tokenizer::Message;

use super::Progress;
use crate::subject::{Generated, Generation, Subject};
use crate::{EvaluateError, Result};

/// Whether a benchmark's questions go through the chat template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompting {
    /// Through the template, as training and serving do.
    #[default]
    Chat,
    /// As plain text that a base model continues.
    Raw,
}

/// How the questions of a benchmark are put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Through the template or not.
    pub prompting: Prompting,
    /// Worked examples before each question, where the suite has some.
    pub shots: usize,
    /// System turn of a chat, if any.
    pub system_prompt: Option<String>,
}

impl Form {
    /// Through the template, without examples.
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
            prompting: Prompting::Raw,
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

    /// One question through the template, or its plain text.
    pub(super) fn ask(&self, subject: &dyn Subject, id: &str, question: &str, text: &str) -> Result<Prompt> {
        match self.prompting {
            Prompting::Chat => Prompt::chat(subject, id, &self.conversation(&[], question)),
            Prompting::Raw => Prompt::raw(subject, id, text),
        }
    }
}

/// A prompt with the id of its item.
pub(super) struct Prompt {
    pub(super) id: String,
    pub(super) tokens: Vec<u32>,
}

impl Prompt {
    /// A conversation through the model's template, up to where the model answers.
    pub(super) fn chat(subject: &dyn Subject, id: &str, messages: &[Message]) -> Result<Self> {
        Self::of(id, subject.chat().encode_prompt(messages))
    }

    /// Plain text as the tokenizer takes it by itself.
    pub(super) fn raw(subject: &dyn Subject, id: &str, text: &str) -> Result<Self> {
        Self::of(id, subject.chat().encode_raw(text))
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

/// Answers to every prompt, as one batch. A prompt that leaves no room for an answer is refused, never cut.
pub(super) fn generate(
    suite: &'static str,
    subject: &mut dyn Subject,
    prompts: &[Prompt],
    generation: &Generation,
    progress: Progress<'_>,
) -> Result<Vec<Generated>> {
    if let Some(limit) = subject.max_positions()
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
    subject.generate(&tokens, generation, &mut |answer| {
        answers.push(answer);
        progress(answers.len(), prompts.len());
        Ok(())
    })?;
    check_count(subject, "prompts", prompts.len(), answers.len())?;
    Ok(answers)
}

pub(super) fn check_count(subject: &dyn Subject, what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(EvaluateError::WrongCount {
        subject: subject.name().to_owned(),
        what,
        expected,
        found,
    })
}

/// The last user turn: what a reader of the log recognizes an item by.
pub(super) fn last_question(messages: &[Message]) -> &str {
    messages
        .iter()
        .rev()
        .find(|message| message.role == "user")
        .map_or("", |message| &message.content)
}

/// What to add to an outcome when answers were cut off.
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
