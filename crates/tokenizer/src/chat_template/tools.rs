//! Checks that a template shows tools, tool calls and tool results to the model.
//!
//! A template without tool support renders such a conversation without an error, and the model would answer a question
//! it never saw. The check renders once more without the part in question and compares.

use super::{Conversation, Template};
use crate::special_tokens::SpecialTokens;
use crate::{Message, Result, TokenizerError};

/// Whether a template's source has the tool-call tags of Qwen and Hermes.
pub(crate) fn has_call_tags(source: &str) -> bool {
    source.contains("<tool_call>") && source.contains("</tool_call>")
}

/// Checks a conversation before it is rendered; free without tools, calls and results.
pub(crate) fn check_tools(template: &Template, special: &SpecialTokens, conversation: Conversation<'_>) -> Result<()> {
    let Conversation { messages, tools, .. } = conversation;
    if tools.iter().any(|tool| special.occur_in(&tool.to_string())) {
        return Err(TokenizerError::Tools(
            "a tool's description must not contain a special token",
        ));
    }
    let has_calls = messages.iter().any(|message| !message.tool_calls.is_empty());
    let has_results = messages.iter().any(|message| message.role == "tool");
    if tools.is_empty() && !has_calls && !has_results {
        return Ok(());
    }
    let whole = template.render(conversation, true)?;
    // A template that refuses the rest of the conversation needed the removed part.
    let shows = |rest: Conversation<'_>| template.render(rest, true).map_or(true, |text| text != whole);
    if !tools.is_empty()
        && !shows(Conversation {
            tools: &[],
            ..conversation
        })
    {
        return Err(TokenizerError::Tools(
            "the model's chat template does not show tools to the model",
        ));
    }
    if has_calls {
        let bare = |message: &Message| Message {
            tool_calls: Vec::new(),
            ..message.clone()
        };
        let messages: Vec<Message> = messages.iter().map(bare).collect();
        if !shows(Conversation {
            messages: &messages,
            ..conversation
        }) {
            return Err(TokenizerError::Tools(
                "the model's chat template does not show tool calls to the model",
            ));
        }
    }
    if has_results {
        let others: Vec<Message> = messages
            .iter()
            .filter(|message| message.role != "tool")
            .cloned()
            .collect();
        if !shows(Conversation {
            messages: &others,
            ..conversation
        }) {
            return Err(TokenizerError::Tools(
                "the model's chat template does not show tool results to the model",
            ));
        }
    }
    Ok(())
}
