//! Upcycling: the specialists of a Synapse model become the experts of a larger one (Sukhbaatar et al. 2024,
//! Branch-Train-MiX; sparse upcycling, Komatsuzaki et al. 2023).
//!
//! Every layer has the experts of all specialists: expert `s·E + e` is the base's expert `e` with what
//! specialist `s` changed. The router's row of an expert is repeated for each specialist and moved a little, so that
//! rows are not equal; everything else is the base with the mean of the specialists' changes. The
//! result is a model to train on, not one to serve: its router has not yet learned where to route tokens.

use std::fs;
use std::path::PathBuf;

use synapse_checkpoint::{AdapterFolder, DType, ModelConfig, ModelFolder, RoutingMode, ShardedWriter, Staged};
use synapse_kernels::random::Stream;

use crate::inputs::{StoredTensor, unreplaceable};
use crate::{MergeError, Result};

/// Standard deviation of the noise on a repeated row of the router, relative to the row's root mean square.
const ROUTER_NOISE: f32 = 0.02;

/// A base, its specialists, and where the model goes.
#[derive(Clone, Debug, PartialEq)]
pub struct UpcycleRequest {
    /// The model that all specialists were trained over.
    pub base: PathBuf,
    /// Their folders, in the order their experts will stand in.
    pub adapters: Vec<PathBuf>,
    /// The folder to publish.
    pub out: PathBuf,
    /// Seed of the noise on the router's rows.
    pub seed: u64,
    /// Largest size of one output file in bytes.
    pub max_shard_bytes: u64,
}

/// Publishes the model and gives its configuration.
///
/// # Errors
/// [`MergeError::Request`] for a base that is not a Synapse model, an adapter of another base, or fewer than two of them;
/// every other error leaves the output as it was.
pub fn upcycle(request: &UpcycleRequest) -> Result<ModelConfig> {
    let base = ModelFolder::open(&request.base)?;
    let Some(modules) = &base.config().synapse else {
        return Err(MergeError::request(format!(
            "{} is a {}; only the experts of a Synapse model can be upcycled",
            request.base.display(),
            base.config().architecture.class_name()
        )));
    };
    if request.adapters.len() < 2 {
        return Err(MergeError::request(
            "upcycling needs two specialists or more, each with --adapter DIR".to_owned(),
        ));
    }
    let taken = request.adapters.iter().chain([&request.base]);
    if let Some(problem) = unreplaceable(&request.out, taken, false) {
        return Err(MergeError::request(problem));
    }
    let specialists = request
        .adapters
        .iter()
        .map(|path| {
            let adapter = AdapterFolder::open(path)?;
            adapter.check_plain(base.config())?;
            Ok(adapter)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut wider = modules.clone();
    wider.num_experts *= specialists.len();
    let config = ModelConfig {
        synapse: Some(wider),
        ..base.config().clone()
    };
    let parts = Parts {
        base: &base,
        specialists: &specialists,
        experts: modules.num_experts,
        first: match modules.routing {
            RoutingMode::Dispatch => 1,
            RoutingMode::Sequential => 0,
        },
        seed: request.seed,
    };
    let staged = Staged::beside(&request.out)?;
    let layout: Vec<(String, DType, Vec<usize>)> = config
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let dtype = StoredTensor::new(&base, &parts.origin(&name).0).dtype();
            (name, dtype, shape)
        })
        .collect();
    let mut writer = ShardedWriter::create(staged.path(), &layout, request.max_shard_bytes)?;
    let mut bytes = Vec::new();
    for (index, (name, dtype, _)) in layout.iter().enumerate() {
        bytes.clear();
        dtype.extend_bytes(&parts.values(name, index)?, &mut bytes);
        writer.write(name, &bytes)?;
    }
    writer.finish()?;
    synapse_export::copy_auxiliary_files(base.path(), staged.path())?;
    let path = staged.path().join("config.json");
    fs::write(&path, config.to_json()).map_err(MergeError::file("write", &path))?;
    staged.publish()?;
    Ok(config)
}

/// The parts of the upcycled model.
struct Parts<'a> {
    base: &'a ModelFolder,
    specialists: &'a [AdapterFolder],
    /// Experts of a layer of the base.
    experts: usize,
    /// The router's row of the first expert.
    first: usize,
    seed: u64,
}

impl Parts<'_> {
    /// The base's tensor that a tensor comes from, and the specialist that it belongs to alone.
    fn origin(&self, name: &str) -> (String, Option<usize>) {
        let Some((prefix, rest)) = name.split_once(".experts.") else {
            return (name.to_owned(), None);
        };
        let (number, module) = rest.split_once('.').unwrap_or((rest, ""));
        let number: usize = number.parse().unwrap_or(0);
        let expert = number % self.experts;
        (
            format!("{prefix}.experts.{expert}.{module}"),
            Some(number / self.experts),
        )
    }

    /// A tensor of the upcycled model; `index` keys its noise.
    fn values(&self, name: &str, index: usize) -> Result<Vec<f32>> {
        let (origin, owner) = self.origin(name);
        let mut values = self.base.read_f32(&origin)?;
        match owner {
            Some(specialist) => self.add(&origin, specialist, 1.0, &mut values)?,
            None => {
                let share = 1.0 / self.specialists.len() as f32;
                for specialist in 0..self.specialists.len() {
                    self.add(&origin, specialist, share, &mut values)?;
                }
            }
        }
        if [
            ".thalamus.gate.weight",
            ".thalamus.gate.bias",
            ".thalamus.selection_bias",
        ]
        .iter()
        .any(|end| name.ends_with(end))
        {
            let rows = self.base.info(&origin).map_or(1, |info| info.shape[0]);
            let apart = name.ends_with("weight");
            values = self.repeat(&values, rows, apart.then(|| Stream::new(&[self.seed, index as u64])));
        }
        Ok(values)
    }

    /// Adds `share · scale · B·A` of a specialist, where it changes the tensor.
    fn add(&self, tensor: &str, specialist: usize, share: f32, values: &mut [f32]) -> Result<()> {
        let adapter = &self.specialists[specialist];
        let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
        let Some(found) = adapter.modules().iter().find(|found| found.module == module) else {
            return Ok(());
        };
        let (a, b) = (adapter.read_a(module)?, adapter.read_b(module)?);
        let (rank, columns) = (found.rank, a.len() / found.rank);
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            for (b, a) in b[row * rank..(row + 1) * rank].iter().zip(a.chunks_exact(columns)) {
                let factor = share * found.scale * b;
                for (value, a) in values.iter_mut().zip(a) {
                    *value += factor * a;
                }
            }
        }
        Ok(())
    }

    /// The router's rows, the experts' repeated for each specialist.
    fn repeat(&self, values: &[f32], rows: usize, apart: Option<Stream>) -> Vec<f32> {
        let width = values.len() / rows;
        let (head, rest) = values.split_at(self.first * width);
        let (experts, tail) = rest.split_at(self.experts * width);
        let mut out = head.to_vec();
        for specialist in 0..self.specialists.len() {
            for (expert, row) in experts.chunks_exact(width).enumerate() {
                let spread = ROUTER_NOISE * (row.iter().map(|value| value * value).sum::<f32>() / width as f32).sqrt();
                let start = ((specialist * self.experts + expert) * width) as u64;
                out.extend(row.iter().enumerate().map(|(column, value)| match apart {
                    Some(stream) => value + spread * stream.normal(start + column as u64),
                    None => *value,
                }));
            }
        }
        out.extend_from_slice(tail);
        out
    }
}
