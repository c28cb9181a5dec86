//! Serves on a socket until told to stop, then until all accepted requests are answered.
//!
//! Connections are accepted here and not by axum's server, which has no timeout for a request's head. The timeout of the
//! body is in `read_timeout`.

use std::future::Future;

use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::{ServerError, ServerState, router};

/// Serves until `shutdown` ends. Then it refuses new requests with 503, waits for the accepted ones, and returns.
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
    let mut server = tokio::spawn(accept(state.clone(), listener, closed));
    let ended =
        |result: Result<(), tokio::task::JoinError>| result.map_err(|error| std::io::Error::other(error).into());

    tokio::select! {
        result = &mut server => return ended(result),
        () = shutdown => state.in_flight().start_draining(),
    }
    let limit = state.options().drain;
    let drain = async {
        state.in_flight().finished().await;
        // The last events may not be sent yet: each connection closes once it has sent them.
        drop(close);
        ended((&mut server).await)
    };
    if let Ok(result) = tokio::time::timeout(limit, drain).await {
        return result;
    }
    server.abort();
    match state.in_flight().count() {
        // Only idle connections were left open.
        0 => Ok(()),
        unfinished => Err(ServerError::DrainDeadline {
            unfinished,
            seconds: limit.as_secs(),
        }),
    }
}

/// Accepts connections until `closed` ends, then serves the open ones until each has its response.
async fn accept(state: ServerState, mut listener: TcpListener, closed: oneshot::Receiver<()>) {
    let service = TowerToHyperService::new(router(state.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(state.options().read_timeout);
    let connections = GracefulShutdown::new();
    tokio::pin!(closed);
    loop {
        // axum's listener waits when file descriptors run out, and then continues.
        let (socket, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            // A dropped sender means the same.
            _ = &mut closed => break,
        };
        // Without TCP_NODELAY, a token would wait for the acknowledgement of the previous one. A failure only costs speed.
        let _ = socket.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(socket), service.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // A client that disconnects is not an error.
            let _ = connection.await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}
