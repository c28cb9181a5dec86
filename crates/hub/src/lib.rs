//! Models and datasets by hub id: fetched, verified, cached, and found again offline.
//!
//! The cache is the standard Hugging Face one, so files fetched by other tools are found and the
//! reverse. Downloads resume where they broke off, wait when the hub asks for it, are checked
//! against the hash the hub announces, and get their name only when they are whole. This room
//! knows nothing of recipes or row formats.
//!
//! ```no_run
//! use synapse_hub::{Hub, Silent};
//!
//! let hub = Hub::from_env(false)?;
//! let folder = hub.model("HuggingFaceTB/SmolLM2-135M-Instruct", None, &Silent)?;
//! let files = hub.dataset_files("openai/gsm8k", None, &["main/train-*.parquet".to_owned()], &Silent)?;
//! # Ok::<(), synapse_hub::HubError>(())
//! ```

mod card;
mod client;
mod download;
mod error;
mod glob;
mod hub;
mod part;
mod patience;
mod repository;
mod selection;
mod settings;
#[cfg(test)]
mod tests;

pub use error::HubError;
pub use hub::{Dataset, DatasetFile, Hub, Listing, Progress, Silent};
pub use part::PartialFile;
pub use selection::{Selection, Wanted};
pub use settings::{Settings, Token};
