//! Models and adapters on disk: Hugging Face folders, PEFT folders and GGUF files, read lazily and checked on open,
//! written whole or not at all.
//!
//! - [`ModelFolder`] and [`ModelConfig`]: a decoder's configuration and weights; [`AdapterFolder`]: a LoRA adapter's;
//!   [`ModelFiles`]: a folder or a GGUF file.
//! - [`ShardedWriter`], [`write_adapter`], [`write_safetensors`]: the same formats, written; [`Staged`] and
//!   [`write_atomic`]: how what is written appears under its name.
//! - [`gguf`] and [`import_gguf`]: GGUF files, read and turned into model folders.
//!
//! This crate computes nothing with weights but conversions between element types, and knows no tokenizer beyond
//! turning GGUF's form of one into tokenizer.json.

mod adapter;
mod adapter_config;
mod config;
mod config_fields;
mod dtype;
mod error;
mod files;
mod folder;
pub mod gguf;
mod hash;
mod header;
mod mapped;
mod positioned;
mod publish;
mod synapse;
mod tensors;
mod writer;

pub use adapter::{AdapterFolder, AdapterModule, AdapterTensor, write_adapter};
pub use adapter_config::AdapterConfig;
pub use config::{Architecture, Llama3RopeScaling, ModelConfig};
pub use dtype::DType;
pub use error::{CheckpointError, Result};
pub use files::ModelFiles;
pub use folder::ModelFolder;
pub use gguf::{GgufModel, import_gguf};
pub use hash::{sha256_bytes, sha256_file, sha256_of_files};
pub use header::TensorInfo;
pub use mapped::MappedFile;
pub use publish::{Staged, StagedFile, write_atomic};
pub use synapse::{Routing, SynapseConfig};
pub use tensors::TensorFiles;
pub use writer::{ShardedWriter, write_safetensors};
