//! A PEFT LoRA folder: adapter_config.json and adapter_model.safetensors, read and written so that PEFT takes either
//! as its own. What B·A means for the base is said here (module names, ranks, scales); it is computed elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapter_config::AdapterConfig;
use crate::config::ModelConfig;
use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::hash::sha256_of_files;
use crate::publish::write_atomic;
use crate::tensors::TensorFiles;
use crate::writer::write_safetensors;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// PEFT's own wrapper around the base model, in every tensor's name.
const PREFIX: &str = "base_model.model.";

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
    path: PathBuf,
    config: AdapterConfig,
    files: TensorFiles,
    modules: Vec<AdapterModule>,
    /// Stored names of A and B by module.
    stored: BTreeMap<String, Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    a: Option<String>,
    b: Option<String>,
}

impl AdapterFolder {
    /// Opens `path` and checks that the configuration is plain LoRA and that A and B of every module fit each other
    /// and the configuration.
    ///
    /// # Errors
    /// A file is missing or malformed, or the folder holds something other than plain LoRA (DoRA, biases, embeddings,
    /// modules trained whole); the message names the field or tensor.
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
        let weights = path.join(WEIGHTS);
        if !weights.is_file() && path.join("adapter_model.bin").is_file() {
            return Err(CheckpointError::folder(
                path,
                format!(
                    "holds adapter_model.bin but no {WEIGHTS}: only safetensors are read, so save it again with a current PEFT"
                ),
            ));
        }
        let files = TensorFiles::open(vec![weights.clone()])?;
        let mut stored: BTreeMap<String, Pair> = BTreeMap::new();
        for name in files.names() {
            let (module, is_a) =
                parse_name(name).ok_or_else(|| CheckpointError::tensor(&weights, name, unsupported(name)))?;
            let pair = stored.entry(module.to_owned()).or_default();
            let slot = if is_a { &mut pair.a } else { &mut pair.b };
            if let Some(other) = slot.replace(name.to_owned()) {
                return Err(CheckpointError::tensor(
                    &weights,
                    name,
                    format!("says the same as `{other}`"),
                ));
            }
        }
        if stored.is_empty() {
            return Err(CheckpointError::folder(path, format!("{WEIGHTS} holds no tensors")));
        }
        let modules = stored
            .iter()
            .map(|(module, pair)| check_module(&weights, &config, &files, module, pair))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            path: path.to_owned(),
            config,
            files,
            modules,
            stored,
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

    /// Checks that every adapted module is a linear module of `base` with the same widths.
    ///
    /// # Errors
    /// A module does not exist in the base or has other widths; the message names it.
    pub fn check_against(&self, base: &ModelConfig) -> Result<()> {
        let linear = base.adaptable_modules();
        for adapted in &self.modules {
            let widths = linear
                .iter()
                .find(|(name, ..)| *name == adapted.module)
                .map(|&(_, out_features, in_features)| (out_features, in_features));
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
        Ok(())
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

/// Module and side of a stored name: `base_model.model.MODULE.lora_A.weight`, or with an adapter's name before `weight`
/// as a running PEFT model calls it.
fn parse_name(name: &str) -> Option<(&str, bool)> {
    let rest = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let rest = rest.strip_suffix(".default").unwrap_or(rest);
    let (module, is_a) = rest
        .strip_suffix(".lora_A")
        .map(|module| (module, true))
        .or_else(|| rest.strip_suffix(".lora_B").map(|module| (module, false)))?;
    (!module.is_empty()).then_some((module, is_a))
}

fn unsupported(name: &str) -> &'static str {
    if name.contains("lora_magnitude_vector") {
        "belongs to DoRA, which is not supported"
    } else if name.contains("lora_embedding_") {
        "adapts an embedding, which is not supported"
    } else if name.ends_with(".bias") {
        "is a trained bias, which is not supported"
    } else if name.contains("modules_to_save") {
        "belongs to a module trained whole, which is not supported"
    } else {
        "is not a lora_A or lora_B weight, and adapters may hold nothing else (is it a fully trained module?)"
    }
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

/// A and B of one module, to be written.
#[derive(Clone, Copy, Debug)]
pub struct AdapterTensor<'a> {
    /// Full name in the base: `model.layers.0.self_attn.q_proj`.
    pub module: &'a str,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Columns of A.
    pub in_features: usize,
    /// Rows of B.
    pub out_features: usize,
    /// `[rank, in_features]` row by row.
    pub a: &'a [f32],
    /// `[out_features, rank]` row by row.
    pub b: &'a [f32],
}

/// Writes adapter_model.safetensors (f32) and adapter_config.json into `folder`, an existing staging folder. Modules
/// are stored sorted by name, so the same adapter gives the same bytes.
///
/// # Errors
/// A slice's length differs from its shape, a rank from the configuration's, or the folder cannot be written to.
pub fn write_adapter(folder: &Path, config: &AdapterConfig, tensors: &[AdapterTensor<'_>]) -> Result<()> {
    let weights = folder.join(WEIGHTS);
    config.check(&folder.join(CONFIG))?;
    let mut sorted: Vec<&AdapterTensor<'_>> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.module);
    let mut entries = Vec::with_capacity(2 * sorted.len());
    for tensor in sorted {
        let expected = config.rank_of(tensor.module);
        if tensor.rank != expected {
            return Err(CheckpointError::folder(
                &weights,
                format!(
                    "`{}` has rank {}, but {CONFIG} says {expected}",
                    tensor.module, tensor.rank
                ),
            ));
        }
        entries.push((
            format!("{PREFIX}{}.lora_A.weight", tensor.module),
            vec![tensor.rank, tensor.in_features],
            bytes_of(tensor.a),
        ));
        entries.push((
            format!("{PREFIX}{}.lora_B.weight", tensor.module),
            vec![tensor.out_features, tensor.rank],
            bytes_of(tensor.b),
        ));
    }
    let entries: Vec<(String, DType, Vec<usize>, &[u8])> = entries
        .iter()
        .map(|(name, shape, bytes)| (name.clone(), DType::F32, shape.clone(), bytes.as_slice()))
        .collect();
    write_safetensors(
        &weights,
        &entries,
        &BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
    )?;
    let text = serde_json::to_string_pretty(config).map_err(CheckpointError::json(&folder.join(CONFIG)))?;
    write_atomic(&folder.join(CONFIG), format!("{text}\n").as_bytes())
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    DType::F32.extend_bytes(values, &mut bytes);
    bytes
}
