//! Replaces `candle.rs` in builds without the feature `candle`: refuses its devices and says how to build them in.

use crate::{Device, TrainError, TrainRequest, model::Model};

pub(crate) fn check(device: Device) -> Result<(), TrainError> {
    Err(TrainError::not_built_in(device))
}

pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    Err(TrainError::not_built_in(request.device))
}
