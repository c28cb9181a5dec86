//! Writing an adapter folder, so that PEFT takes it as its own.

use std::collections::BTreeMap;
use std::path::Path;

use crate::adapter::{CONFIG, WEIGHTS};
use crate::adapter_config::AdapterConfig;
use crate::adapter_names::PREFIX;
use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::publish::write_atomic;
use crate::writer::write_safetensors;

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
