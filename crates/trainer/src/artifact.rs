//! The result of training: a PEFT adapter folder, or the weights of a whole model.

use std::path::Path;

use synapse_checkpoint::{AdapterConfig, AdapterTensor, DType, ShardedWriter, write_adapter, write_atomic};
use synapse_nn::Parameter;
use synapse_recipe::LoraPlan;

use crate::{TrainError, model::Model};

/// The base as the adapter's configuration names it.
pub(crate) struct BaseName<'a> {
    pub(crate) path: &'a str,
    pub(crate) revision: Option<&'a str>,
}

/// Writes adapter_config.json and adapter_model.safetensors into an existing folder.
pub(crate) fn write_lora(
    folder: &Path,
    plan: &LoraPlan,
    base: &BaseName<'_>,
    layout: &[Parameter],
    values: &[f32],
) -> Result<(), TrainError> {
    let mut config = AdapterConfig::lora(base.path, plan.rank, plan.alpha, &plan.targets);
    config.revision = base.revision.map(str::to_owned);
    config.lora_dropout = f64::from(plan.dropout);
    config.use_rslora = plan.rslora;
    let tensors: Vec<AdapterTensor<'_>> = layout
        .chunks_exact(2)
        .map(|pair| AdapterTensor {
            module: pair[0].name.trim_end_matches(".lora_A"),
            rank: plan.rank,
            in_features: pair[0].shape[1],
            out_features: pair[1].shape[0],
            a: &values[pair[0].range.clone()],
            b: &values[pair[1].range.clone()],
        })
        .collect();
    Ok(write_adapter(folder, &config, &tensors)?)
}

/// Writes config.json and the weights into an existing folder.
///
/// # Errors
/// A file that cannot be written.
pub fn write_full(folder: &Path, model: &dyn Model, values: &[f32], dtype: DType) -> Result<(), TrainError> {
    write_atomic(&folder.join("config.json"), model.config().to_json().as_bytes())?;
    let layout = model.layout();
    let tensors: Vec<_> = layout
        .iter()
        .map(|parameter| (parameter.name.clone(), dtype, parameter.shape.clone()))
        .collect();
    let mut writer = ShardedWriter::create(folder, &tensors, 5_000_000_000)?;
    let mut bytes = Vec::new();
    for parameter in layout {
        bytes.clear();
        dtype.extend_bytes(&values[parameter.range.clone()], &mut bytes);
        writer.write(&parameter.name, &bytes)?;
    }
    Ok(writer.finish()?)
}
