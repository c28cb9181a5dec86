//! From a parsed request to answers being generated: admission, submission, and the events of several answers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use synapse_engine::{
    Engine, EngineError, Event, FinishReason, Grammar, Receiver, Request, SamplingOptions, TokenLogprob, Usage,
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
    receivers: Vec<Option<Receiver>>,
    /// Whose event is looked for first, so that no answer keeps the others waiting.
    turn: usize,
    /// Answers per prompt.
    n: usize,
    /// Of all prompts, each counted once, and of the answers that are complete.
    usage: Usage,
    _answering: Answering,
}

impl Choices {
    /// Admits the request, encodes its prompts and submits it. A full engine refuses before anything is encoded.
    pub(crate) async fn start(state: &ServerState, engine: &Arc<Engine>, order: Order) -> Result<Self, ApiError> {
        // Counted before the last look at the drain, so that draining either sees this request or refuses it.
        let answering = state.answering();
        state.engine()?;
        let param = order.prompt_param;
        let refused = |error: &EngineError| ApiError::from_engine(error, param);
        let answers = order.prompts.len() * order.n;
        if answers > engine.capacity() {
            // No waiting would ever make room for it.
            let problem = format!(
                "times the prompts is {answers}, but this server holds {}",
                engine.capacity()
            );
            return Err(ApiError::field("n", problem));
        }
        let mut permits = engine.admit(answers).map_err(|error| refused(&error))?;
        let Prepared { prompts, constraint } = prepare(engine, order.prompts, param, order.grammar).await?;
        check_lengths(state, &prompts, param)?;

        let mut requests = Vec::new();
        for prompt in &prompts {
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
        let receivers = engine
            .submit_together(requests, &mut permits)
            .map_err(|error| refused(&error))?;
        Ok(Self {
            receivers: receivers.into_iter().map(Some).collect(),
            turn: 0,
            n: order.n,
            usage: Usage {
                prompt_tokens: prompts.iter().map(Vec::len).sum(),
                ..Usage::default()
            },
            _answering: answering,
        })
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
                Some(event @ Event::Token { .. }) => Ok((index, event)),
                Some(Event::Done {
                    reason: FinishReason::Cancelled,
                    ..
                })
                | None => Err(ApiError::unavailable(
                    "the server shut down before the answer was complete",
                    "stopped",
                )),
                Some(event @ Event::Done { usage, .. }) => {
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
}

/// A token of an answer.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) logprob: Option<TokenLogprob>,
}

impl Answer {
    fn take(&mut self, event: Event) {
        match event {
            Event::Token { id, text, logprob } => self.tokens.push(Token { id, text, logprob }),
            Event::Done { reason, .. } => self.reason = Some(reason),
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
