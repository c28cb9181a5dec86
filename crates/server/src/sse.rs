//! Server-sent events: one JSON chunk per event as tokens arrive, then `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use synapse_engine::{FinishReason, Token, TokenLogprob, Usage};
use tokio_stream::Stream;

use crate::aggregation::{Aggregation, DraftedReply};
use crate::error::ApiError;
use crate::generation::{ChoiceEvent, Completions};
use crate::router::Draft;

/// How a route writes its chunks.
pub(crate) trait ChunkWriter: Send + Unpin + 'static {
    /// Before the first token.
    fn opening(&mut self, choices: usize) -> Vec<Value>;
    /// The drafts that the reply is written from, before the first token.
    fn drafts(&mut self, _: Vec<Draft>) {}
    /// The log-probabilities of a completion's prompt, if they were requested.
    fn prompt(&mut self, _choice: usize, _logprobs: Vec<TokenLogprob>) -> Vec<Value> {
        Vec::new()
    }
    /// A token of a completion; empty if there is nothing to show yet.
    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value>;
    /// The end of a completion.
    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value>;
    /// After the end of the last completion.
    fn closing(&mut self, usage: Usage) -> Option<Value>;
}

/// Where the events of a stream come from.
enum Source {
    /// The completions.
    Completions(Completions),
    /// Drafts, which are not streamed; keep-alive comments are sent until the reply starts.
    Drafts(Pin<Box<dyn Future<Output = Result<DraftedReply, ApiError>> + Send>>),
    /// The last event is in `ready`.
    Ended,
}

/// Streams completions. When the client disconnects, the stream is dropped and with it the completions.
pub(crate) fn respond(completions: Completions, writer: impl ChunkWriter, keep_alive: Duration) -> Response {
    let count = completions.len();
    stream(Source::Completions(completions), count, writer, keep_alive)
}

/// Streams a reply that is written from drafts.
pub(crate) fn respond_drafted(aggregation: Aggregation, writer: impl ChunkWriter, keep_alive: Duration) -> Response {
    let count = aggregation.completions();
    stream(Source::Drafts(Box::pin(aggregation.run())), count, writer, keep_alive)
}

fn stream(source: Source, count: usize, mut writer: impl ChunkWriter, keep_alive: Duration) -> Response {
    let ready = writer.opening(count).iter().map(chunk).collect();
    let stream = ChunkStream { source, writer, ready };
    let keep_alive = KeepAlive::new().interval(keep_alive).text("keep-alive");
    let mut response = Sse::new(stream).keep_alive(keep_alive).into_response();
    // nginx would otherwise buffer the stream.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

fn chunk(value: &Value) -> SseEvent {
    SseEvent::default().data(value.to_string())
}

struct ChunkStream<T> {
    source: Source,
    writer: T,
    ready: VecDeque<SseEvent>,
}

impl<T: ChunkWriter> ChunkStream<T> {
    fn accept(&mut self, next: Option<Result<(usize, ChoiceEvent), ApiError>>) {
        match next {
            Some(Ok((choice, ChoiceEvent::Prompt(logprobs)))) => {
                let chunks = self.writer.prompt(choice, logprobs);
                self.ready.extend(chunks.iter().map(chunk));
            }
            Some(Ok((choice, ChoiceEvent::Token(token)))) => {
                let chunks = self.writer.token(choice, &token);
                self.ready.extend(chunks.iter().map(chunk));
            }
            Some(Ok((choice, ChoiceEvent::Done(finish)))) => {
                let chunks = self.writer.finish(choice, finish.reason);
                self.ready.extend(chunks.iter().map(chunk));
            }
            Some(Err(error)) => self.fail(&error),
            None => {
                let total = match std::mem::replace(&mut self.source, Source::Ended) {
                    Source::Completions(completions) => completions.usage(),
                    Source::Drafts(_) | Source::Ended => Usage::default(),
                };
                let closing = self.writer.closing(total);
                self.ready.extend(closing.as_ref().map(chunk));
                self.ready.push_back(SseEvent::default().data("[DONE]"));
            }
        }
    }

    /// The status has been sent, so the error is the last event.
    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(chunk(&error.body()));
        self.source = Source::Ended;
    }
}

impl<T: ChunkWriter> Stream for ChunkStream<T> {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut self.source {
                Source::Completions(completions) => {
                    let next = ready!(completions.poll_next(context));
                    self.accept(next);
                }
                Source::Drafts(drafting) => match ready!(drafting.as_mut().poll(context)) {
                    Ok(DraftedReply { completions, drafts }) => {
                        self.writer.drafts(drafts);
                        self.source = Source::Completions(completions);
                    }
                    Err(error) => self.fail(&error),
                },
                Source::Ended => return Poll::Ready(None),
            }
        }
    }
}
