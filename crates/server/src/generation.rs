//! From a parsed request to answers being generated: admission, submission, and the events of several answers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use synapse_engine::{
    Engine, Event, EventReceiver, Finish, FinishReason, Grammar, Permit, Request, SamplingOptions, Token, Usage,
};

use crate::ServerState;
use crate::error::ApiError;
use crate::prepare::{Prepared, Prompt, check_lengths, prepare};
use crate::state::Answering;

/// A request, understood.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) prompts: Vec<Prompt>,
    /// The field that the prompts came in, for errors.
    pub(crate) prompt_param: &'static str,
    /// Answers per prompt.
    pub(crate) n: usize,
    /// With the first answer's seed; further answers count on from it.
    pub(crate) sampling: SamplingOptions,
    /// `None` is as many as the context holds.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) adapter: Option<String>,
    /// What the answers must look like, and the field that says so.
    pub(crate) grammar: Option<(Grammar, &'static str)>,
}

/// The answers to one request while they are generated, `n` per prompt in the prompts' order. Dropping this
/// cancels them.
#[derive(Debug)]
pub(crate) struct Choices {
    receivers: Vec<Option<EventReceiver>>,
    /// Whose event is looked for first, so that no answer keeps the others waiting.
    turn: usize,
    /// Answers per prompt.
    n: usize,
    /// Of all prompts, each counted once, and of the answers that are complete.
    usage: Usage,
    _answering: Answering,
}

/// A request's places in the engine, and its place among those being answered: taken before any work is done for it, and
/// held from its first turn to its last.
#[derive(Debug)]
pub(crate) struct Place {
    permits: Permit,
    answering: Answering,
}

impl Place {
    /// Room for an order's answers, and for `drafts` that are made before them.
    pub(crate) fn take(engine: &Engine, order: &Order, drafts: usize, answering: Answering) -> Result<Self, ApiError> {
        let answers = order.prompts.len() * order.n + drafts;
        if answers > engine.capacity() {
            // No waiting would ever make room for it.
            let with = if drafts == 0 {
                ""
            } else {
                " and with the swarm's drafts"
            };
            let problem = format!(
                "times the prompts{with} is {answers}, but this server holds {}",
                engine.capacity()
            );
            return Err(ApiError::field("n", problem));
        }
        let permits = engine
            .admit(answers)
            .map_err(|error| ApiError::from_engine(&error, order.prompt_param))?;
        Ok(Self { permits, answering })
    }
}

impl Choices {
    /// Admits the request, encodes its prompts and submits it. A full engine refuses before anything is encoded.
    pub(crate) async fn start(
        state: &ServerState,
        engine: &Arc<Engine>,
        mut order: Order,
        answering: Answering,
    ) -> Result<Self, ApiError> {
        let place = Place::take(engine, &order, 0, answering)?;
        let (prompts, grammar) = (std::mem::take(&mut order.prompts), order.grammar.take());
        let prepared = prepare(engine, prompts, order.prompt_param, grammar).await?;
        check_lengths(state, &prepared.prompts, order.prompt_param)?;
        Self::submit(engine, &order, prepared, place)
    }

    /// Submits what is prepared, in the places taken for it.
    pub(crate) fn submit(
        engine: &Engine,
        order: &Order,
        prepared: Prepared,
        mut place: Place,
    ) -> Result<Self, ApiError> {
        let Prepared { prompts, constraint } = prepared;
        let mut requests = Vec::new();
        for prompt in prompts {
            let room = engine.context().saturating_sub(prompt.len()).max(1);
            for _ in 0..order.n {
                let sampling = SamplingOptions {
                    max_tokens: order.max_tokens.unwrap_or(room),
                    seed: order.sampling.seed.wrapping_add(requests.len() as u64),
                    ..order.sampling.clone()
                };
                requests.push(Request {
                    prompt: prompt.clone(),
                    sampling,
                    adapter: order.adapter.clone(),
                    constraint: constraint.clone(),
                });
            }
        }
        Self::of(engine, requests, order, &mut place)
    }

    /// Submits requests, `order.n` to a prompt, in places of which others may be left.
    pub(crate) fn of(
        engine: &Engine,
        requests: Vec<Request>,
        order: &Order,
        place: &mut Place,
    ) -> Result<Self, ApiError> {
        let prompts = requests.iter().step_by(order.n);
        let prompt_tokens = prompts.map(|request| request.prompt.len()).sum();
        let receivers = engine
            .submit_batch(requests, &mut place.permits)
            .map_err(|error| ApiError::from_engine(&error, order.prompt_param))?;
        Ok(Self {
            receivers: receivers.into_iter().map(Some).collect(),
            turn: 0,
            n: order.n,
            usage: Usage {
                prompt_tokens,
                ..Usage::default()
            },
            _answering: place.answering.again(),
        })
    }

    /// The same answers, after what was spent before them.
    #[must_use]
    pub(crate) fn after(mut self, spent: Usage) -> Self {
        self.usage.prompt_tokens += spent.prompt_tokens;
        self.usage.completion_tokens += spent.completion_tokens;
        self.usage.cached_tokens += spent.cached_tokens;
        self
    }

    /// Tokens of all prompts, each counted once, and of the answers that are complete.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Answers, finished or not.
    pub(crate) fn len(&self) -> usize {
        self.receivers.len()
    }

    /// The next event of any answer, with the answer's index; none once all are done. An answer that cannot be
    /// finished is an error.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(usize, Event), ApiError>>> {
        let count = self.receivers.len();
        for index in (self.turn..count).chain(0..self.turn) {
            let Some(receiver) = &mut self.receivers[index] else {
                continue;
            };
            let Poll::Ready(event) = receiver.poll_recv(context) else {
                continue;
            };
            self.turn = (index + 1) % count;
            return Poll::Ready(Some(match event {
                Some(event @ Event::Token(_)) => Ok((index, event)),
                Some(Event::Done(Finish {
                    reason: FinishReason::Cancelled,
                    ..
                }))
                | None => Err(ApiError::unavailable(
                    "the server shut down before the answer was complete",
                    "stopped",
                )),
                Some(event @ Event::Done(Finish { usage, .. })) => {
                    self.receivers[index] = None;
                    self.usage.completion_tokens += usage.completion_tokens;
                    if index % self.n == 0 {
                        self.usage.cached_tokens += usage.cached_tokens;
                    }
                    Ok((index, event))
                }
                Some(Event::Failed(message)) => Err(ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "server_error",
                    format!("generation failed: {message}"),
                )),
            }));
        }
        if self.receivers.iter().all(Option::is_none) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Waits for all answers.
    pub(crate) async fn collect(mut self) -> Result<(Vec<Answer>, Usage), ApiError> {
        let mut answers: Vec<Answer> = (0..self.len()).map(|_| Answer::default()).collect();
        while let Some(next) = poll_fn(|context| self.poll_next(context)).await {
            let (index, event) = next?;
            answers[index].take(event);
        }
        Ok((answers, self.usage))
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<Token>,
    /// Set once the answer is complete.
    pub(crate) reason: Option<FinishReason>,
    /// Tokens generated for it, those included that are not part of it, once it is complete.
    pub(crate) generated: usize,
}

impl Answer {
    fn take(&mut self, event: Event) {
        match event {
            Event::Token(token) => self.tokens.push(token),
            Event::Done(Finish { reason, usage, .. }) => {
                self.reason = Some(reason);
                self.generated = usage.completion_tokens;
            }
            // `poll_next` makes an error of it.
            Event::Failed(_) => {}
        }
    }

    pub(crate) fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect()
    }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}
