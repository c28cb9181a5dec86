//! Several specialists for one request: each drafts an answer, all in one batch, and the base writes the reply from them.
//!
//! The base writes it, not the specialist of the highest score: a specialist has learned to answer its own domain in its own
//! form, and here a text of another domain is to be kept whole. What a request says of its answer (sampling, seed, `n`, stops,
//! tools, form) is said of the reply. Drafts take the likeliest token each time, so that one conversation has one set of them,
//! and `max_tokens` bounds them too: no draft is longer than the reply may be.
//!
//! Who is asked is decided elsewhere (`swarm`).

use std::sync::Arc;

use serde_json::Value;
use synapse_engine::{Constraint, Engine, FinishReason, Request, SamplingOptions};
use synapse_tokenizer::{ChatTokenizer, Message};

use crate::ServerState;
use crate::error::ApiError;
use crate::generation::{Choices, Order, Place};
use crate::prepare::{Prepared, Prompt, check_lengths, prepare};
use crate::routing_trace::Entry;
use crate::state::Answering;

/// Tokens of a draft, at most.
const LONGEST_DRAFT: usize = 256;
/// A draft of fewer tokens than this tells nothing: where the context has no room for it, the base answers alone.
const SHORTEST_DRAFT: usize = 16;

/// What one specialist wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) reason: Option<FinishReason>,
}

/// A reply being written, with the drafts it is written from, in the order of the specialists asked.
pub(crate) struct Drafted {
    pub(crate) choices: Choices,
    pub(crate) drafts: Vec<Draft>,
}

/// What the decision asks of whom.
pub(crate) struct Panel {
    /// The specialists, by adapter.
    pub(crate) specialists: Vec<String>,
    /// The decision in the trace, which the drafts are added to.
    pub(crate) entry: Entry,
}

/// A request whose places are taken and whose texts are encoded, before its first draft.
pub(crate) struct Synthesis {
    state: ServerState,
    engine: Arc<Engine>,
    /// Without prompts and grammar.
    order: Order,
    messages: Vec<Message>,
    tools: Vec<Value>,
    constraint: Option<Constraint>,
    /// The conversation as the specialists read it: without tools, which only the reply may call.
    prompt: Vec<u32>,
    draft_tokens: usize,
    panel: Panel,
    place: Place,
}

/// A request that several specialists are to answer, or the same request where there is no room for drafts.
pub(crate) enum Planned {
    Drafts(Box<Synthesis>),
    Alone(Box<Order>),
}

impl Synthesis {
    /// Takes places for drafts and answers, and checks all that can be wrong with a request before anything is generated.
    pub(crate) async fn plan(
        state: &ServerState,
        engine: &Arc<Engine>,
        mut order: Order,
        panel: Panel,
        answering: Answering,
    ) -> Result<Planned, ApiError> {
        let place = Place::take(engine, &order, panel.specialists.len(), answering)?;
        let [Prompt::Messages(messages, tools)] = order.prompts.as_slice() else {
            return Err(ApiError::internal("only a conversation can be drafted"));
        };
        let (messages, tools) = (messages.clone(), tools.clone());
        let blank: Vec<(&str, &str)> = panel.specialists.iter().map(|name| (name.as_str(), "")).collect();
        let prompts = vec![
            Prompt::Messages(messages.clone(), tools.clone()),
            Prompt::Messages(messages.clone(), Vec::new()),
            Prompt::Messages(with_drafts(&messages, &blank), tools.clone()),
        ];
        let prepared = prepare(engine, prompts, order.prompt_param, order.grammar.clone()).await?;
        let [sent, prompt, framed] = prepared.prompts.as_slice() else {
            return Err(ApiError::internal("three prompts were not encoded as three"));
        };
        check_lengths(state, std::slice::from_ref(sent), order.prompt_param)?;

        let room = engine.context().saturating_sub(framed.len());
        let share = share(room, panel.specialists.len(), order.max_tokens);
        let Some(draft_tokens) = share else {
            return Ok(Planned::Alone(Box::new(order)));
        };
        let reply = Request {
            prompt: framed.clone(),
            sampling: SamplingOptions {
                max_tokens: order.max_tokens.unwrap_or(1),
                ..order.sampling.clone()
            },
            adapter: order.adapter.clone(),
            constraint: prepared.constraint.clone(),
        };
        let refused = |error| ApiError::from_engine(&error, order.prompt_param);
        engine.validate(&reply).map_err(refused)?;
        let prompt = prompt.clone();
        order.prompts.clear();
        order.grammar = None;
        Ok(Planned::Drafts(Box::new(Self {
            state: state.clone(),
            engine: Arc::clone(engine),
            order,
            messages,
            tools,
            constraint: prepared.constraint,
            prompt,
            draft_tokens,
            panel,
            place,
        })))
    }

    /// Answers that the reply will have.
    pub(crate) fn answers(&self) -> usize {
        self.order.n
    }

    /// Has the drafts made and starts the reply. Dropping it cancels whichever runs.
    pub(crate) async fn run(mut self) -> Result<Drafted, ApiError> {
        let request = |specialist: &String| Request {
            prompt: self.prompt.clone(),
            sampling: SamplingOptions {
                max_tokens: self.draft_tokens,
                temperature: 0.0,
                ..self.state.options().defaults.options()
            },
            adapter: Some(specialist.clone()),
            constraint: None,
        };
        let requests = self.panel.specialists.iter().map(request).collect();
        let one_each = Order {
            n: 1,
            ..self.order.clone()
        };
        let drafting = Choices::of(&self.engine, requests, &one_each, &mut self.place)?;
        let (answers, spent) = drafting.collect().await?;
        let drafts: Vec<Draft> = answers
            .iter()
            .map(|answer| Draft {
                text: answer.text(),
                tokens: answer.generated,
                reason: answer.reason,
            })
            .collect();
        self.state.trace().drafted(self.panel.entry, &drafts);

        let read = drafts
            .iter()
            .map(|draft| readable(self.engine.chat(), &draft.text, self.draft_tokens));
        let read = read.collect::<Result<Vec<String>, _>>();
        let texts = read.map_err(|error| ApiError::from_chat(&error, self.order.prompt_param))?;
        let names = self.panel.specialists.iter().map(String::as_str);
        let said: Vec<(&str, &str)> = names
            .zip(texts.iter().map(String::as_str))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let prompt = Prompt::Messages(with_drafts(&self.messages, &said), self.tools);
        let encoded = prepare(&self.engine, vec![prompt], self.order.prompt_param, None).await?;
        let longest = encoded.prompts.iter().map(Vec::len).max().unwrap_or(0);
        // What the seams between the texts cost is taken from the reply.
        let room = self.engine.context().saturating_sub(longest).max(1);
        self.order.max_tokens = self.order.max_tokens.map(|limit| limit.min(room));
        let prepared = Prepared {
            prompts: encoded.prompts,
            constraint: self.constraint,
        };
        let choices = Choices::submit(&self.engine, &self.order, prepared, self.place)?.after(spent);
        Ok(Drafted { choices, drafts })
    }
}

/// Tokens that each draft may have, so that all of them and a reply go into `room` tokens; none if that is too few to say
/// anything.
fn share(room: usize, drafts: usize, max_tokens: Option<usize>) -> Option<usize> {
    let reply = max_tokens.unwrap_or(room / (drafts + 1));
    let share = (room.saturating_sub(reply) / drafts).min(LONGEST_DRAFT);
    let wanted = max_tokens.unwrap_or(LONGEST_DRAFT);
    (share >= SHORTEST_DRAFT.min(wanted)).then(|| share.min(wanted))
}

/// A draft's text in as many tokens as it was given: read, a text may be more of them than when it was generated.
fn readable(chat: &ChatTokenizer, text: &str, limit: usize) -> synapse_tokenizer::Result<String> {
    let text = text.trim();
    let tokens = chat.encode_text(text)?;
    if tokens.len() <= limit {
        return Ok(text.to_owned());
    }
    let cut = chat.decode(&tokens[..limit], true)?;
    // The cut may go through a character.
    Ok(cut.trim_end_matches('\u{fffd}').to_owned())
}

/// The conversation with the drafts at its end, in the user's turn; the conversation itself without any.
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
        // After a tool's result, say.
        _ => messages.push(Message::new("user", task)),
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_and_reply_share_the_room_there_is() {
        assert_eq!(share(8000, 2, None), Some(LONGEST_DRAFT));
        assert_eq!(share(300, 2, None), Some(100));
        assert_eq!(share(300, 2, Some(40)), Some(40), "no longer than the reply");
        assert_eq!(share(300, 2, Some(200)), Some(50), "what the reply leaves");
        assert_eq!(share(300, 2, Some(5)), Some(5));
        for (room, max_tokens) in [(45, None), (0, None), (100, Some(90)), (20, Some(40))] {
            assert_eq!(share(room, 2, max_tokens), None, "{room} {max_tokens:?}");
        }
    }

    #[test]
    fn drafts_stand_in_the_last_user_turn_or_in_one_of_their_own() {
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
