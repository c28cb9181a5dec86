//! Downloads models and datasets from a Hugging Face hub by id, verifies them, and finds them again offline.
//!
//! The cache has the standard Hugging Face layout, so this crate and other tools share their files. Downloads resume
//! where they broke off, wait as long as the hub asks, are checked against the hash that the hub announces, and get
//! their final name only once they are complete.
//!
//! What this is not: it does not know recipes or row formats.
//!
//! - [`Hub`]: a model folder, dataset files, or a dataset's file list by id.
//! - [`DatasetQuery`] and [`DatasetSelection`]: which files of a dataset make a split.
//! - [`PartialFile`]: byte ranges of a large file.
//! - [`HubSettings`]: endpoint, cache, token and offline mode, by default from the `HF_*` variables.
//!
//! Offline, only the cache is read. A model that any Hugging Face tool has fetched is found there:
//!
//! ```
//! use std::fs;
//! use synapse_hub::{Hub, HubSettings, NoProgress};
//!
//! let cache = tempfile::tempdir()?;
//! let commit = "0123456789abcdef0123456789abcdef01234567";
//! let repository = cache.path().join("models--org--model");
//! let snapshot = repository.join("snapshots").join(commit);
//! fs::create_dir_all(&snapshot)?;
//! fs::create_dir_all(repository.join("refs"))?;
//! fs::write(repository.join("refs/main"), commit)?;
//! fs::write(snapshot.join("config.json"), "{}")?;
//! fs::write(snapshot.join("model.safetensors"), "")?;
//!
//! let settings = HubSettings { cache: cache.path().to_owned(), ..HubSettings::from_env(true)? };
//! let hub = Hub::new(settings);
//! assert_eq!(hub.model("org/model", None, &NoProgress)?, snapshot);
//! assert!(hub.model("org/other", None, &NoProgress).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With a network, the same calls download:
//!
//! ```no_run
//! use synapse_hub::{Hub, NoProgress};
//!
//! let hub = Hub::from_env(false)?;
//! let folder = hub.model("HuggingFaceTB/SmolLM2-135M-Instruct", None, &NoProgress)?;
//! let files = hub.dataset_files("openai/gsm8k", None, &["main/train-*.parquet".to_owned()], &NoProgress)?;
//! # Ok::<(), synapse_hub::HubError>(())
//! ```

mod card;
mod client;
mod download;
mod error;
mod glob;
mod hub;
mod partial_file;
mod progress;
mod repository;
mod retry;
mod selection;
mod settings;
#[cfg(test)]
mod tests;

pub use error::HubError;
pub use hub::{Dataset, DatasetFile, DatasetListing, Hub};
pub use partial_file::PartialFile;
pub use progress::{DownloadProgress, NoProgress};
pub use selection::{DatasetQuery, DatasetSelection};
pub use settings::{AccessToken, HubSettings};
