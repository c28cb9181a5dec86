//! A LoRA adapter on a device, for inference.

use std::path::Path;

use candle_core::Tensor;
use synapse_checkpoint::AdapterFolder;

use crate::{
    CandleDecoder, CandleError,
    lora::{BARE, Branch, Branches},
};

/// All modules of one PEFT adapter.
#[derive(Debug, Clone)]
pub struct DeviceAdapter {
    layers: Vec<Branches>,
}

impl DeviceAdapter {
    /// Reads a PEFT folder to the decoder's device and checks every module against its shapes.
    ///
    /// # Errors
    /// A module that the base does not have, a wrong shape, an unreadable folder, or no memory on the device.
    pub fn load(folder: &Path, decoder: &CandleDecoder) -> Result<Self, CandleError> {
        let (files, config) = (AdapterFolder::open(folder)?, decoder.config());
        files.check_plain(config)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut branches = BARE;
            for (slot, (suffix, output, input)) in config.linear_modules().into_iter().enumerate() {
                let name = format!("model.layers.{layer}.{suffix}");
                let Some(module) = files.modules().iter().find(|module| module.module == name) else {
                    continue;
                };
                branches[slot] = Some(Branch {
                    a: Tensor::from_vec(files.read_a(&name)?, (module.rank, input), decoder.device())?,
                    b: Tensor::from_vec(files.read_b(&name)?, (output, module.rank), decoder.device())?,
                    scale: f64::from(module.scale),
                    mask: None,
                });
            }
            layers.push(branches);
        }
        Ok(Self { layers })
    }

    pub(crate) fn layer(&self, layer: usize) -> &Branches {
        &self.layers[layer]
    }
}
