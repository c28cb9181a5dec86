//! A model as the user names it: a Hugging Face folder, a GGUF file, or a folder with one GGUF model, split or not.

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::gguf::{GgufModel, gguf_at};

/// An opened model of either form. Weights stay on disk until they are read.
#[derive(Debug)]
pub enum ModelFiles {
    /// config.json and safetensors.
    Folder(ModelFolder),
    /// Everything in one file, or in the parts of a split one.
    Gguf(GgufModel),
}

impl ModelFiles {
    /// Opens what lies at `path`: a file is taken for GGUF, as is a folder without config.json that holds one; everything
    /// else for a model folder.
    ///
    /// # Errors
    /// Same as [`ModelFolder::open`], [`GgufModel::open`] and [`gguf_at`].
    pub fn open(path: &Path) -> Result<Self> {
        match gguf_at(path)? {
            Some(file) => Ok(Self::Gguf(GgufModel::open(&file)?)),
            None => Ok(Self::Folder(ModelFolder::open(path)?)),
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
            Self::Gguf(model) => model.content_hash(),
        }
    }
}
