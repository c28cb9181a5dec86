//! Everything a PEFT adapter folder can hold, as changes to tensors of the base: LoRA of any mix of ranks, DoRA, LoRA
//! biases, embeddings, trained biases and modules trained whole. What is none of these is refused by name.
//!
//! Scales and patterns are the checkpoint crate's `AdapterConfig`; running an adapter is the nn crate's business, and
//! takes only the plain kind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use synapse_checkpoint::{AdapterConfig, CheckpointError, ModelFolder, TensorFiles, sha256_of_files};

use crate::delta::Product;
use crate::tiles::{Rows, View};
use crate::{MergeError, Result};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// PEFT's own wrapper around the base model, in every tensor's name.
const PREFIX: &str = "base_model.model.";

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

    /// Everything in it that does not fit a base, by name.
    pub(crate) fn problems(&self, base: &ModelFolder) -> Vec<String> {
        let weights = self.path.join(WEIGHTS);
        let shown = weights.display();
        let mut problems = Vec::new();
        for (tensor, part) in &self.parts {
            let module = &part.module;
            let Some(info) = base.info(tensor).filter(|_| base.names().any(|name| name == tensor)) else {
                let tied = tensor == "lm_head.weight" && base.config().tie_word_embeddings;
                let why = if tied {
                    "whose head is tied to its embedding".to_owned()
                } else {
                    format!(
                        "a {} of {} layers",
                        base.config().architecture.class_name(),
                        base.config().num_hidden_layers
                    )
                };
                problems.push(format!(
                    "{shown}: adapts `{module}`, but {tensor} is no tensor of the base, {why}; was it trained on another base?"
                ));
                continue;
            };
            problems.extend(
                self.misfits(tensor, part, &info.shape)
                    .into_iter()
                    .map(|problem| format!("{shown}: {problem}")),
            );
        }
        // One wrong base has many symptoms; the first few say it all.
        if problems.len() > 4 {
            let more = problems.len() - 3;
            problems.truncate(3);
            problems.push(format!("{shown}: and {more} more tensors do not fit the base"));
        }
        problems
    }

    fn misfits(&self, tensor: &str, part: &Part, shape: &[usize]) -> Vec<String> {
        let module = &part.module;
        let mut problems = Vec::new();
        let mut expect = |name: &Option<String>, letter: &str, expected: Vec<usize>| match name {
            None => problems.push(format!("`{module}` has no {letter}")),
            Some(name) => match self.files.info(name) {
                Some(info) if !info.dtype.is_weight() => {
                    problems.push(format!("{name} is of type {}, which is no weight's", info.dtype));
                }
                Some(info) if info.shape != expected => problems.push(format!(
                    "{name}: expected {expected:?} to fit {tensor} {shape:?} of the base, found {:?}; \
                     was it trained on another base?",
                    info.shape
                )),
                _ => {}
            },
        };
        let rank = self.config.rank_of(module);
        if part.a.is_some() || part.b.is_some() {
            if let &[rows, columns] = shape {
                expect(&part.a, "lora_A", vec![rank, columns]);
                expect(&part.b, "lora_B", vec![rows, rank]);
                if part.magnitude.is_some() {
                    expect(&part.magnitude, "lora_magnitude_vector", vec![rows]);
                }
            } else {
                expect(&None, "place in the base: it is no matrix there", Vec::new());
            }
        } else if part.magnitude.is_some() {
            expect(&None, "lora_A beside its lora_magnitude_vector", Vec::new());
        }
        if let Some((a, b)) = &part.embedding
            && let &[rows, columns] = shape
        {
            expect(a, "lora_embedding_A", vec![rank, rows]);
            expect(b, "lora_embedding_B", vec![columns, rank]);
        }
        for name in [&part.bias, &part.whole] {
            if name.is_some() {
                expect(name, "tensor", shape.to_vec());
            }
        }
        if part.whole.is_some() && (part.a.is_some() || part.embedding.is_some()) {
            problems.push(format!(
                "`{module}` is trained whole and adapted at once; only one of them can be merged"
            ));
        }
        problems
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

/// What a stored tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    A,
    B,
    Magnitude,
    EmbeddingA,
    EmbeddingB,
    Bias,
    Whole,
}

/// The base's tensor that a stored name is about, its module, and what it is. Names are PEFT's as saved, or with the
/// adapter's name in them as a running PEFT model calls them.
fn sort(name: &str) -> Option<(String, String, Kind)> {
    let name = name.strip_prefix(PREFIX)?;
    let weight = |module: &str, kind| Some((format!("{module}.weight"), module.to_owned(), kind));
    let bare = |end: &str| {
        let rest = name.strip_suffix(".weight").unwrap_or(name);
        let rest = rest.strip_suffix(".default").unwrap_or(rest);
        rest.strip_suffix(end)
            .filter(|module| !module.is_empty())
            .map(str::to_owned)
    };
    let full = |end: &str| bare(end).filter(|_| name.ends_with(".weight"));
    if let Some(module) = full(".lora_A") {
        return weight(&module, Kind::A);
    }
    if let Some(module) = full(".lora_B") {
        return weight(&module, Kind::B);
    }
    if let Some(module) = bare(".lora_magnitude_vector") {
        return weight(&module, Kind::Magnitude);
    }
    if let Some(module) = bare(".lora_embedding_A") {
        return weight(&module, Kind::EmbeddingA);
    }
    if let Some(module) = bare(".lora_embedding_B") {
        return weight(&module, Kind::EmbeddingB);
    }
    if let Some(module) = name.strip_suffix(".bias") {
        let module = module.strip_suffix(".default").unwrap_or(module);
        if let Some(module) = module.strip_suffix(".lora_B") {
            return Some((format!("{module}.bias"), module.to_owned(), Kind::Bias));
        }
    }
    if name.contains("lora_") || name.contains("prompt") {
        return None;
    }
    let (module, kind) = name
        .rsplit_once('.')
        .filter(|(_, kind)| ["weight", "bias"].contains(kind))?;
    let module = module
        .replace(".modules_to_save.default", "")
        .replace(".modules_to_save", "");
    let module = module.replace(".original_module", "").replace(".base_layer", "");
    Some((format!("{module}.{kind}"), module, Kind::Whole))
}

/// [columns, rows] of [rows, columns].
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

/// δ = scale · B·A.
pub(crate) struct Added(pub(crate) Product);

impl Rows for Added {
    fn view(&self) -> View {
        View::Change
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        self.0.rows(rows.start, out);
        Ok(())
    }
}

/// DoRA: θᵢ = m · (W + scale·B·A) / ‖W + scale·B·A‖, row by row (Liu et al. 2024, arXiv 2402.09353).
struct Decomposed {
    product: Product,
    columns: usize,
    magnitude: Vec<f32>,
}

impl Rows for Decomposed {
    fn view(&self) -> View {
        View::Whole
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn read(&self, rows: Range<usize>, base: &[f32], out: &mut [f32]) -> Result<()> {
        self.product.rows(rows.start, out);
        let width = self.columns.max(1);
        for (row, (out, base)) in rows.zip(out.chunks_mut(width).zip(base.chunks(width))) {
            out.iter_mut().zip(base).for_each(|(value, base)| *value += base);
            let norm = out
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum::<f64>()
                .sqrt();
            let factor = (f64::from(self.magnitude[row]) / norm) as f32;
            out.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(())
    }
}

/// Values in memory.
pub(crate) struct Known {
    pub(crate) values: Vec<f32>,
    pub(crate) columns: usize,
    pub(crate) view: View,
}

impl Rows for Known {
    fn view(&self) -> View {
        self.view
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[rows.start * self.columns..rows.end * self.columns]);
        Ok(())
    }
}

/// A tensor trained whole, on disk.
struct Trained<'a> {
    files: &'a TensorFiles,
    name: &'a str,
    /// One row is the whole tensor.
    vector: bool,
}

impl Rows for Trained<'_> {
    fn view(&self) -> View {
        View::Whole
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        let rows = if self.vector { 0..out.len() } else { rows };
        Ok(self.files.read_f32_into(self.name, rows, out)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind() {
        let cases = [
            (
                "model.layers.0.q_proj.lora_A.weight",
                "model.layers.0.q_proj.weight",
                Kind::A,
            ),
            (
                "model.layers.0.q_proj.lora_B.default.weight",
                "model.layers.0.q_proj.weight",
                Kind::B,
            ),
            (
                "model.layers.0.q_proj.lora_B.bias",
                "model.layers.0.q_proj.bias",
                Kind::Bias,
            ),
            ("model.layers.0.q_proj.bias", "model.layers.0.q_proj.bias", Kind::Whole),
            ("q_proj.lora_magnitude_vector", "q_proj.weight", Kind::Magnitude),
            (
                "q_proj.lora_magnitude_vector.default.weight",
                "q_proj.weight",
                Kind::Magnitude,
            ),
            (
                "model.embed_tokens.lora_embedding_A",
                "model.embed_tokens.weight",
                Kind::EmbeddingA,
            ),
            (
                "model.embed_tokens.lora_embedding_B.default",
                "model.embed_tokens.weight",
                Kind::EmbeddingB,
            ),
            ("lm_head.modules_to_save.weight", "lm_head.weight", Kind::Whole),
            ("lm_head.weight", "lm_head.weight", Kind::Whole),
        ];
        for (name, tensor, kind) in cases {
            let sorted = sort(&format!("{PREFIX}{name}"));
            assert_eq!(
                sorted.map(|(tensor, _, kind)| (tensor, kind)),
                Some((tensor.to_owned(), kind)),
                "{name}"
            );
        }
        for unknown in ["prompt_embeddings", "q_proj.lora_E", "q_proj.lora_A", "other"] {
            assert_eq!(sort(&format!("{PREFIX}{unknown}")), None, "{unknown}");
        }
        assert_eq!(sort("q_proj.lora_A.weight"), None);
    }
}
