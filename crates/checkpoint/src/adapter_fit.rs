//! Whether an adapter folder belongs to a base: every adapted module is a linear module of it with the same widths, and
//! tensors that are stored whole are the base's own.
//!
//! PEFT saves whole tensors in three cases, which only adapter_config.json tells apart: modules in `modules_to_save`, trained
//! biases, and copies of embedding and head that `save_embedding_layers` asks for. All of them replace the base's tensor when
//! PEFT loads the folder, so they change nothing exactly if they equal it.

use std::path::Path;

use crate::adapter::{AdapterFolder, CONFIG};
use crate::adapter_config::MERGE_IT;
use crate::compare::{narrower, same_rounded};
use crate::config::ModelConfig;
use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::files::ModelFiles;
use crate::gguf::{GgufModel, TensorType, dequantize};
use crate::output_head::HEAD;

impl AdapterFolder {
    /// Checks that every adapted module is a linear module of `base` with the same widths, and that the tensors stored
    /// whole hold the base's values.
    ///
    /// # Errors
    /// A module does not exist in the base or has other widths, a whole tensor is missing or changes the base, or a file
    /// cannot be read; the message names it.
    pub fn check_against(&self, base: &ModelFiles) -> Result<()> {
        self.check_shapes(base.config())?;
        for (tensor, stored) in &self.whole {
            let same = match base {
                ModelFiles::Folder(folder) => folder.holds(tensor, &self.files, stored)?,
                ModelFiles::Gguf(model) => self.same_as_gguf(tensor, stored, model)?,
            };
            if !same {
                let message = format!(
                    "is stored whole and is not the base's `{tensor}`: modules trained whole are not supported here; \
                     {MERGE_IT}"
                );
                return Err(CheckpointError::tensor(self.weights(), stored, message));
            }
        }
        Ok(())
    }

    /// The same against a base whose weights are not at hand: nothing may be stored whole.
    ///
    /// # Errors
    /// As [`AdapterFolder::check_against`].
    pub fn check_plain(&self, base: &ModelConfig) -> Result<()> {
        self.check_shapes(base)?;
        match self.whole.values().next() {
            None => Ok(()),
            Some(stored) => Err(CheckpointError::tensor(
                self.weights(),
                stored,
                format!("is stored whole, and only A and B of linear modules are read here; {MERGE_IT}"),
            )),
        }
    }

    fn check_shapes(&self, base: &ModelConfig) -> Result<()> {
        let linear = base.adaptable_modules();
        for adapted in &self.modules {
            let widths = linear
                .iter()
                .find(|(name, ..)| *name == adapted.module)
                .map(|&(_, out_features, in_features)| (out_features, in_features));
            if adapted.module == "lm_head" {
                let message = format!("adapts the output head, which is not supported here; {MERGE_IT}");
                return Err(CheckpointError::folder(&self.path, message));
            }
            let Some((out_features, in_features)) = widths else {
                let message = format!(
                    "adapts `{}`, which is not a linear module of the base ({} layers, {}); was it trained on another base?",
                    adapted.module,
                    base.num_hidden_layers,
                    base.architecture.class_name()
                );
                return Err(CheckpointError::folder(&self.path, message));
            };
            if (out_features, in_features) != (adapted.out_features, adapted.in_features) {
                let message = format!(
                    "adapts `{}` as [{}, {}], but in the base it is [{out_features}, {in_features}]; was it trained on another base?",
                    adapted.module, adapted.out_features, adapted.in_features
                );
                return Err(CheckpointError::folder(&self.path, message));
            }
        }
        let tensors = base.tensors();
        if let Some(stored) = self.whole.iter().find_map(|(tensor, stored)| {
            let tied = tensor == HEAD && base.tie_word_embeddings;
            (!tied && !tensors.iter().any(|(name, _)| name == tensor)).then_some(stored)
        }) {
            return Err(CheckpointError::tensor(
                self.weights(),
                stored,
                "is stored whole, and the base has no such tensor; was it trained on another base?",
            ));
        }
        self.config
            .check_saved(&self.path.join(CONFIG), base, |tensor| self.whole.contains_key(tensor))
    }

    fn weights(&self) -> &Path {
        self.files.paths().next().unwrap_or(&self.path)
    }

    /// Whether a whole tensor is the one in a GGUF file, which must hold it unquantized.
    fn same_as_gguf(&self, tensor: &str, stored: &str, base: &GgufModel) -> Result<bool> {
        let (tensor_type, bytes) = base.read_stored(tensor)?;
        let narrow = match tensor_type {
            TensorType::F32 => DType::F32,
            TensorType::F16 => DType::F16,
            TensorType::Bf16 => DType::BF16,
            quantized => {
                let message = format!(
                    "is stored whole, and {} holds it as {}, which cannot say whether it was changed; take the base's folder",
                    base.path().display(),
                    quantized.name()
                );
                return Err(CheckpointError::tensor(self.weights(), stored, message));
            }
        };
        let own = self.files.info(stored).map_or(DType::F32, |info| info.dtype);
        let mut values = Vec::new();
        dequantize(tensor_type, &bytes, &mut values);
        Ok(same_rounded(
            &mut self.files.read_f32(stored)?,
            &mut values,
            narrower(own, narrow),
        ))
    }
}
