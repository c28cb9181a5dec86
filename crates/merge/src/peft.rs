//! Everything a PEFT adapter folder can hold, as changes to tensors of the base: LoRA of any mix of ranks, DoRA, LoRA
//! biases, embeddings, trained biases and modules trained whole. What is none of these is refused by name.
//!
//! Scales and patterns are the checkpoint crate's `AdapterConfig`; running an adapter is the nn crate's business, and
//! takes only the plain kind.

mod change;
mod fit;
mod names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synapse_checkpoint::{AdapterConfig, CheckpointError, TensorFiles, sha256_of_files};

use crate::delta::Product;
use crate::tiles::{Rows, View};
use crate::{MergeError, Result};

pub(crate) use change::{Added, Known};
use change::{Decomposed, Trained, transposed};
use names::{Kind, sort};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// An opened adapter folder.
#[derive(Debug)]
pub struct PeftAdapter {
    path: PathBuf,
    config: AdapterConfig,
    files: TensorFiles,
    /// What it does to a tensor, by the tensor's name in the base.
    parts: BTreeMap<String, Part>,
}

/// What an adapter does to one tensor; the texts are stored names.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    /// A and B of a linear module.
    a: Option<String>,
    b: Option<String>,
    /// DoRA's magnitude, one a row.
    magnitude: Option<String>,
    /// A and B of an embedding.
    embedding: Option<(Option<String>, Option<String>)>,
    /// The bias of B, added with the scale.
    bias: Option<String>,
    /// The trained tensor itself.
    whole: Option<String>,
    /// The module it belongs to.
    module: String,
}

/// What a linear module's change is the product of.
pub(crate) struct Factors {
    /// [rank, columns]
    pub(crate) a: Vec<f32>,
    /// [rows, rank]
    pub(crate) b: Vec<f32>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
}

impl PeftAdapter {
    /// Opens `path` and sorts its tensors; shapes are checked against a base by `PeftAdapter::problems`.
    ///
    /// # Errors
    /// A file is missing or malformed, or a field or tensor is of a kind that is not known; the message names it.
    pub fn open(path: &Path) -> Result<Self> {
        let config_path = path.join(CONFIG);
        if !config_path.is_file() {
            let message = format!("holds no {CONFIG}: is this an adapter folder?");
            return Err(CheckpointError::folder(path, message).into());
        }
        let text = std::fs::read_to_string(&config_path).map_err(MergeError::file("read", &config_path))?;
        let config = AdapterConfig::from_json_for_merging(&text, &config_path)?;
        let weights = path.join(WEIGHTS);
        if !weights.is_file() && path.join("adapter_model.bin").is_file() {
            let message = format!(
                "holds adapter_model.bin but no {WEIGHTS}: only safetensors are read, so save it again with a current PEFT"
            );
            return Err(CheckpointError::folder(path, message).into());
        }
        let files = TensorFiles::open(vec![weights.clone()])?;
        let mut parts: BTreeMap<String, Part> = BTreeMap::new();
        for name in files.names() {
            let refused = |what: &str| CheckpointError::tensor(&weights, name, what);
            let Some((tensor, module, kind)) = sort(name) else {
                return Err(refused(
                    "is no LoRA, DoRA, bias or whole weight of a module, and nothing else can be merged",
                )
                .into());
            };
            let part = parts.entry(tensor).or_default();
            part.module = module;
            let slot = match kind {
                Kind::A => &mut part.a,
                Kind::B => &mut part.b,
                Kind::Magnitude => &mut part.magnitude,
                Kind::EmbeddingA => &mut part.embedding.get_or_insert_default().0,
                Kind::EmbeddingB => &mut part.embedding.get_or_insert_default().1,
                Kind::Bias => &mut part.bias,
                Kind::Whole => &mut part.whole,
            };
            if let Some(other) = slot.replace(name.to_owned()) {
                return Err(refused(&format!("says the same as `{other}`")).into());
            }
        }
        if parts.is_empty() {
            return Err(CheckpointError::folder(path, format!("{WEIGHTS} holds no tensors")).into());
        }
        Ok(Self {
            path: path.to_owned(),
            config,
            files,
            parts,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// adapter_config.json.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// sha256 over adapter_config.json and adapter_model.safetensors.
    pub(crate) fn content_hash(&self) -> Result<String> {
        let config = self.path.join(CONFIG);
        Ok(sha256_of_files(
            std::iter::once(config.as_path()).chain(self.files.paths()),
        )?)
    }

    /// The files themselves.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let config = self.path.join(CONFIG);
        std::iter::once(config)
            .chain(self.files.paths().map(Path::to_owned))
            .collect()
    }

    /// Whether it changes a tensor.
    pub(crate) fn touches(&self, tensor: &str) -> bool {
        self.parts.contains_key(tensor)
    }

    /// The two factors of a module; `None` where it is changed in another way.
    pub(crate) fn factors(&self, tensor: &str) -> Result<Option<Factors>> {
        let Some(part) = self.parts.get(tensor).filter(|part| part.magnitude.is_none()) else {
            return Ok(None);
        };
        let (Some(a), Some(b)) = (&part.a, &part.b) else {
            return Ok(None);
        };
        let rank = self.config.rank_of(&part.module);
        let scale = self.config.scale_of(&part.module, rank);
        Ok(Some(Factors {
            a: self.files.read_f32(a)?,
            b: self.files.read_f32(b)?,
            rank,
            scale,
        }))
    }

    /// What it does to a tensor of the base; `None` where it does not touch it.
    pub(crate) fn rows(&self, tensor: &str, shape: &[usize]) -> Result<Option<Box<dyn Rows + '_>>> {
        let Some(part) = self.parts.get(tensor) else {
            return Ok(None);
        };
        let columns = shape
            .get(1)
            .copied()
            .unwrap_or_else(|| shape.first().copied().unwrap_or(1));
        let rank = self.config.rank_of(&part.module);
        let scale = self.config.scale_of(&part.module, rank);
        if let (Some(a), Some(b)) = (&part.a, &part.b) {
            let product = Product::new(&self.files.read_f32(a)?, self.files.read_f32(b)?, rank, columns, scale);
            return Ok(Some(match &part.magnitude {
                None => Box::new(Added(product)),
                Some(magnitude) => Box::new(Decomposed {
                    product,
                    columns,
                    magnitude: self.files.read_f32(magnitude)?,
                }),
            }));
        }
        if let Some((Some(a), Some(b))) = &part.embedding {
            // δ = (B·A)ᵀ·scale = Aᵀ·Bᵀ·scale: [rows, rank] times [rank, columns].
            let rows = shape.first().copied().unwrap_or(1);
            let left = transposed(&self.files.read_f32(a)?, rank, rows);
            let right = transposed(&self.files.read_f32(b)?, columns, rank);
            return Ok(Some(Box::new(Added(Product::new(&right, left, rank, columns, scale)))));
        }
        if let Some(bias) = &part.bias {
            let values = self.files.read_f32(bias)?;
            let values = values.into_iter().map(|value| value * scale).collect();
            return Ok(Some(Box::new(Known {
                values,
                columns,
                view: View::Change,
            })));
        }
        let Some(name) = &part.whole else {
            return Ok(None);
        };
        Ok(Some(Box::new(Trained {
            files: &self.files,
            name,
            vector: shape.len() < 2,
        })))
    }
}
