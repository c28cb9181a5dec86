//! The server's life on a socket: until told to stop, then until accepted requests are answered.

use std::future::Future;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::{ServerError, ServerState, router};

/// Serves until `shutdown` ends, then refuses new requests with 503, lets the accepted ones finish, and returns.
///
/// While draining the socket still listens, so that a load balancer sees `/health` answer 503 instead of nothing.
///
/// # Errors
/// The socket's failure, or [`ServerError::DrainDeadline`] if requests were still running after
/// [`crate::ServerOptions::drain`]; what still runs ends with the runtime.
pub async fn serve(
    state: ServerState,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(state.clone())).with_graceful_shutdown(async {
        // A dropped sender means the same.
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    let ended = |result: Result<std::io::Result<()>, tokio::task::JoinError>| {
        result
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(ServerError::from)
    };

    tokio::select! {
        result = &mut server => return ended(result),
        () = shutdown => state.start_draining(),
    }
    let limit = state.options().drain;
    let drain = async {
        state.finished().await;
        // The last events may still be on their way: the socket closes each connection once it has sent them.
        drop(close);
        ended((&mut server).await)
    };
    if let Ok(result) = tokio::time::timeout(limit, drain).await {
        return result;
    }
    server.abort();
    match state.unfinished() {
        // Only idle connections were left open.
        0 => Ok(()),
        unfinished => Err(ServerError::DrainDeadline {
            unfinished,
            seconds: limit.as_secs(),
        }),
    }
}
