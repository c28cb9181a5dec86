//! The masks found for the tensors of a merge, kept for later merges of the same inputs with the same trim.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::sparsify::InputMask;

/// The masks of every input, by tensor; filled as tensors are merged.
#[derive(Debug, Default)]
pub(crate) struct MaskCache(Mutex<BTreeMap<usize, Vec<InputMask>>>);

impl MaskCache {
    /// The masks of a tensor, if they are known.
    pub(crate) fn get(&self, tensor: usize) -> Option<Vec<InputMask>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&tensor).cloned()
    }

    /// Stores the masks of a tensor.
    pub(crate) fn put(&self, tensor: usize, masks: &[InputMask]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(tensor, masks.to_vec());
    }
}
