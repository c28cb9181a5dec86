//! The server over a model without weights, to try clients and the chat page against.
//!
//! ```sh
//! cargo run --release -p synapse-server --example mock -- [PORT] [MILLISECONDS PER TOKEN]
//! ```

#![expect(clippy::print_stderr, reason = "a program's talk goes to stderr")]
#![expect(
    dead_code,
    reason = "the mock serves several tests, and no one of them uses all of it"
)]

#[path = "../../engine/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{MockModel, Speech};
use synapse_engine::{Engine, EngineOptions};
use synapse_server::{ServerOptions, ServerState, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(6900), |text| text.parse())?;
    let delay: u64 = arguments.next().map_or(Ok(80), |text| text.parse())?;

    let folder = tempfile::tempdir()?;
    let model = MockModel {
        delay: Duration::from_millis(delay),
        ..MockModel::new(Speech::Script, 1)
    };
    let adapters = model.named_adapters();
    let engine = Engine::start(
        Arc::new(model),
        support::chat(folder.path()),
        adapters,
        EngineOptions::default(),
    );
    let state = ServerState::new(ServerOptions::new("mock"), Arc::new(engine))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let stopped = async {
        // Without a signal handler there is no clean stop, but serving goes on.
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(state, listener, stopped).await?;
    Ok(())
}
