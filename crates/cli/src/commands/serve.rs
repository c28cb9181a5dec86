//! `serve` and `up`: a model behind the OpenAI-compatible API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use synapse_checkpoint::{AdapterFolder, ModelFiles};
use synapse_engine::{AdapterSource, Engine, EngineOptions, LoadAdapter};
use synapse_nn::{Adapter, CausalLm, Precision};
use synapse_server::{AdapterRoot, ApiKeys, SamplingDefaults, ServerOptions, ServerState, Swarm, SwarmLabel};
use synapse_tokenizer::ChatTokenizer;

use crate::{
    Outcome,
    args::{LimitArguments, ListenArguments, ServeArguments, WeightArguments},
    commands::{open_model, swarm, weight_options},
    console::print_message,
    failure::Failure,
};

/// Serves a folder.
pub(crate) fn serve(arguments: &ServeArguments) -> Outcome {
    let members = arguments
        .swarm
        .as_deref()
        .map(|from| swarm::find(from, arguments.swarm_threshold, arguments.swarm_drafts))
        .transpose()?;
    let mut adapters = arguments
        .adapters
        .iter()
        .map(|text| {
            let (name, folder) = text
                .split_once('=')
                .ok_or_else(|| Failure::request(format!("--adapter {text}: expected NAME=DIR")))?;
            Ok((name.to_owned(), PathBuf::from(folder)))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut swarm = None;
    let mut model = arguments.model.clone().map(|folder| Model { folder, name: None });
    if let Some(members) = members {
        adapters.splice(0..0, members.adapters);
        swarm = Some(members.swarm);
        model.get_or_insert(Model {
            folder: members.base,
            name: Some(members.base_name),
        });
    }
    for (index, (name, _)) in adapters.iter().enumerate() {
        if adapters[..index].iter().any(|(other, _)| other == name) {
            return Err(Failure::request(format!(
                "--adapter {name}=…: this name is used twice; every adapter needs its own"
            )));
        }
    }
    let model = model.ok_or_else(|| Failure::request("pass the model folder to serve"))?;
    listen(&model, &adapters, swarm, &arguments.listen)
}

/// The served model.
struct Model {
    folder: PathBuf,
    /// Its id, if that is not the folder's name.
    name: Option<String>,
}

/// Serves the model folder in outputs/ that was published last.
pub(crate) fn up(arguments: &ListenArguments) -> Outcome {
    let newest = std::fs::read_dir("outputs")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("config.json").is_file())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max();
    let (_, folder) = newest.ok_or_else(|| {
        Failure::request(
            "outputs/ contains no published model; run a pipeline first, or serve a folder with `serve DIR`",
        )
    })?;
    listen(&Model { folder, name: None }, &[], None, arguments)
}

fn listen(model: &Model, adapters: &[(String, PathBuf)], swarm: Option<Swarm>, arguments: &ListenArguments) -> Outcome {
    let folder = model.folder.as_path();
    let of_folder = folder.canonicalize().ok().and_then(|path| {
        let name = if path.is_file() {
            path.file_stem()
        } else {
            path.file_name()
        };
        Some(name?.to_string_lossy().into_owned())
    });
    let missing = || Failure::request(format!("{}: no such model folder or .gguf file", folder.display()));
    let of_folder = of_folder.ok_or_else(missing)?;
    // refuse wrong options before the server listens
    weight_options(folder, arguments.weights)?;
    let name = model.name.as_ref().unwrap_or(&of_folder);
    let mut options = server_options(name, folder, arguments)?;
    if let Some(swarm) = &swarm {
        print_message(routes(swarm));
    }
    options.swarm = swarm;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((arguments.host.as_str(), arguments.port))
            .await
            .map_err(|error| {
                Failure::Work(anyhow::anyhow!(
                    "{}:{}: {error}; try another --port",
                    arguments.host,
                    arguments.port
                ))
            })?;
        let address = listener.local_addr()?;
        let state = ServerState::loading(options);
        let loading = {
            let (state, folder, adapters) = (state.clone(), folder.to_owned(), adapters.to_vec());
            let (weights, limits, template) = (arguments.weights, arguments.limits, arguments.template.clone());
            tokio::task::spawn_blocking(move || -> Result<(), Failure> {
                let engine = load(&folder, &adapters, weights, limits, &template.chat_template_kwargs)?;
                state.ready(Arc::new(engine))?;
                print_message(format!("serving {name} on http://{address}", name = folder.display()));
                Ok(())
            })
        };
        let mut aborting = Signals::listen()?;
        let mut stopping = Signals::listen()?;
        let server = synapse_server::serve(state, listener, async move {
            stopping.next().await;
            print_message("finishing the accepted requests; a second signal aborts them");
        });
        tokio::pin!(server);
        let served = async {
            tokio::select! {
                loaded = loading => {
                    loaded.map_err(|error| Failure::Work(error.into()))??;
                    server.await?;
                }
                done = &mut server => done?,
            }
            Ok(())
        };
        tokio::select! {
            outcome = served => outcome,
            () = async { aborting.next().await; aborting.next().await } => {
                Err(Failure::Work(anyhow::anyhow!("a second signal came before all requests were answered")))
            }
        }
    });
    // tasks that still load or encode end with the process
    runtime.shutdown_background();
    outcome
}

/// The swarm's labels and the adapters they route to.
fn routes(swarm: &Swarm) -> String {
    let multi_domain = swarm.multi_domain.as_ref();
    let lead = |label: &SwarmLabel| match multi_domain.filter(|multi| multi.label == label.label) {
        Some(multi) => format!("{} → drafts of {}, then base", label.label, multi.drafts),
        None => format!("{} → {}", label.label, label.adapter.as_deref().unwrap_or("base")),
    };
    let leads: Vec<String> = swarm.labels.iter().map(lead).collect();
    format!("{} asks {}: {}", swarm.name, swarm.coordinator, leads.join(", "))
}

fn server_options(name: &str, folder: &Path, arguments: &ListenArguments) -> Result<ServerOptions, Failure> {
    let limits = arguments.limits;
    let mut options = ServerOptions::new(name);
    options.defaults = sampling_defaults(folder)?;
    options.allowed_origins.clone_from(&arguments.allowed_origins);
    options.max_body_bytes = limits.max_body_bytes;
    options.max_prompt_tokens = limits.max_prompt_tokens;
    options.read_timeout = Duration::from_secs(limits.read_timeout);
    options.drain = Duration::from_secs(limits.drain);
    if let Some(root) = &arguments.adapter_root {
        let wrong = |error| Failure::request(format!("--adapter-root {}: {error}", root.display()));
        options.adapters = Some(AdapterRoot::new(root, limits.max_adapters).map_err(wrong)?);
    }
    if let Some(path) = &arguments.api_key_file {
        options.api_keys = Some(ApiKeys::read(path).map_err(Failure::request)?);
    } else if !matches!(arguments.host.as_str(), "127.0.0.1" | "localhost" | "::1") {
        print_message(
            "warning: anyone who can reach this address can use the model; pass --api-key-file to require a key",
        );
    }
    Ok(options)
}

/// The model and its adapters in an engine.
fn load(
    folder: &Path,
    adapters: &[(String, PathBuf)],
    weights: WeightArguments,
    limits: LimitArguments,
    template_arguments: &Map<String, Value>,
) -> Result<Engine, Failure> {
    let load = weight_options(folder, weights)?;
    let files = open_model(folder, &load)?;
    let chat = ChatTokenizer::of_model(&files)?.with_template_arguments(template_arguments)?;
    let model: Arc<dyn CausalLm> = synapse_nn::models::load(&files, &load)?;
    let source = AdapterFolders {
        base: files,
        precision: load.precision,
    };
    let options = EngineOptions {
        max_batch: limits.max_batch,
        max_waiting: limits.max_waiting,
        context: limits.context,
        prefix_cache_bytes: limits.prefix_cache << 20,
        ..EngineOptions::default()
    };
    let engine = Engine::start(model, chat, Vec::new(), options).with_adapter_source(source);
    for (name, folder) in adapters {
        let order = LoadAdapter {
            name,
            folder,
            expected: None,
            limit: limits.max_adapters,
        };
        engine.load_adapter(order)?;
    }
    Ok(engine)
}

/// Loads PEFT folders for this model in its compute precision.
struct AdapterFolders {
    base: ModelFiles,
    precision: Precision,
}

impl AdapterSource for AdapterFolders {
    fn content_hash(&self, folder: &Path) -> Result<String, String> {
        AdapterFolder::open(folder)
            .and_then(|files| files.content_hash())
            .map_err(|error| error.to_string())
    }

    fn load(&self, folder: &Path) -> Result<Arc<Adapter>, String> {
        Adapter::load_for_inference(folder, &self.base, self.precision)
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }
}

/// A stream of Ctrl-C and SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}

/// The default sampling parameters: those of the model's generation_config.json, if it has one.
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
