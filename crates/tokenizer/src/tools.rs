//! Whether a template shows the model what a conversation with tools is about.
//!
//! Templates that know nothing of tools render such a conversation without a word of complaint, and the model would
//! answer a question it never saw. Rendering once more without the part in question tells.

use crate::control::ControlTokens;
use crate::template::{Conversation, Template};
use crate::{ChatError, Message, Result};

/// Whether a template's source speaks of calls in the tags of Qwen and Hermes.
pub(crate) fn has_call_tags(source: &str) -> bool {
    source.contains("<tool_call>") && source.contains("</tool_call>")
}

/// Checks a conversation before it is rendered; without tools, calls and results it costs nothing.
pub(crate) fn check(template: &Template, control: &ControlTokens, conversation: Conversation<'_>) -> Result<()> {
    let Conversation { messages, tools } = conversation;
    if tools.iter().any(|tool| control.occur_in(&tool.to_string())) {
        return Err(ChatError::Tools(
            "a tool's description must not contain a control token",
        ));
    }
    let has_calls = messages.iter().any(|message| !message.tool_calls.is_empty());
    let has_results = messages.iter().any(|message| message.role == "tool");
    if tools.is_empty() && !has_calls && !has_results {
        return Ok(());
    }
    let whole = template.render(conversation, true)?;
    // A template that refuses what is left of a conversation needed the part that was taken out.
    let shows = |rest: Conversation<'_>| template.render(rest, true).map_or(true, |text| text != whole);
    if !tools.is_empty() && !shows(messages.into()) {
        return Err(ChatError::Tools("the model's chat template has no place for tools"));
    }
    if has_calls {
        let bare = |message: &Message| Message {
            tool_calls: Vec::new(),
            ..message.clone()
        };
        let messages: Vec<Message> = messages.iter().map(bare).collect();
        if !shows(Conversation {
            messages: &messages,
            tools,
        }) {
            return Err(ChatError::Tools(
                "the model's chat template has no place for tool calls",
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
            tools,
        }) {
            return Err(ChatError::Tools(
                "the model's chat template has no place for the results of tools",
            ));
        }
    }
    Ok(())
}
