//! Models and adapters on disk: Hugging Face folders, PEFT folders and GGUF files. They are read lazily, checked when
//! they are opened, and written atomically.
//!
//! | subject | read | write |
//! |---|---|---|
//! | model folder | [`ModelFolder`], [`ModelConfig`] | [`ShardedWriter`], [`ModelConfig::to_json`] |
//! | PEFT adapter folder | [`AdapterFolder`], [`AdapterConfig`] | [`write_adapter`] |
//! | safetensors files | [`TensorFiles`] | [`write_safetensors`] |
//! | GGUF file | [`GgufModel`], [`gguf`] | the crate `synapse-export`; [`import_gguf`] makes a model folder of one |
//! | any file or folder | [`MappedFile`], [`sha256_file`] | [`Staged`], [`StagedFile`], [`write_atomic`] |
//!
//! [`ModelFiles`] is a model folder or a GGUF file. [`DType`] is the element type of stored tensors.
//!
//! What this crate is not: it computes nothing with weights except conversions between element types, and it knows no
//! tokenizer except that it turns the one in a GGUF file into tokenizer.json.
//!
//! # Example
//! Tensors are written to one file, which then appears whole; opening it reads only the header:
//! ```
//! use synapse_checkpoint::{DType, TensorFiles, write_safetensors};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let weight: Vec<u8> = [1.0_f32, -2.5, 3.0, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let tensors = [("weight".to_owned(), DType::F32, vec![2, 2], weight.as_slice())];
//! write_safetensors(&path, &tensors, &Default::default())?;
//!
//! let tensors = TensorFiles::open(vec![path])?;
//! let info = tensors.info("weight").ok_or("the file has this tensor")?;
//! assert_eq!((info.dtype, info.shape.as_slice()), (DType::F32, &[2, 2][..]));
//! let mut second_row = Vec::new();
//! tensors.read_f32_rows("weight", 1..2, &mut second_row)?;
//! assert_eq!(second_row, [3.0, 0.25]);
//! # Ok(())
//! # }
//! ```

mod adapter;
mod adapter_config;
mod adapter_fit;
mod adapter_names;
mod adapter_writer;
mod architecture;
mod compare;
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
mod module_patterns;
mod output_head;
mod positioned;
mod publish;
mod rope_scaling;
mod stored_names;
mod synapse;
mod tensors;
mod writer;

pub use adapter::{AdapterFolder, AdapterModule, adapter_weights};
pub use adapter_config::{AdapterConfig, OneOrMany};
pub use adapter_names::{AdapterTensorKind, classify_adapter_tensor};
pub use adapter_writer::{AdapterTensor, write_adapter};
pub use architecture::Architecture;
pub use config::ModelConfig;
pub use dtype::DType;
pub use error::{CheckpointError, Result};
pub use files::ModelFiles;
pub use folder::ModelFolder;
pub use gguf::{GgufModel, import_gguf};
pub use hash::{hex, sha256_bytes, sha256_file, sha256_of_files};
pub use header::TensorInfo;
pub use mapped::MappedFile;
pub use module_patterns::{ModuleNames, ModulePatterns};
pub use output_head::{EMBEDDING, HEAD, HeadChange, merge_ties};
pub use publish::{Staged, StagedFile, write_atomic};
pub use rope_scaling::Llama3RopeScaling;
pub use synapse::{RoutingMode, SynapseConfig};
pub use tensors::TensorFiles;
pub use writer::{ShardedWriter, write_safetensors};
