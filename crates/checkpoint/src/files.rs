//! A model as the user names it: a Hugging Face folder, or one GGUF file.

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::gguf::GgufModel;
use crate::hash::sha256_file;

/// An opened model of either form. Weights stay on disk until they are read.
#[derive(Debug)]
pub enum ModelFiles {
    /// config.json and safetensors.
    Folder(ModelFolder),
    /// Everything in one file.
    Gguf(GgufModel),
}

impl ModelFiles {
    /// Opens what lies at `path`: a file is taken for GGUF, everything else for a folder.
    ///
    /// # Errors
    /// Same as [`ModelFolder::open`] and [`GgufModel::open`].
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            Ok(Self::Gguf(GgufModel::open(path)?))
        } else {
            Ok(Self::Folder(ModelFolder::open(path)?))
        }
    }

    /// The folder or file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Gguf(model) => model.path(),
        }
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::Gguf(model) => model.config(),
        }
    }

    /// SHA-256 over everything that the model's numbers come from. Reads it once.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        match self {
            Self::Folder(folder) => folder.content_hash(),
            Self::Gguf(model) => sha256_file(model.path()),
        }
    }
}
