//! What one sequence carries from step to step, in f32: rotated keys and values of every layer, or, in a model without
//! attention, one state of a fixed size.

use std::ops::Range;

/// Cached keys and values of one layer, each `[len, kv_width]` row-major.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

/// The cache of one sequence. Cloning copies the prefix.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) width: usize,
    pub(crate) len: usize,
    state: Vec<f32>,
}

impl KvCache {
    /// An empty cache for `layers` layers whose keys are `width` = `kv_heads * head_dim` wide.
    pub fn new(layers: usize, width: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            width,
            len: 0,
            state: Vec::new(),
        }
    }

    /// The state of a sequence of a model without attention before its first token: `len` zeros.
    pub fn recurrent(len: usize) -> Self {
        Self {
            state: vec![0.0; len],
            ..Self::new(0, 0)
        }
    }

    /// The state, which the model reads and leaves behind.
    pub fn state_mut(&mut self) -> &mut [f32] {
        &mut self.state
    }

    /// Whether positions can be taken out and put back, which a state of fixed size does not allow.
    pub fn is_divisible(&self) -> bool {
        self.state.is_empty()
    }

    /// Positions stored.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets everything from position `len` on; longer than stored is a no-op.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        for layer in &mut self.layers {
            layer.keys.truncate(len * self.width);
            layer.values.truncate(len * self.width);
        }
        self.len = len;
    }

    /// Marks `n` further positions as stored; for models that keep no keys of their own.
    pub fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// A copy of some positions' keys and values.
    ///
    /// # Panics
    /// A range that is not stored.
    pub fn copy(&self, positions: Range<usize>) -> KvBlock {
        let part = |values: &[f32]| values[positions.start * self.width..positions.end * self.width].to_vec();
        let layer = |layer: &LayerCache| LayerCache {
            keys: part(&layer.keys),
            values: part(&layer.values),
        };
        KvBlock {
            layers: self.layers.iter().map(layer).collect(),
            len: positions.len(),
        }
    }

    /// Appends positions that were copied out of another cache of this model, where they stood at the same place after
    /// the same tokens under the same adapter: keys are rotated by their place.
    pub fn append(&mut self, block: &KvBlock) {
        for (layer, part) in self.layers.iter_mut().zip(&block.layers) {
            layer.keys.extend_from_slice(&part.keys);
            layer.values.extend_from_slice(&part.values);
        }
        self.len += block.len;
    }
}

/// Keys and values of neighboring positions, taken out of a cache.
#[derive(Debug, Clone)]
pub struct KvBlock {
    layers: Vec<LayerCache>,
    len: usize,
}

impl KvBlock {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let floats: usize = self
            .layers
            .iter()
            .map(|layer| layer.keys.len() + layer.values.len())
            .sum();
        floats * size_of::<f32>()
    }
}
