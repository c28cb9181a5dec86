//! A PEFT LoRA folder: adapter_config.json and adapter_model.safetensors, read so that it means what PEFT means by it. What
//! B·A is for the base is said here (module names, ranks, scales); it is computed elsewhere, and `adapter_fit` compares the
//! folder with a base. Adapters of other kinds than plain LoRA are read by the crate merge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapter_config::{AdapterConfig, MERGE_IT};
use crate::adapter_names::{AdapterTensorKind, classify_adapter_tensor};
use crate::error::{CheckpointError, Result};
use crate::hash::sha256_of_files;
use crate::tensors::TensorFiles;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// One adapted linear module: the base's weight W becomes W + scale · B·A.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterModule {
    /// Full name in the base: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// alpha / rank, or alpha / √rank with rsLoRA.
    pub scale: f32,
    /// Columns of A.
    pub in_features: usize,
    /// Rows of B.
    pub out_features: usize,
}

/// An opened adapter folder. A and B stay on disk until they are read.
#[derive(Debug)]
pub struct AdapterFolder {
    pub(crate) path: PathBuf,
    pub(crate) config: AdapterConfig,
    pub(crate) files: TensorFiles,
    pub(crate) modules: Vec<AdapterModule>,
    /// Stored names of A and B by module.
    stored: BTreeMap<String, Pair>,
    /// Stored names of whole tensors by the base's names for them.
    pub(crate) whole: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Pair {
    a: Option<String>,
    b: Option<String>,
}

impl AdapterFolder {
    /// Opens `path` and checks that the configuration is plain LoRA and that A and B of every module fit each other
    /// and the configuration. Whole tensors may lie beside them, if they turn out to be the base's
    /// ([`AdapterFolder::check_against`]).
    ///
    /// # Errors
    /// A file is missing or malformed, or the folder holds something other than plain LoRA (DoRA, biases of B, embeddings);
    /// the message names the field or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let config_path = path.join(CONFIG);
        if !config_path.is_file() {
            return Err(CheckpointError::folder(
                path,
                format!("holds no {CONFIG}: is this an adapter folder?"),
            ));
        }
        let text = std::fs::read_to_string(&config_path).map_err(CheckpointError::io("read", &config_path))?;
        let config = AdapterConfig::from_json(&text, &config_path)?;
        let weights = adapter_weights(path)?;
        let files = TensorFiles::open(vec![weights.clone()])?;
        let mut stored: BTreeMap<String, Pair> = BTreeMap::new();
        let mut whole = BTreeMap::new();
        for name in files.names() {
            let refused = |what: &str| CheckpointError::tensor(&weights, name, what);
            let Some((tensor, module, kind)) = classify_adapter_tensor(name) else {
                return Err(refused(
                    "is not a tensor of a LoRA adapter, and adapters may hold nothing else",
                ));
            };
            let other = match kind {
                AdapterTensorKind::A => stored.entry(module).or_default().a.replace(name.to_owned()),
                AdapterTensorKind::B => stored.entry(module).or_default().b.replace(name.to_owned()),
                AdapterTensorKind::Whole => whole.insert(tensor, name.to_owned()),
                AdapterTensorKind::Magnitude => return Err(refused(&unsupported("belongs to DoRA"))),
                AdapterTensorKind::EmbeddingA | AdapterTensorKind::EmbeddingB => {
                    return Err(refused(&unsupported("adapts an embedding")));
                }
                AdapterTensorKind::Bias => return Err(refused(&unsupported("is a trained bias"))),
            };
            if let Some(other) = other {
                return Err(refused(&format!("says the same as `{other}`")));
            }
        }
        if stored.is_empty() && whole.is_empty() {
            return Err(CheckpointError::folder(path, format!("{WEIGHTS} holds no tensors")));
        }
        let modules = stored
            .iter()
            .map(|(module, pair)| {
                config.check_target(&config_path, module)?;
                check_module(&weights, &config, &files, module, pair)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            path: path.to_owned(),
            config,
            files,
            modules,
            stored,
            whole,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// adapter_config.json.
    #[must_use]
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// The adapted modules, sorted by name.
    #[must_use]
    pub fn modules(&self) -> &[AdapterModule] {
        &self.modules
    }

    /// A of a module, `[rank, in_features]` row by row.
    ///
    /// # Errors
    /// The adapter does not touch the module, or the file cannot be read.
    pub fn read_a(&self, module: &str) -> Result<Vec<f32>> {
        self.read(module, |pair| pair.a.as_deref())
    }

    /// B of a module, `[out_features, rank]` row by row.
    ///
    /// # Errors
    /// The adapter does not touch the module, or the file cannot be read.
    pub fn read_b(&self, module: &str) -> Result<Vec<f32>> {
        self.read(module, |pair| pair.b.as_deref())
    }

    fn read(&self, module: &str, side: impl Fn(&Pair) -> Option<&str>) -> Result<Vec<f32>> {
        match self.stored.get(module).and_then(side) {
            Some(name) => self.files.read_f32(name),
            None => Err(CheckpointError::folder(
                &self.path,
                format!("the adapter does not touch `{module}`"),
            )),
        }
    }

    /// SHA-256 over adapter_config.json and adapter_model.safetensors.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let config = self.path.join(CONFIG);
        sha256_of_files(std::iter::once(config.as_path()).chain(self.files.paths()))
    }
}

/// The weights of an adapter folder.
///
/// # Errors
/// There are only weights in torch's own format.
pub fn adapter_weights(folder: &Path) -> Result<PathBuf> {
    let weights = folder.join(WEIGHTS);
    if !weights.is_file() && folder.join("adapter_model.bin").is_file() {
        return Err(CheckpointError::folder(
            folder,
            format!(
                "holds adapter_model.bin but no {WEIGHTS}: only safetensors are read, so save it again with a current PEFT"
            ),
        ));
    }
    Ok(weights)
}

fn unsupported(what: &str) -> String {
    format!("{what}, which is not supported here; {MERGE_IT}")
}

fn check_module(
    path: &Path,
    config: &AdapterConfig,
    files: &TensorFiles,
    module: &str,
    pair: &Pair,
) -> Result<AdapterModule> {
    let dimensions = |side: &Option<String>, letter: char| -> Result<(String, [usize; 2])> {
        let Some(name) = side else {
            return Err(CheckpointError::folder(
                path,
                format!("`{module}` has no lora_{letter}"),
            ));
        };
        match files.info(name) {
            Some(info) if !info.dtype.is_weight() => Err(CheckpointError::not_floating(path, name, info.dtype)),
            Some(info) => match info.shape.as_slice() {
                &[rows, columns] if rows > 0 && columns > 0 => Ok((name.clone(), [rows, columns])),
                shape => Err(CheckpointError::tensor(
                    path,
                    name,
                    format!("must have two dimensions, found {shape:?}"),
                )),
            },
            None => Err(CheckpointError::tensor(path, name, "does not exist")),
        }
    };
    let (_, [rank, in_features]) = dimensions(&pair.a, 'A')?;
    let (b, [out_features, columns]) = dimensions(&pair.b, 'B')?;
    if columns != rank {
        return Err(CheckpointError::Shape {
            path: path.to_owned(),
            tensor: b,
            expected: vec![out_features, rank],
            found: vec![out_features, columns],
        });
    }
    let expected = config.rank_of(module);
    if rank != expected {
        return Err(CheckpointError::folder(
            path,
            format!("`{module}` has rank {rank}, but {CONFIG} says {expected}"),
        ));
    }
    Ok(AdapterModule {
        module: module.to_owned(),
        rank,
        scale: config.scale_of(module, rank),
        in_features,
        out_features,
    })
}
