//! How long a client may take to send a request's body: one that sends a byte now and then holds no connection for ever.
//!
//! The head has the same limit (`serve`). What a request's answer takes is no matter of either.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::ServerState;

/// A body that did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come within {0} s")]
pub(crate) struct TooSlow(f64);

/// Gives a request's body its time, counted from its head.
pub(crate) async fn limit(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let patience = state.options().patience;
    let in_time = |body: Body| {
        Body::from_stream(InTime {
            data: body.into_data_stream(),
            deadline: Box::pin(tokio::time::sleep(patience)),
            seconds: patience.as_secs_f64(),
        })
    };
    next.run(request.map(in_time)).await
}

struct InTime {
    data: BodyDataStream,
    deadline: Pin<Box<Sleep>>,
    seconds: f64,
}

impl Stream for InTime {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(next) = Pin::new(&mut self.data).poll_next(context) {
            return Poll::Ready(next.map(|data| data.map_err(Into::into)));
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow(self.seconds).into())))
    }
}

/// The slowness that an error comes from, if it does.
pub(crate) fn too_slow<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e TooSlow> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(slow) = this.downcast_ref() {
            return Some(slow);
        }
        error = this.source();
    }
    None
}
