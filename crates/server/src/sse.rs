//! Server-sent events: one JSON chunk an event as tokens arrive, then `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use synapse_engine::{Finish, FinishReason, Token, Usage};
use tokio_stream::Stream;

use crate::error::ApiError;
use crate::generation::Choices;
use crate::synthesis::{Draft, Drafted, Synthesis};

/// How a route writes its chunks.
pub(crate) trait Transcript: Send + Unpin + 'static {
    /// Before the first token.
    fn opening(&mut self, choices: usize) -> Vec<Value>;
    /// Drafts that the answers are written from, before the first token.
    fn drafted(&mut self, _: Vec<Draft>) {}
    /// A token of an answer; nothing if it shows nothing yet.
    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value>;
    /// An answer's end.
    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value>;
    /// After the last answer's end.
    fn closing(&mut self, usage: Usage) -> Option<Value>;
}

/// Answers that are to be streamed.
enum Source {
    /// They are being generated.
    Answers(Choices),
    /// Drafts come first; nothing of them is streamed, but the client knows meanwhile that it was heard.
    Drafts(Pin<Box<dyn Future<Output = Result<Drafted, ApiError>> + Send>>),
    /// The last event is in `ready`.
    Ended,
}

/// Streams the answers. When the client goes away the stream is dropped, and with it the answers.
pub(crate) fn respond(choices: Choices, transcript: impl Transcript, keep_alive: Duration) -> Response {
    let answers = choices.len();
    stream(Source::Answers(choices), answers, transcript, keep_alive)
}

/// Streams the answers that are written from drafts.
pub(crate) fn respond_drafted(synthesis: Synthesis, transcript: impl Transcript, keep_alive: Duration) -> Response {
    let answers = synthesis.answers();
    stream(
        Source::Drafts(Box::pin(synthesis.run())),
        answers,
        transcript,
        keep_alive,
    )
}

fn stream(source: Source, answers: usize, mut transcript: impl Transcript, keep_alive: Duration) -> Response {
    let ready = transcript.opening(answers).iter().map(chunk).collect();
    let stream = ChunkStream {
        source,
        transcript,
        ready,
    };
    let keep_alive = KeepAlive::new().interval(keep_alive).text("keep-alive");
    let mut response = Sse::new(stream).keep_alive(keep_alive).into_response();
    // nginx would otherwise collect the stream and deliver it whole.
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
    transcript: T,
    ready: VecDeque<SseEvent>,
}

impl<T: Transcript> ChunkStream<T> {
    fn take(&mut self, next: Option<Result<(usize, synapse_engine::Event), ApiError>>) {
        use synapse_engine::Event;
        match next {
            Some(Ok((choice, Event::Token(token)))) => {
                let chunks = self.transcript.token(choice, &token);
                self.ready.extend(chunks.iter().map(chunk));
            }
            Some(Ok((choice, Event::Done(Finish { reason, .. })))) => {
                self.ready
                    .extend(self.transcript.finish(choice, reason).iter().map(chunk));
            }
            Some(Ok((_, Event::Failed(message)))) => self.fail(&ApiError::internal(message)),
            Some(Err(error)) => self.fail(&error),
            None => {
                let total = match std::mem::replace(&mut self.source, Source::Ended) {
                    Source::Answers(choices) => choices.usage(),
                    Source::Drafts(_) | Source::Ended => Usage::default(),
                };
                let closing = self.transcript.closing(total);
                self.ready.extend(closing.as_ref().map(chunk));
                self.ready.push_back(SseEvent::default().data("[DONE]"));
            }
        }
    }

    /// The status is long sent: the error is the last event, and clients raise it.
    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(chunk(&error.body()));
        self.source = Source::Ended;
    }
}

impl<T: Transcript> Stream for ChunkStream<T> {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut self.source {
                Source::Answers(choices) => {
                    let next = ready!(choices.poll_next(context));
                    self.take(next);
                }
                Source::Drafts(drafting) => match ready!(drafting.as_mut().poll(context)) {
                    Ok(Drafted { choices, drafts }) => {
                        self.transcript.drafted(drafts);
                        self.source = Source::Answers(choices);
                    }
                    Err(error) => self.fail(&error),
                },
                Source::Ended => return Poll::Ready(None),
            }
        }
    }
}
