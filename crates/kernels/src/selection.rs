//! Statistics for top-k selection by magnitude: one pass counts the values above a bracket and collects those inside.
//!
//! The bits of |x| as an integer order like |x|, so everything here is integer comparison. What this is not: the search
//! itself. The caller chooses brackets and narrows them down to the k-th largest magnitude.

use std::ops::RangeInclusive;

/// Mask of the bits of |x|, which order like |x| as an integer; from `0x7f80_0000` on, x is infinite or NaN.
const MAGNITUDE: u32 = 0x7fff_ffff;
/// Values per step: an AVX-512 vector.
const LANES: usize = 16;

/// What one pass counted and collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BracketCounts {
    /// Magnitudes above the bracket.
    pub above: u64,
    /// Magnitudes inside the bracket, in the order of the values.
    pub within: Vec<u32>,
    /// The largest magnitude of all.
    pub largest: u32,
}

impl BracketCounts {
    /// Adds the counts of `values`, of any length; `bracket` must be the same in every call.
    pub fn add(&mut self, values: &[f32], bracket: &RangeInclusive<u32>) {
        #[cfg(simd_x86)]
        if crate::Isa::current() >= crate::Isa::Avx512 {
            // SAFETY: `Isa::current` only returns levels that were detected on this machine.
            unsafe { self.add_avx512(values, bracket) };
            return;
        }
        self.add_plain(values, bracket);
    }

    /// Adds the counts of later values.
    pub fn join(&mut self, mut later: Self) {
        self.above += later.above;
        self.largest = self.largest.max(later.largest);
        self.within.append(&mut later.within);
    }

    /// The scalar reference of [`BracketCounts::add`].
    fn add_plain(&mut self, values: &[f32], bracket: &RangeInclusive<u32>) {
        for values in values.chunks(LANES) {
            let mut inside = 0_u32;
            for value in values {
                let magnitude = value.to_bits() & MAGNITUDE;
                self.above += u64::from(magnitude > *bracket.end());
                inside += u32::from(bracket.contains(&magnitude));
                self.largest = self.largest.max(magnitude);
            }
            if inside > 0 {
                let magnitudes = values.iter().map(|value| value.to_bits() & MAGNITUDE);
                self.within
                    .extend(magnitudes.filter(|magnitude| bracket.contains(magnitude)));
            }
        }
    }

    #[cfg(simd_x86)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
    fn add_avx512(&mut self, values: &[f32], bracket: &RangeInclusive<u32>) {
        use std::arch::x86_64::*;

        let (vectors, rest) = values.as_chunks::<LANES>();
        let low = _mm512_set1_epi32(*bracket.start() as i32);
        let high = _mm512_set1_epi32(*bracket.end() as i32);
        let mask = _mm512_set1_epi32(MAGNITUDE as i32);
        let mut largest = _mm512_setzero_si512();
        let mut above = 0;
        for vector in vectors {
            // SAFETY: the array holds sixteen f32; the load asks for no alignment.
            let bits = unsafe { _mm512_loadu_si512(vector.as_ptr().cast()) };
            let magnitudes = _mm512_and_si512(bits, mask);
            largest = _mm512_max_epu32(largest, magnitudes);
            let over = _mm512_cmpgt_epu32_mask(magnitudes, high);
            above += u64::from(over.count_ones());
            let inside = _mm512_cmpge_epu32_mask(magnitudes, low) & !over;
            if inside == 0 {
                continue;
            }
            let length = self.within.len();
            self.within.reserve(LANES);
            // SAFETY: sixteen lanes fit behind the length, as just reserved; the first `inside.count_ones()` of them are
            // values in the bracket, and only those are added to the length.
            unsafe {
                let compressed = _mm512_maskz_compress_epi32(inside, magnitudes);
                _mm512_storeu_si512(self.within.as_mut_ptr().add(length).cast(), compressed);
                self.within.set_len(length + inside.count_ones() as usize);
            }
        }
        self.above += above;
        self.largest = self.largest.max(_mm512_reduce_max_epu32(largest));
        self.add_plain(rest, bracket);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every path of this machine agrees with the definition.
        #[test]
        fn paths_agree(
            values in prop::collection::vec(prop_oneof![any::<f32>(), (-3_i8..=3).prop_map(f32::from)], 0..100),
            cut in 0_usize..100,
            low in prop_oneof![0_u32..=MAGNITUDE, (0_i8..4).prop_map(|x| f32::from(x).to_bits())],
            width in prop_oneof![Just(0_u32), 0_u32..0x0200_0000, 0_u32..=MAGNITUDE],
        ) {
            let bracket = low..=low.saturating_add(width).min(MAGNITUDE);
            let mut found = BracketCounts::default();
            let (first, second) = values.split_at(cut.min(values.len()));
            let mut later = BracketCounts::default();
            found.add(first, &bracket);
            later.add(second, &bracket);
            found.join(later);
            let magnitudes: Vec<u32> = values.iter().map(|value| value.to_bits() & MAGNITUDE).collect();
            let expected = BracketCounts {
                above: magnitudes.iter().filter(|&magnitude| magnitude > bracket.end()).count() as u64,
                within: magnitudes.iter().copied().filter(|magnitude| bracket.contains(magnitude)).collect(),
                largest: magnitudes.iter().copied().max().unwrap_or(0),
            };
            prop_assert_eq!(&found, &expected);
            let mut plain = BracketCounts::default();
            plain.add_plain(&values, &bracket);
            prop_assert_eq!(&plain, &expected);
        }
    }
}
