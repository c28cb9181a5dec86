//! Limits how long a client may take to send a request's body, so that a slow client cannot hold a connection forever.
//!
//! The head has the same limit (`serve`). Neither limit covers generating the response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::ServerState;

/// A body that did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive within {0} s")]
pub(crate) struct BodyTimeout(f64);

/// Applies the timeout to a request's body, counted from its head.
pub(crate) async fn limit(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let timeout = state.options().read_timeout;
    let with_deadline = |body: Body| {
        Body::from_stream(BodyWithDeadline {
            data: body.into_data_stream(),
            deadline: Box::pin(tokio::time::sleep(timeout)),
            seconds: timeout.as_secs_f64(),
        })
    };
    next.run(request.map(with_deadline)).await
}

struct BodyWithDeadline {
    data: BodyDataStream,
    deadline: Pin<Box<Sleep>>,
    seconds: f64,
}

impl Stream for BodyWithDeadline {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(next) = Pin::new(&mut self.data).poll_next(context) {
            return Poll::Ready(next.map(|data| data.map_err(Into::into)));
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyTimeout(self.seconds).into())))
    }
}

/// The timeout that caused an error, if one did.
pub(crate) fn too_slow<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e BodyTimeout> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(timeout) = this.downcast_ref() {
            return Some(timeout);
        }
        error = this.source();
    }
    None
}
