//! `serve` and `up`: a model behind the OpenAI-compatible API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use synapse_chat::Chat;
use synapse_checkpoint::ModelFolder;
use synapse_engine::{Engine, EngineOptions};
use synapse_nn::{Adapter, CausalLm, Decoder};
use synapse_server::{ApiKeys, SamplingDefaults, ServerOptions, ServerState};

use crate::{
    Outcome,
    args::{ListenArguments, ServeArguments},
    commands::weight_options,
    failure::Failure,
    terminal::say,
};

/// Serves a folder.
pub(crate) fn serve(arguments: &ServeArguments) -> Outcome {
    let adapters = arguments
        .adapters
        .iter()
        .map(|text| {
            let (name, folder) = text
                .split_once('=')
                .ok_or_else(|| Failure::request(format!("--adapter {text}: expected NAME=DIR")))?;
            Ok((name.to_owned(), PathBuf::from(folder)))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    for (index, (name, _)) in adapters.iter().enumerate() {
        if adapters[..index].iter().any(|(other, _)| other == name) {
            return Err(Failure::request(format!(
                "--adapter {name}=…: the name is given twice; every adapter needs its own"
            )));
        }
    }
    listen(&arguments.model, &adapters, &arguments.listen)
}

/// Serves the model folder below outputs/ that was published last.
pub(crate) fn up(arguments: &ListenArguments) -> Outcome {
    let newest = std::fs::read_dir("outputs")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("config.json").is_file())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max();
    let (_, folder) = newest.ok_or_else(|| {
        Failure::request("outputs/ holds no published model; run a pipeline first, or name a folder with `serve`")
    })?;
    listen(&folder, &[], arguments)
}

fn listen(folder: &Path, adapters: &[(String, PathBuf)], arguments: &ListenArguments) -> Outcome {
    let name = folder
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = name.ok_or_else(|| Failure::request(format!("{}: no such model folder", folder.display())))?;
    let mut options = ServerOptions::new(name.as_str());
    options.defaults = sampling_defaults(folder)?;
    if let Some(path) = &arguments.api_key_file {
        options.api_keys = Some(ApiKeys::read(path).map_err(Failure::request)?);
    } else if !matches!(arguments.host.as_str(), "127.0.0.1" | "localhost" | "::1") {
        say("warning: anyone who reaches this address can use the model; give --api-key-file");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((arguments.host.as_str(), arguments.port))
            .await
            .map_err(|error| {
                Failure::Work(anyhow::anyhow!(
                    "{}:{}: {error}; another --port may be free",
                    arguments.host,
                    arguments.port
                ))
            })?;
        let address = listener.local_addr()?;
        let state = ServerState::loading(options);
        let loading = {
            let (state, folder, adapters) = (state.clone(), folder.to_owned(), adapters.to_vec());
            let (load, max_batch) = (weight_options(arguments.weights), arguments.max_batch);
            tokio::task::spawn_blocking(move || -> Result<(), Failure> {
                let files = ModelFolder::open(&folder)?;
                let chat = Chat::open(&folder)?;
                let adapters = adapters
                    .into_iter()
                    .map(|(name, path)| {
                        let adapter = Adapter::load_to_generate(&path, files.config(), load.precision)?;
                        Ok((name, Arc::new(adapter)))
                    })
                    .collect::<Result<Vec<_>, Failure>>()?;
                let model: Arc<dyn CausalLm> = Arc::new(Decoder::load_to_generate(&files, &load)?);
                let engine = Engine::start(
                    model,
                    chat,
                    adapters,
                    EngineOptions {
                        max_batch,
                        ..EngineOptions::default()
                    },
                );
                state.ready(Arc::new(engine))?;
                say(format!("serving {name} on http://{address}", name = folder.display()));
                Ok(())
            })
        };
        let server = synapse_server::serve(state, listener, shutdown());
        tokio::pin!(server);
        tokio::select! {
            loaded = loading => {
                loaded.map_err(|error| Failure::Work(error.into()))??;
                server.await?;
            }
            done = &mut server => done?,
        }
        Ok(())
    })
}

/// Resolves at Ctrl-C or SIGTERM.
async fn shutdown() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

/// Sampling of requests that say nothing: the model's own generation_config.json, where it has one.
fn sampling_defaults(folder: &Path) -> Result<SamplingDefaults, Failure> {
    let mut defaults = SamplingDefaults::default();
    let path = folder.join("generation_config.json");
    if !path.is_file() {
        return Ok(defaults);
    }
    let text = std::fs::read_to_string(&path)?;
    let config: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure::request(format!("{}: {error}", path.display())))?;
    if config["do_sample"] == false {
        defaults.temperature = 0.0;
    }
    if let Some(value) = config["temperature"].as_f64() {
        defaults.temperature = value as f32;
    }
    if let Some(value) = config["top_p"].as_f64() {
        defaults.top_p = value as f32;
    }
    if let Some(value) = config["top_k"].as_u64() {
        defaults.top_k = value as usize;
    }
    if let Some(value) = config["repetition_penalty"].as_f64() {
        defaults.repetition_penalty = value as f32;
    }
    Ok(defaults)
}
