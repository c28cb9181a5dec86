//! Mixture of agents for one request: several adapters each draft an answer, in one batch, and the base model writes the
//! reply from the drafts.
//!
//! The base model writes the reply because each specialist has learned the form of its own domain, and the reply has to
//! keep drafts of several domains. The options of a request (sampling, seed, `n`, stop strings, tools, response format)
//! apply to the reply. Drafts are greedy, so that a conversation always gets the same drafts, and `max_tokens` limits them
//! too: no draft is longer than the reply may be.
//!
//! Which adapters draft is decided elsewhere (`router`).

use std::sync::Arc;

use synapse_engine::{Constraint, Engine, Request, SamplingOptions};
use synapse_tokenizer::{ChatTokenizer, Message, TokenizerError};

use crate::ServerState;
use crate::drain::InFlightGuard;
use crate::encoding::{Conversation, Encoded, Prompt, blocking, check_lengths, encode_with_grammar};
use crate::error::ApiError;
use crate::generation::{Completions, ConversationRequest, GenerationOptions};
use crate::reservation::Reservation;
use crate::router::{Draft, LogEntry};

/// The maximum tokens of a draft.
const MAX_DRAFT_TOKENS: usize = 256;
/// The minimum tokens of a useful draft: if the context has less space, the base model answers alone.
const MIN_DRAFT_TOKENS: usize = 16;

/// A reply that is being generated, and the drafts that it is written from, in the order of the proposers.
pub(crate) struct DraftedReply {
    pub(crate) completions: Completions,
    pub(crate) drafts: Vec<Draft>,
}

/// The adapters that write drafts.
pub(crate) struct Proposers {
    pub(crate) adapters: Vec<String>,
    /// The logged decision, which the lengths of the drafts are added to.
    pub(crate) entry: LogEntry,
}

/// A request that is admitted, checked and encoded, before its first draft.
pub(crate) struct Aggregation {
    state: ServerState,
    engine: Arc<Engine>,
    conversation: Arc<Conversation>,
    options: GenerationOptions,
    constraint: Option<Constraint>,
    /// The conversation as the proposers read it: without tools, which only the reply may call.
    prompt: Vec<u32>,
    draft_tokens: usize,
    proposers: Proposers,
    reservation: Reservation,
}

/// The three forms of a conversation in tokens, and the compiled grammar.
struct EncodedForms {
    as_sent: Vec<u32>,
    without_tools: Vec<u32>,
    with_empty_drafts: Vec<u32>,
    constraint: Option<Constraint>,
}

impl Aggregation {
    /// Reserves capacity for drafts and reply, and finds everything that can be wrong with the request before anything is
    /// generated. Returns `None` if the context has no space for drafts: then one model answers.
    pub(crate) async fn plan(
        state: &ServerState,
        engine: &Arc<Engine>,
        request: &ConversationRequest,
        proposers: Proposers,
        guard: InFlightGuard,
    ) -> Result<Option<Self>, ApiError> {
        let options = request.options.clone();
        let param = options.prompt_param;
        let reservation = Reservation::new(engine, options.n, proposers.adapters.len(), param, guard)?;
        let forms = encode_forms(engine, request, &proposers).await?;
        check_lengths(state, std::slice::from_ref(&forms.as_sent), param)?;

        let available = engine.context().saturating_sub(forms.with_empty_drafts.len());
        let Some(draft_tokens) = draft_budget(available, proposers.adapters.len(), options.max_tokens) else {
            return Ok(None);
        };
        let reply = Request {
            prompt: forms.with_empty_drafts,
            sampling: SamplingOptions {
                max_tokens: options.max_tokens.unwrap_or(1),
                ..options.sampling.clone()
            },
            adapter: options.adapter.clone(),
            constraint: forms.constraint.clone(),
        };
        engine
            .validate(&reply)
            .map_err(|error| ApiError::from_engine(&error, param))?;
        Ok(Some(Self {
            state: state.clone(),
            engine: Arc::clone(engine),
            conversation: Arc::clone(&request.conversation),
            options,
            constraint: forms.constraint,
            prompt: forms.without_tools,
            draft_tokens,
            proposers,
            reservation,
        }))
    }

    /// The number of completions that the reply will have.
    pub(crate) fn completions(&self) -> usize {
        self.options.n
    }

    /// Generates the drafts and starts the reply. Dropping it cancels both.
    pub(crate) async fn run(mut self) -> Result<DraftedReply, ApiError> {
        let param = self.options.prompt_param;
        let request = |adapter: &String| Request {
            prompt: self.prompt.clone(),
            sampling: SamplingOptions {
                max_tokens: self.draft_tokens,
                temperature: 0.0,
                ..self.state.options().defaults.options()
            },
            adapter: Some(adapter.clone()),
            constraint: None,
        };
        let requests = self.proposers.adapters.iter().map(request).collect();
        let drafting = Completions::submit_requests(&self.engine, requests, 1, param, &mut self.reservation)?;
        let (completions, spent) = drafting.collect().await?;
        let drafts: Vec<Draft> = completions
            .into_iter()
            .map(|completion| Draft {
                text: completion.text,
                tokens: completion.usage.completion_tokens,
                reason: completion.finish_reason,
            })
            .collect();
        self.state.decisions().add_drafts(self.proposers.entry, &drafts);

        let chat = self.engine.chat();
        let texts = drafts
            .iter()
            .map(|draft| truncate_to_tokens(chat, &draft.text, self.draft_tokens))
            .collect::<Result<Vec<String>, _>>()
            .map_err(|error| ApiError::from_chat(&error, param))?;
        let names = self.proposers.adapters.iter().map(String::as_str);
        let written: Vec<(&str, &str)> = names
            .zip(texts.iter().map(String::as_str))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let conversation = Conversation {
            messages: with_drafts(&self.conversation.messages, &written),
            tools: self.conversation.tools.clone(),
            template_arguments: self.conversation.template_arguments.clone(),
        };
        let prompt = Prompt::Chat(Arc::new(conversation));
        let encoded = encode_with_grammar(&self.engine, vec![prompt], param, None).await?;
        let longest = encoded.prompts.iter().map(Vec::len).max().unwrap_or(0);
        // Joining the texts can take a few more tokens than planned; they are taken from the reply.
        let available = self.engine.context().saturating_sub(longest).max(1);
        self.options.max_tokens = self.options.max_tokens.map(|limit| limit.min(available));
        let encoded = Encoded {
            constraint: self.constraint,
            ..encoded
        };
        let completions =
            Completions::submit(&self.engine, &self.options, encoded, self.reservation)?.with_prior_usage(spent);
        Ok(DraftedReply { completions, drafts })
    }
}

/// Encodes the conversation as it was sent, without tools, and with an empty draft of each proposer.
async fn encode_forms(
    engine: &Arc<Engine>,
    request: &ConversationRequest,
    proposers: &Proposers,
) -> Result<EncodedForms, ApiError> {
    let (conversation, grammar) = (Arc::clone(&request.conversation), request.grammar.clone());
    let (param, adapters) = (request.options.prompt_param, proposers.adapters.clone());
    blocking(engine, move |engine| {
        let Conversation { messages, tools, .. } = &*conversation;
        let encode = || -> Result<[Vec<u32>; 3], TokenizerError> {
            let chat = conversation.chat(engine.chat())?;
            let empty: Vec<(&str, &str)> = adapters.iter().map(|name| (name.as_str(), "")).collect();
            Ok([
                chat.encode_prompt_with_tools(messages, tools)?,
                chat.encode_prompt_with_tools(messages, &[])?,
                chat.encode_prompt_with_tools(&with_drafts(messages, &empty), tools)?,
            ])
        };
        let [as_sent, without_tools, with_empty_drafts] =
            encode().map_err(|error| ApiError::from_chat(&error, param))?;
        Ok(EncodedForms {
            as_sent,
            without_tools,
            with_empty_drafts,
            constraint: grammar.map(|grammar| grammar.compile(engine)).transpose()?,
        })
    })
    .await
}

/// Tokens per draft, so that all drafts and a reply fit into `available` tokens; `None` if that is too few to be useful.
fn draft_budget(available: usize, drafts: usize, max_tokens: Option<usize>) -> Option<usize> {
    let reply = max_tokens.unwrap_or(available / (drafts + 1));
    let share = (available.saturating_sub(reply) / drafts).min(MAX_DRAFT_TOKENS);
    let wanted = max_tokens.unwrap_or(MAX_DRAFT_TOKENS);
    (share >= MIN_DRAFT_TOKENS.min(wanted)).then(|| share.min(wanted))
}

/// A draft's text, cut to `limit` tokens: encoding a text can give more tokens than generating it took.
fn truncate_to_tokens(chat: &ChatTokenizer, text: &str, limit: usize) -> synapse_tokenizer::Result<String> {
    let text = text.trim();
    let tokens = chat.encode_text(text)?;
    if tokens.len() <= limit {
        return Ok(text.to_owned());
    }
    let cut = chat.decode(&tokens[..limit], true)?;
    // The cut may split a character.
    Ok(cut.trim_end_matches('\u{fffd}').to_owned())
}

/// The conversation with the drafts at the end of the last user turn; unchanged if there are none.
fn with_drafts(messages: &[Message], drafts: &[(&str, &str)]) -> Vec<Message> {
    let mut messages = messages.to_vec();
    if drafts.is_empty() {
        return messages;
    }
    let sections: Vec<String> = drafts
        .iter()
        .map(|(name, text)| format!("Draft by {name}:\n{text}"))
        .collect();
    let sections = sections.join("\n\n");
    let task = format!(
        "{sections}\n\nWrite the answer to the request from these drafts: keep what is right, leave out what is wrong or said \
         twice, and answer every part of the request."
    );
    match messages.last_mut() {
        Some(last) if last.role == "user" => last.content = format!("{}\n\n{task}", last.content),
        // For example after a tool's result.
        _ => messages.push(Message::new("user", task)),
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_and_reply_share_the_available_tokens() {
        assert_eq!(draft_budget(8000, 2, None), Some(MAX_DRAFT_TOKENS));
        assert_eq!(draft_budget(300, 2, None), Some(100));
        assert_eq!(draft_budget(300, 2, Some(40)), Some(40), "no longer than the reply");
        assert_eq!(draft_budget(300, 2, Some(200)), Some(50), "what the reply leaves");
        assert_eq!(draft_budget(300, 2, Some(5)), Some(5));
        for (available, max_tokens) in [(45, None), (0, None), (100, Some(90)), (20, Some(40))] {
            assert_eq!(
                draft_budget(available, 2, max_tokens),
                None,
                "{available} {max_tokens:?}"
            );
        }
    }

    #[test]
    fn drafts_stand_in_the_last_user_turn_or_in_a_new_one() {
        let asked = [Message::new("system", "Be brief."), Message::new("user", "Both?")];
        let told = with_drafts(&asked, &[("math", "4"), ("code", "print(4)")]);
        assert_eq!(told.len(), 2);
        assert!(
            told[1]
                .content
                .starts_with("Both?\n\nDraft by math:\n4\n\nDraft by code:\nprint(4)\n\nWrite"),
            "{}",
            told[1].content
        );
        assert_eq!(with_drafts(&asked, &[]), asked);
        let result = [asked[1].clone(), Message::new("tool", "4")];
        let told = with_drafts(&result, &[("math", "4")]);
        assert_eq!((told.len(), told[2].role.as_str()), (3, "user"));
    }
}
