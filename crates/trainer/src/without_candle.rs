//! Stands in for `candle.rs` in builds without it, and refuses its devices in words that say how to build them in.

use crate::{Device, TrainError, TrainRequest, model::Model};

pub(crate) fn check(device: Device) -> Result<(), TrainError> {
    Err(device.not_built_in())
}

pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    Err(request.device.not_built_in())
}
