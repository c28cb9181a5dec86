//! The cache of one sequence, in f32: rotated keys and values of every layer or, in a model without attention, one
//! recurrent state of a fixed size.

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

    /// The initial state of a sequence in a model without attention: `len` zeros.
    pub fn recurrent(len: usize) -> Self {
        Self {
            state: vec![0.0; len],
            ..Self::new(0, 0)
        }
    }

    /// The recurrent state, which the model reads and updates.
    pub fn state_mut(&mut self) -> &mut [f32] {
        &mut self.state
    }

    /// Whether positions can be copied out and appended elsewhere, which a recurrent state does not allow.
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

    /// Drops all positions from `len` on. Does nothing if fewer are stored.
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

    /// Counts `n` further positions, for models without keys and values.
    pub fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// A copy of some positions' keys and values.
    ///
    /// # Panics
    /// If a position of the range is not stored.
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

    /// Appends positions that were copied out of another cache of this model. They must continue the same tokens at the
    /// same position under the same adapter: keys are rotated by their position.
    pub fn append(&mut self, block: &KvBlock) {
        for (layer, part) in self.layers.iter_mut().zip(&block.layers) {
            layer.keys.extend_from_slice(&part.keys);
            layer.values.extend_from_slice(&part.values);
        }
        self.len += block.len;
    }
}

/// Keys and values of consecutive positions, copied out of a cache.
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
