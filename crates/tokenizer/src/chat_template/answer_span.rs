//! The part of a rendered conversation that an answer is trained on: its content and calls, up to the token that ends
//! the turn.

use std::ops::Range;

use super::{Conversation, RenderedConversation, Template, render_with_spans};
use crate::special_tokens::SpecialTokens;
use crate::{Message, Result, TokenizerError};

const NO_END_OF_TURN: &str =
    "the template ends this answer with no special token, so the model would never learn to stop";

/// The byte range of an answer, from its content or its calls to the token that ends its turn.
pub(crate) fn answer_span(
    template: &Template,
    special: &SpecialTokens,
    conversation: Conversation<'_>,
    index: usize,
    rendered: &RenderedConversation,
) -> Result<Range<usize>> {
    let message = &conversation.messages[index];
    let problem = |reason: &str| TokenizerError::message(index, &message.role, reason);
    match rendered.contents[index].as_slice() {
        // Calls follow the content, so the turn does not end where the content does.
        _ if !message.tool_calls.is_empty() => span_by_prefix(template, special, conversation, index, rendered),
        [content] => {
            let rest = &rendered.text[content.end..];
            let space = rest.len() - rest.trim_start().len();
            let token = special
                .length_at_start(&rest[space..])
                .ok_or_else(|| problem(NO_END_OF_TURN))?;
            Ok(content.start..content.end + space + token)
        }
        [] => span_by_prefix(template, special, conversation, index, rendered),
        _ => Err(problem("the template writes this answer more than once")),
    }
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

/// The token with which the template ends an assistant's turn, if a short conversation shows it.
pub(crate) fn end_of_turn(template: &Template, special: &SpecialTokens) -> Option<u32> {
    let probe = [Message::new("user", "a"), Message::new("assistant", "b")];
    let conversation = Conversation::from(&probe[..]);
    let rendered = render_with_spans(template, conversation, false, &[false, true]).ok()?;
    let span = answer_span(template, special, conversation, 1, &rendered).ok()?;
    special.find(&rendered.text[span]).pop().map(|token| token.id)
}
