//! The server's life on a socket: until told to stop, then until accepted requests are answered.
//!
//! Connections are accepted here and not by axum, whose server waits for a request's head for ever. How long a body may take
//! is up to `patience`.

use std::future::Future;

use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
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
    let mut server = tokio::spawn(accept(state.clone(), listener, closed));
    let ended =
        |result: Result<(), tokio::task::JoinError>| result.map_err(|error| std::io::Error::other(error).into());

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

/// Answers on every connection until `closed` ends; then on the open ones, until each has had the answer it waits for.
async fn accept(state: ServerState, mut listener: TcpListener, closed: oneshot::Receiver<()>) {
    let service = TowerToHyperService::new(router(state.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(state.options().patience);
    let connections = GracefulShutdown::new();
    tokio::pin!(closed);
    loop {
        // Axum's way of accepting: it waits where there are no more descriptors, and goes on.
        let (socket, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            // A dropped sender means the same.
            _ = &mut closed => break,
        };
        // A token is a packet of its own; held back for the next one it would wait for the client's acknowledgement. Where
        // the socket refuses, it only is slower.
        let _ = socket.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(socket), service.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // A client that broke off, or was cut off, is nobody's failure.
            let _ = connection.await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}
