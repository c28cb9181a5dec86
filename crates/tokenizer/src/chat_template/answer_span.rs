//! The part of a rendered conversation that an answer is trained on: its content and calls, up to the token that ends
//! the turn.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{Conversation, RenderedConversation, Template, render_with_spans};
use crate::special_tokens::SpecialTokens;
use crate::{Message, Result, TokenizerError};

const NO_END_OF_TURN: &str =
    "the template ends this answer with no special token, so the model would never learn to stop";

/// The byte range of an answer, from where the model begins to write to the token that ends its turn.
pub(crate) fn answer_span(
    template: &Template,
    special: &SpecialTokens,
    borders: &TurnBorders,
    conversation: Conversation<'_>,
    (index, rendered): (usize, &RenderedConversation),
) -> Result<Range<usize>> {
    let message = &conversation.messages[index];
    let problem = |reason: &str| TokenizerError::message(index, &message.role, reason);
    let text = rendered.text.as_str();
    match (rendered.contents[index].as_slice(), rendered.anchors[index]) {
        ([content], _) if message.tool_calls.is_empty() => {
            let rest = &text[content.end..];
            let space = rest.len() - rest.trim_start().len();
            let token = special
                .length_at_start(&rest[space..])
                .ok_or_else(|| problem(NO_END_OF_TURN))?;
            let start = borders
                .start_before((template, special), (conversation, index), &text[..content.start])
                .unwrap_or(content.start);
            Ok(start..content.end + space + token)
        }
        (contents @ ([] | [_]), Some(anchor)) => {
            // A content may hold the text of a special token, so the turn's own are those before it and behind it.
            let first = contents.first().map_or(anchor, |content| content.start);
            match borders.start_before((template, special), (conversation, index), &text[..first]) {
                Some(start) => {
                    let mut tokens = special.find(&text[anchor..]).into_iter();
                    let end = tokens.find(|token| borders.is_end(token.id));
                    let end = end.ok_or_else(|| problem(NO_END_OF_TURN))?.range.end;
                    Ok(start..anchor + end)
                }
                None => span_by_prefix(template, special, conversation, index, rendered),
            }
        }
        ([] | [_], None) => span_by_prefix(template, special, conversation, index, rendered),
        _ => Err(problem("the template writes this answer more than once")),
    }
}

/// What a template writes before the model's turn and behind it.
#[derive(Debug, Default)]
pub(crate) struct TurnBorders {
    /// The generation prompt with some arguments of the template, and without them: turns that are long past may be written
    /// as without. Empty where there is none.
    generation_prompts: [String; 2],
    /// The token that ends a turn.
    end: Option<u32>,
}

impl TurnBorders {
    /// As a short conversation shows them.
    pub(crate) fn new(template: &Template, special: &SpecialTokens, arguments: &Map<String, Value>) -> Self {
        let probe = [Message::new("user", "a")];
        let plain = Conversation::from(&probe[..]);
        let with_arguments = generation_prompt(template, Conversation { arguments, ..plain });
        let mut borders = Self {
            generation_prompts: [with_arguments, generation_prompt(template, plain)].map(Option::unwrap_or_default),
            end: None,
        };
        borders.end = end_of_turn(template, special, &borders);
        borders
    }

    /// The token with which the template ends an assistant's turn, if the short conversation shows it.
    pub(crate) fn end(&self) -> Option<u32> {
        self.end
    }

    fn is_end(&self, token: u32) -> bool {
        self.end.is_none_or(|end| end == token)
    }

    /// Where the model begins to write the turn `index`, which contains `place`: where its generation prompt ends. What a
    /// template puts between the two, such as an empty block of thoughts, is the model's to write.
    fn start_before(
        &self,
        (template, special): (&Template, &SpecialTokens),
        (conversation, index): (Conversation<'_>, usize),
        before: &str,
    ) -> Option<usize> {
        let known = self.generation_prompts.iter().filter(|prompt| !prompt.is_empty());
        if known.clone().any(|prompt| before.ends_with(prompt.as_str())) {
            return Some(before.len());
        }
        let start = |prompt: &str| {
            let start = before.rfind(prompt)? + prompt.len();
            let is_other_turn = special.find(&before[start..]).iter().any(|token| self.is_end(token.id));
            (!is_other_turn).then_some(start)
        };
        // What this conversation is asked with: a system message may decide it, or a template refuse any other beginning.
        let asked = Conversation {
            messages: &conversation.messages[..index],
            ..conversation
        };
        let own = generation_prompt(template, asked).filter(|prompt| !prompt.is_empty());
        own.and_then(|prompt| start(&prompt))
            .or_else(|| known.clone().find_map(|prompt| start(prompt)))
    }
}

/// What the template adds to a conversation that the model is to continue.
fn generation_prompt(template: &Template, asked: Conversation<'_>) -> Option<String> {
    let (without, with) = (template.render(asked, false).ok()?, template.render(asked, true).ok()?);
    with.strip_prefix(&without).map(str::to_owned)
}

/// Finds a turn by comparing the conversation rendered up to the generation prompt with the one rendered through it.
fn span_by_prefix(
    template: &Template,
    special: &SpecialTokens,
    conversation: Conversation<'_>,
    index: usize,
    rendered: &RenderedConversation,
) -> Result<Range<usize>> {
    let problem = |reason: &str| TokenizerError::message(index, &conversation.messages[index].role, reason);
    let up_to = |end: usize| Conversation {
        messages: &conversation.messages[..end],
        ..conversation
    };
    let before = template.render(up_to(index), true)?;
    let through = template.render(up_to(index + 1), false)?;
    if !(through.starts_with(&before) && rendered.text.starts_with(&through)) {
        return Err(problem(
            "the template rewrites this answer and earlier text, so its tokens cannot be told apart; train on \
             single-turn rows or use a template that leaves contents alone",
        ));
    }
    let turn = &through[before.len()..];
    let end = special
        .find(turn)
        .pop()
        .ok_or_else(|| problem(NO_END_OF_TURN))?
        .range
        .end;
    if turn[end..].trim().is_empty() {
        Ok(before.len()..before.len() + end)
    } else {
        Err(problem(NO_END_OF_TURN))
    }
}

/// The token that ends the answer of a short conversation.
fn end_of_turn(template: &Template, special: &SpecialTokens, borders: &TurnBorders) -> Option<u32> {
    let probe = [Message::new("user", "a"), Message::new("assistant", "b")];
    let conversation = Conversation::from(&probe[..]);
    let rendered = render_with_spans(template, conversation, false, &[false, true]).ok()?;
    let span = answer_span(template, special, borders, conversation, (1, &rendered)).ok()?;
    special.find(&rendered.text[span]).pop().map(|token| token.id)
}
