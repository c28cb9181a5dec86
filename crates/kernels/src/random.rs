//! Counter-based random numbers, so that recomputation, resuming and any number of threads see the same values; and
//! torch's generator. Not for cryptography.

/// A stream keyed by (seed, step, micro-batch, module); element `i` of it is [`Stream::bits`]`(i)`.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: [u32; 2],
}

/// SplitMix64's finalizer (Steele, Lea and Flood 2014).
fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stream {
    /// The stream of a tuple of numbers; every number matters, and so does their order.
    pub fn new(parts: &[u64]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for &part in parts {
            state = mix64(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix64(part.wrapping_add(0xd1b5_4a32_d192_ed03)));
        }
        Self {
            key: [state as u32, (state >> 32) as u32],
        }
    }

    /// 32 random bits at `index`. Streams are 2^32 long; a larger index also changes the key.
    #[inline(always)]
    pub fn bits(self, index: u64) -> u32 {
        let high = (index >> 32) as u32;
        let mut x = (index as u32).wrapping_add(self.key[0] ^ high.wrapping_mul(0x85eb_ca6b));
        // the low-bias 32-bit finalizer (Wellons 2018), twice, with the second key half between
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x = (x ^ (x >> 16)) ^ self.key[1];
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }

    /// Uniform in [0, 1) with 24 bits.
    #[inline(always)]
    pub fn uniform(self, index: u64) -> f32 {
        (self.bits(index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Standard normal by Box–Muller from elements `2 * index` and `2 * index + 1`.
    pub fn normal(self, index: u64) -> f32 {
        let radius = (-2.0 * f64::from(1.0 - self.uniform(2 * index)).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(self.uniform(2 * index + 1));
        (radius * angle.cos()) as f32
    }
}

/// MT19937 as torch's CPU generator uses it, for initial values and orders that equal torch's.
/// Source: Matsumoto and Nishimura 1998.
#[derive(Clone)]
pub struct MersenneTwister {
    state: [u32; 624],
    next: usize,
}

impl MersenneTwister {
    /// Seeded as `torch.manual_seed(seed)` does (the low 32 bits).
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; 624];
        state[0] = seed as u32;
        for i in 1..624 {
            state[i] = 1_812_433_253u32
                .wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30))
                .wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn refill(&mut self) {
        for i in 0..624 {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `torch.Tensor.uniform_(low, high)`'s next f32.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0) * (high - low) + low
    }

    /// `torch.randperm(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            let j = i + self.next_u32() as usize % (n - i);
            order.swap(i, j);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // torch 2.15: torch.manual_seed(42); torch.randperm(10) and torch.empty(4).uniform_(-1, 1)
    // are checked against the library by crates/trainer/tests/fixtures/make_peft.py.
    #[test]
    fn mersenne_twister_known_values() {
        let mut generator = MersenneTwister::new(5489);
        assert_eq!(generator.next_u32(), 3_499_211_612);
        assert_eq!(generator.next_u32(), 581_869_302);
    }

    #[test]
    fn stream_is_uniform_and_keyed() {
        let stream = Stream::new(&[1, 2, 3]);
        let mean = (0..100_000).map(|i| f64::from(stream.uniform(i))).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        assert_ne!(stream.bits(0), Stream::new(&[1, 3, 2]).bits(0));
        assert_ne!(stream.bits(0), stream.bits(1 << 32));
    }
}
