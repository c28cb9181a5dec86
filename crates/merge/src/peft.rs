//! Everything a PEFT adapter folder can hold, as changes to tensors of the base: LoRA of any mix of ranks, DoRA, LoRA
//! biases, embeddings, trained biases and modules trained whole. Anything else is refused by name.
//!
//! What this is not: running an adapter, which the crate nn does for plain LoRA. Scales and patterns come from the crate
//! checkpoint's `AdapterConfig`.

mod check;
mod head;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use synapse_checkpoint::{
    AdapterConfig, AdapterTensorKind as Kind, CheckpointError, TensorFiles, adapter_weights, classify_adapter_tensor,
    sha256_of_files,
};

use crate::low_rank::LowRankProduct;
use crate::tiles::{Representation, RowSource};
use crate::{MergeError, Result};

pub(crate) use rows::{DenseRows, LowRankUpdate};
use rows::{DoraRows, StoredRows, transposed};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The adapter_config.json of an adapter folder, without opening its tensors.
///
/// # Errors
/// The file is missing or malformed, or has a field that is not supported; the message names it.
pub fn adapter_config(folder: &Path) -> Result<AdapterConfig> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        let message = format!("holds no {CONFIG}: is this an adapter folder?");
        return Err(CheckpointError::folder(folder, message).into());
    }
    let text = std::fs::read_to_string(&path).map_err(MergeError::file("read", &path))?;
    Ok(AdapterConfig::from_json_for_merging(&text, &path)?)
}

/// An opened adapter folder.
#[derive(Debug)]
pub struct PeftAdapter {
    path: PathBuf,
    config: AdapterConfig,
    files: TensorFiles,
    /// Its tensors for each tensor of the base.
    parts: BTreeMap<String, ModuleTensors>,
    /// Tensors that it holds a copy of.
    copies: BTreeSet<String>,
}

/// The stored names of an adapter's tensors for one tensor of the base.
#[derive(Clone, Debug, Default, PartialEq)]
struct ModuleTensors {
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
pub(crate) struct LoraFactors {
    /// [rank, columns]
    pub(crate) a: Vec<f32>,
    /// [rows, rank]
    pub(crate) b: Vec<f32>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
}

impl PeftAdapter {
    /// Opens `path` and classifies its tensors; shapes are checked against a base by `PeftAdapter::problems`.
    ///
    /// # Errors
    /// A file is missing or malformed, or a field or tensor is of an unknown kind; the message names it.
    pub fn open(path: &Path) -> Result<Self> {
        let config = adapter_config(path)?;
        let weights = adapter_weights(path)?;
        let files = TensorFiles::open(vec![weights.clone()])?;
        let mut parts: BTreeMap<String, ModuleTensors> = BTreeMap::new();
        let mut checked = BTreeSet::new();
        for name in files.names() {
            let refused = |what: &str| CheckpointError::tensor(&weights, name, what);
            let Some((tensor, module, kind)) = classify_adapter_tensor(name) else {
                return Err(refused(
                    "is not a LoRA, DoRA, bias or whole weight of a module; nothing else can be merged",
                )
                .into());
            };
            if kind != Kind::Whole && checked.insert(module.clone()) {
                config.check_target(&path.join(CONFIG), &module)?;
            }
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
                return Err(refused(&format!("duplicates `{other}`")).into());
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
            copies: BTreeSet::new(),
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
    pub(crate) fn adapts(&self, tensor: &str) -> bool {
        self.parts.contains_key(tensor)
    }

    /// The two factors of a module; `None` where it is changed in another way.
    pub(crate) fn factors(&self, tensor: &str) -> Result<Option<LoraFactors>> {
        let Some(part) = self.parts.get(tensor).filter(|part| part.magnitude.is_none()) else {
            return Ok(None);
        };
        let (Some(a), Some(b)) = (&part.a, &part.b) else {
            return Ok(None);
        };
        let rank = self.config.rank_of(&part.module);
        let scale = self.config.scale_of(&part.module, rank);
        Ok(Some(LoraFactors {
            a: self.files.read_f32(a)?,
            b: self.files.read_f32(b)?,
            rank,
            scale,
        }))
    }

    /// Its change to a tensor of the base; `None` where it does not adapt it.
    pub(crate) fn rows(&self, tensor: &str, shape: &[usize]) -> Result<Option<Box<dyn RowSource + '_>>> {
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
            let product = LowRankProduct::new(&self.files.read_f32(a)?, self.files.read_f32(b)?, rank, columns, scale);
            return Ok(Some(match &part.magnitude {
                None => Box::new(LowRankUpdate(product)),
                Some(magnitude) => Box::new(DoraRows {
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
            return Ok(Some(Box::new(LowRankUpdate(LowRankProduct::new(
                &right, left, rank, columns, scale,
            )))));
        }
        if let Some(bias) = &part.bias {
            let values = self.files.read_f32(bias)?;
            let values = values.into_iter().map(|value| value * scale).collect();
            return Ok(Some(Box::new(DenseRows {
                values,
                columns,
                representation: Representation::Change,
            })));
        }
        let Some(name) = &part.whole else {
            return Ok(None);
        };
        Ok(Some(Box::new(StoredRows {
            files: &self.files,
            name,
            vector: shape.len() < 2,
        })))
    }
}
