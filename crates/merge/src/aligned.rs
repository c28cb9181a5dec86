//! Buffers of f32 whose first entry lies on a cache line, as AVX-512 vectors need it: what large allocations return
//! is 16 bytes off, and then every load and every store of 64 bytes touches two lines.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;
/// Entries that are allocated beyond those wanted, to move the first one.
const SPARE: usize = LINE / size_of::<f32>();

/// A buffer that serves again and again and never shrinks.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    store: Vec<f32>,
    /// Entries of `store` before the first one in use.
    skipped: usize,
    length: usize,
}

impl Aligned {
    /// Makes it `length` entries long. Their values are unspecified.
    pub(crate) fn resize(&mut self, length: usize) {
        if self.store.len() < length + SPARE {
            self.store = vec![0.0; length + SPARE];
            // A pointer that cannot be aligned (no platform here has one) is used as it is.
            self.skipped = self.store.as_ptr().align_offset(LINE).min(SPARE);
        }
        self.length = length;
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.store[self.skipped..self.skipped + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.store[self.skipped..self.skipped + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_line_at_every_length() {
        let mut buffer = Aligned::default();
        for length in [0, 1, 15, 16, 17, 1 << 20, 3] {
            buffer.resize(length);
            buffer.fill(1.0);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % LINE), (length, 0));
        }
    }
}
