//! The micro-kernel of AVX2 with FMA: six rows by a panel of sixteen columns.
//!
//! Six rows of two registers leave four for the panel and the left operand; twelve independent sums hide the latency of FMA
//! (4 or 5 cycles, two a cycle).

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_mul_ps, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps,
};

use crate::micro_tile::{NARROW_PANEL, Tile};

/// Rows of the largest tile.
pub(super) const ROWS: usize = 6;
/// Floats of a register.
const LANES: usize = 8;
/// Steps ahead that the panel is read from a cache further out: a line each.
const AHEAD: usize = 16;

/// Multiplies `R` rows by a panel of sixteen columns.
///
/// # Safety
/// The tile's pointers must be valid for `R` rows, on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply<const R: usize>(tile: &Tile) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for row in 0..R {
        // the output's lines arrive while the sums are made; a hint may name any address
        let out = tile.out.wrapping_add(row * tile.out_stride);
        _mm_prefetch::<_MM_HINT_T0>(out.cast());
        _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(NARROW_PANEL - 1).cast());
    }
    for step in 0..tile.steps {
        // SAFETY: the panel has `steps` rows of 16 columns, and rows and steps are inside the left operand.
        unsafe {
            let panel = tile.panel.add(step * NARROW_PANEL);
            _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(AHEAD * NARROW_PANEL).cast());
            let right = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm256_set1_ps(tile.left.add(row * tile.left_stride + step).read_unaligned());
                sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
            }
        }
    }
    let scale = _mm256_set1_ps(tile.scale);
    if tile.width == NARROW_PANEL {
        for (row, sums) in sums.iter().enumerate() {
            for (half, &sum) in sums.iter().enumerate() {
                // SAFETY: the tile's rows have 16 columns in the output.
                unsafe {
                    let out = tile.out.add(row * tile.out_stride + LANES * half);
                    let value = if tile.add {
                        _mm256_fmadd_ps(scale, sum, _mm256_loadu_ps(out))
                    } else {
                        _mm256_mul_ps(scale, sum)
                    };
                    _mm256_storeu_ps(out, value);
                }
            }
        }
        return;
    }
    for (row, sums) in sums.iter().enumerate() {
        for (half, &sum) in sums.iter().enumerate() {
            let mask = first_lanes(tile.width.saturating_sub(LANES * half));
            // SAFETY: the mask keeps the access inside the tile's columns.
            unsafe {
                let out = tile.out.wrapping_add(row * tile.out_stride + LANES * half);
                let value = if tile.add {
                    _mm256_fmadd_ps(scale, sum, _mm256_maskload_ps(out, mask))
                } else {
                    _mm256_mul_ps(scale, sum)
                };
                _mm256_maskstore_ps(out, mask, value);
            }
        }
    }
}

/// A mask of the first `count` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn first_lanes(count: usize) -> __m256i {
    let lane = |index: usize| if index < count { -1 } else { 0 };
    _mm256_setr_epi32(lane(0), lane(1), lane(2), lane(3), lane(4), lane(5), lane(6), lane(7))
}
