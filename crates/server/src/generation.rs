//! A validated generation request, and its completions while they are generated.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use synapse_engine::{
    Completion, Engine, Event, EventReceiver, Finish, FinishReason, Request, SamplingOptions, Token, TokenLogprob,
    Usage,
};

use crate::ServerState;
use crate::drain::InFlightGuard;
use crate::encoding::{Conversation, Encoded, FieldGrammar, Prompt, check_lengths, encode_with_grammar};
use crate::error::ApiError;
use crate::reservation::Reservation;

/// A request to continue one conversation.
#[derive(Debug)]
pub(crate) struct ConversationRequest {
    pub(crate) conversation: Arc<Conversation>,
    pub(crate) options: GenerationOptions,
    pub(crate) grammar: Option<FieldGrammar>,
}

/// How the prompts of a request are continued.
#[derive(Debug, Clone)]
pub(crate) struct GenerationOptions {
    /// The field of the prompts, for errors.
    pub(crate) prompt_param: &'static str,
    /// Completions per prompt.
    pub(crate) n: usize,
    /// With the seed of the first completion; each further completion adds one.
    pub(crate) sampling: SamplingOptions,
    /// `None` is the rest of the context.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) adapter: Option<String>,
}

/// The completions of one request while they are generated, `n` per prompt in the order of the prompts. Dropping it
/// cancels them.
#[derive(Debug)]
pub(crate) struct Completions {
    receivers: Vec<Option<EventReceiver>>,
    /// The completion that is polled first, so that none starves the others.
    next: usize,
    /// Completions per prompt.
    n: usize,
    /// Of all prompts, each counted once, and of the completions that have ended.
    usage: Usage,
    _guard: InFlightGuard,
}

/// One step of a completion that does not fail.
#[derive(Debug)]
pub(crate) enum ChoiceEvent {
    /// The log-probabilities of the prompt, before the first token, if they were requested.
    Prompt(Vec<TokenLogprob>),
    Token(Token),
    Done(Finish),
}

impl Completions {
    /// Admits the request, encodes its conversation and submits it. A full engine refuses before anything is encoded.
    pub(crate) async fn start(
        state: &ServerState,
        engine: &Arc<Engine>,
        request: ConversationRequest,
        guard: InFlightGuard,
    ) -> Result<Self, ApiError> {
        let ConversationRequest {
            conversation,
            options,
            grammar,
        } = request;
        let param = options.prompt_param;
        let reservation = Reservation::new(engine, options.n, 0, param, guard)?;
        let prompts = vec![Prompt::Chat(conversation)];
        let encoded = encode_with_grammar(engine, prompts, param, grammar).await?;
        check_lengths(state, &encoded.prompts, param)?;
        Self::submit(engine, &options, encoded, reservation)
    }

    /// Submits encoded prompts, `options.n` completions for each.
    pub(crate) fn submit(
        engine: &Engine,
        options: &GenerationOptions,
        encoded: Encoded,
        mut reservation: Reservation,
    ) -> Result<Self, ApiError> {
        let Encoded { prompts, constraint } = encoded;
        let mut requests = Vec::new();
        for prompt in prompts {
            let remaining = engine.context().saturating_sub(prompt.len()).max(1);
            for _ in 0..options.n {
                let sampling = SamplingOptions {
                    max_tokens: options.max_tokens.unwrap_or(remaining),
                    seed: options.sampling.seed.wrapping_add(requests.len() as u64),
                    ..options.sampling.clone()
                };
                requests.push(Request {
                    prompt: prompt.clone(),
                    sampling,
                    adapter: options.adapter.clone(),
                    constraint: constraint.clone(),
                });
            }
        }
        Self::submit_requests(engine, requests, options.n, options.prompt_param, &mut reservation)
    }

    /// Submits requests, `n` per prompt, under a reservation that may cover more.
    pub(crate) fn submit_requests(
        engine: &Engine,
        requests: Vec<Request>,
        n: usize,
        param: &str,
        reservation: &mut Reservation,
    ) -> Result<Self, ApiError> {
        let prompts = requests.iter().step_by(n);
        let prompt_tokens = prompts.map(|request| request.prompt.len()).sum();
        let (receivers, guard) = reservation.submit(engine, requests, param)?;
        Ok(Self {
            receivers: receivers.into_iter().map(Some).collect(),
            next: 0,
            n,
            usage: Usage {
                prompt_tokens,
                ..Usage::default()
            },
            _guard: guard,
        })
    }

    /// Adds tokens that were spent before these completions.
    #[must_use]
    pub(crate) fn with_prior_usage(mut self, spent: Usage) -> Self {
        self.usage.prompt_tokens += spent.prompt_tokens;
        self.usage.completion_tokens += spent.completion_tokens;
        self.usage.cached_tokens += spent.cached_tokens;
        self
    }

    /// Tokens of all prompts, each counted once, and of the completions that have ended.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// The number of completions, ended or not.
    pub(crate) fn len(&self) -> usize {
        self.receivers.len()
    }

    /// The next event of any completion, with its index; `None` once all have ended. A completion that fails or is cut off
    /// is an error.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<(usize, ChoiceEvent), ApiError>>> {
        let count = self.receivers.len();
        for index in (self.next..count).chain(0..self.next) {
            let Some(receiver) = &mut self.receivers[index] else {
                continue;
            };
            if let Poll::Ready(event) = receiver.poll_recv(context) {
                self.next = (index + 1) % count;
                return Poll::Ready(Some(self.accept(index, event).map(|event| (index, event))));
            }
        }
        if self.receivers.iter().all(Option::is_none) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    fn accept(&mut self, index: usize, event: Option<Event>) -> Result<ChoiceEvent, ApiError> {
        match event {
            Some(Event::PromptLogprobs(logprobs)) => Ok(ChoiceEvent::Prompt(logprobs)),
            Some(Event::Token(token)) => Ok(ChoiceEvent::Token(token)),
            Some(Event::Done(finish)) if finish.reason != FinishReason::Cancelled => {
                self.receivers[index] = None;
                self.usage.completion_tokens += finish.usage.completion_tokens;
                if index.is_multiple_of(self.n) {
                    self.usage.cached_tokens += finish.usage.cached_tokens;
                }
                Ok(ChoiceEvent::Done(finish))
            }
            Some(Event::Done(_)) | None => Err(ApiError::unavailable(
                "the server shut down before the answer was complete",
                "stopped",
            )),
            Some(Event::Failed(message)) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                format!("generation failed: {message}"),
            )),
        }
    }

    /// Waits for all completions.
    pub(crate) async fn collect(mut self) -> Result<(Vec<Completion>, Usage), ApiError> {
        let mut tokens: Vec<Vec<Token>> = vec![Vec::new(); self.len()];
        let mut prompts: Vec<Vec<TokenLogprob>> = vec![Vec::new(); self.len()];
        let mut completions: Vec<Option<Completion>> = vec![None; self.len()];
        while let Some(next) = poll_fn(|context| self.poll_next(context)).await {
            match next? {
                (index, ChoiceEvent::Prompt(logprobs)) => prompts[index] = logprobs,
                (index, ChoiceEvent::Token(token)) => tokens[index].push(token),
                (index, ChoiceEvent::Done(finish)) => {
                    completions[index] = Some(Completion {
                        prompt_logprobs: std::mem::take(&mut prompts[index]),
                        ..Completion::new(std::mem::take(&mut tokens[index]), finish)
                    });
                }
            }
        }
        Ok((completions.into_iter().flatten().collect(), self.usage))
    }
}
