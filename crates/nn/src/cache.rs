//! The key/value cache of one sequence: rotated keys and values of every layer, in f32.

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
}

impl KvCache {
    /// An empty cache for `layers` layers whose keys are `width` = `kv_heads * head_dim` wide.
    pub fn new(layers: usize, width: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            width,
            len: 0,
        }
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
}
