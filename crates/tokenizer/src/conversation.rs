//! A rendered conversation to tokens, so that special tokens inside contents stay text.
//!
//! A conversation without special tokens in its contents is tokenized as one text, exactly as `transformers` does
//! (merges may cross the border between template and content). Otherwise special tokens are recognized outside those
//! contents only, and all text between two of them is plain.

use crate::chat_template::RenderedConversation;
use crate::special_tokens::SpecialTokens;
use crate::text_tokenizer::TextTokenizer;
use crate::token::TokenSpan;
use crate::{Message, Result, TokenizerError};

/// Whether each message's content contains special tokens; an error where a role or a tool call does.
pub(crate) fn special_contents(special: &SpecialTokens, messages: &[Message]) -> Result<Vec<bool>> {
    let check = |(index, message): (usize, &Message)| {
        let refused = |reason: &str| TokenizerError::message(index, &message.role, reason);
        if special.occur_in(&message.role) {
            return Err(refused("a role must not contain a special token"));
        }
        if message
            .reasoning_content
            .as_deref()
            .is_some_and(|text| special.occur_in(text))
        {
            return Err(refused("reasoning must not contain a special token"));
        }
        let calls = &message.tool_calls;
        let names = message.tool_call_id.iter().chain(calls.iter().map(|call| &call.name));
        if names.into_iter().any(|text| special.occur_in(text))
            || calls.iter().any(|call| special.occur_in(&call.arguments.to_string()))
        {
            return Err(refused("a tool call must not contain a special token"));
        }
        Ok(special.occur_in(&message.content))
    };
    messages.iter().enumerate().map(check).collect()
}

/// The tokens of a rendered conversation. `special_contents` says which contents must stay text.
pub(crate) fn encode_rendered(
    tokenizer: &TextTokenizer,
    messages: &[Message],
    rendered: &RenderedConversation,
    special_contents: &[bool],
) -> Result<Vec<TokenSpan>> {
    let text = rendered.text.as_str();
    if !special_contents.contains(&true) {
        return tokenizer.encode(text);
    }
    let mut contents = Vec::new();
    for (index, spans) in rendered.contents.iter().enumerate() {
        if !special_contents[index] {
            continue;
        }
        if spans.is_empty() {
            let reason = "the content contains a special token, and the template rewrites the content, so the token \
                          cannot be kept as text; remove the special token";
            return Err(TokenizerError::message(index, &messages[index].role, reason));
        }
        contents.extend(spans.iter().cloned());
    }
    contents.sort_by_key(|span| span.start);

    let mut tokens = Vec::new();
    let mut plain_from = 0;
    let mut segment_from = 0;
    for segment_to in contents.iter().map(|span| span.start).chain([text.len()]) {
        let content_end = contents
            .iter()
            .find(|span| span.start == segment_to)
            .map_or(text.len(), |span| span.end);
        for special in tokenizer.special.find(&text[segment_from..segment_to]) {
            let special = special.shifted(segment_from);
            let plain = tokenizer.encode_plain(&text[plain_from..special.range.start])?;
            tokens.extend(plain.into_iter().map(|token| token.shifted(plain_from)));
            plain_from = special.range.end;
            tokens.push(special);
        }
        segment_from = content_end;
    }
    let plain = tokenizer.encode_plain(&text[plain_from..])?;
    tokens.extend(plain.into_iter().map(|token| token.shifted(plain_from)));
    Ok(tokens)
}
