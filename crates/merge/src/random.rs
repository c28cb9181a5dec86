//! Random numbers that depend on nothing but a seed, a name and an index: Philox 4x32-10.
//!
//! No state is carried, so threads, tiles and a resumed run all draw the same numbers. Source: Salmon et al. 2011,
//! "Parallel random numbers: as easy as 1, 2, 3".

use synapse_checkpoint::sha256_bytes;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One stream of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    key: [u32; 2],
    /// The upper half of every counter.
    salt: [u32; 2],
}

impl Stream {
    /// The stream of a seed for one purpose (`dare`, `rounding`), one input and one tensor.
    pub(crate) fn new(seed: u64, purpose: &str, input: &str, tensor: &str) -> Self {
        let hash = sha256_bytes(format!("{seed}\n{purpose}\n{input}\n{tensor}").as_bytes());
        let word = |at: usize| u32::from_str_radix(&hash[8 * at..8 * at + 8], 16).unwrap_or(0);
        Self {
            key: [word(0), word(1)],
            salt: [word(2), word(3)],
        }
    }

    /// Number `index`, evenly over all of u32.
    #[inline]
    pub(crate) fn draw(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Numbers `4·index` to `4·index + 3`.
    #[inline]
    pub(crate) fn block(&self, index: u64) -> [u32; 4] {
        let counter = [index as u32, (index >> 32) as u32, self.salt[0], self.salt[1]];
        philox(counter, self.key)
    }
}

/// Ten rounds of Philox 4x32.
#[inline]
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let left = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let right = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' library (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn names_part_streams() {
        let stream = |input, tensor| Stream::new(7, "dare", input, tensor);
        assert_eq!(stream("a", "x"), stream("a", "x"));
        assert_ne!(stream("a", "x"), stream("b", "x"));
        assert_ne!(stream("a", "x"), stream("a", "y"));
        assert_eq!(stream("a", "x").draw(6), stream("a", "x").block(1)[2]);
    }
}
