//! The tiles against their definition, each path against its twin, and rows against themselves alone.

use proptest::prelude::*;

use super::*;
use crate::{Matrix, Nf4Matrix, Precision, Shape, gemm::linear, random::Stream};

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.normal(i)).collect()
}

const KINDS: [PackedFormat; 6] = [
    PackedFormat::Nf4,
    PackedFormat::Q4_0,
    PackedFormat::Q8_0,
    PackedFormat::Q4K,
    PackedFormat::Q5K,
    PackedFormat::Q6K,
];

/// Those that ggml stores.
const STORED: [PackedFormat; 5] = [
    PackedFormat::Q4_0,
    PackedFormat::Q8_0,
    PackedFormat::Q4K,
    PackedFormat::Q5K,
    PackedFormat::Q6K,
];

/// Any codes at all, of scales about 1 with both signs: files hold what others wrote.
fn stored(kind: PackedFormat, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
    let stream = Stream::new(&[seed]);
    let size = kind.stored_bytes();
    let mut bytes = Vec::new();
    for block in 0..(rows * columns / (kind.block() * kind.group())) as u64 {
        let at = bytes.len();
        bytes.extend((0..size as u64).map(|i| stream.bits((1 << 32) + block * 256 + i) as u8));
        let half = |which: u64| half::f16::from_f32(stream.normal(2 * block + which)).to_le_bytes();
        let first = if kind == PackedFormat::Q6K { size - 2 } else { 0 };
        bytes[at + first..at + first + 2].copy_from_slice(&half(0));
        if matches!(kind, PackedFormat::Q4K | PackedFormat::Q5K) {
            bytes[at + 2..at + 4].copy_from_slice(&half(1));
        }
    }
    bytes
}

/// What ggml's blocks stand for (`dequantize_row_*` in ggml-quants.c, loop for loop).
fn meant(kind: PackedFormat, stored: &[u8]) -> Vec<f32> {
    let mut out = Vec::new();
    for block in stored.chunks_exact(kind.stored_bytes()) {
        let half = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match kind {
            PackedFormat::Nf4 => unreachable!("ggml has no NF4"),
            PackedFormat::Q4_0 => out.extend((0..32).map(|i| {
                let code = block[2 + i % 16] >> (i / 16 * 4) & 15;
                f32::from(i16::from(code) - 8) * half(0)
            })),
            PackedFormat::Q8_0 => out.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * half(0))),
            PackedFormat::Q4K | PackedFormat::Q5K => {
                let (scales, codes) = (&block[4..16], &block[if kind == PackedFormat::Q4K { 16 } else { 48 }..]);
                // get_scale_min_k4
                let scale_and_minimum = |j: usize| {
                    if j < 4 {
                        (scales[j] & 63, scales[j + 4] & 63)
                    } else {
                        let scale = (scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4);
                        (scale, (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
                    }
                };
                for j in 0..8 {
                    let (scale, minimum) = scale_and_minimum(j);
                    let (scale, minimum) = (half(0) * f32::from(scale), half(2) * f32::from(minimum));
                    for l in 0..32 {
                        let mut code = codes[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
                        if kind == PackedFormat::Q5K && block[16 + l] & (1 << j) != 0 {
                            code += 16;
                        }
                        out.push(scale * f32::from(code) - minimum);
                    }
                }
            }
            PackedFormat::Q6K => {
                for n in 0..2 {
                    let (low, high, scales) = (&block[64 * n..], &block[128 + 32 * n..], &block[192 + 8 * n..]);
                    let at = out.len();
                    out.resize(at + 128, 0.0);
                    for l in 0..32 {
                        for (part, (low, shift)) in [
                            (low[l] & 15, 0),
                            (low[l + 32] & 15, 2),
                            (low[l] >> 4, 4),
                            (low[l + 32] >> 4, 6),
                        ]
                        .into_iter()
                        .enumerate()
                        {
                            let code = i16::from(low | (high[l] >> shift & 3) << 4) - 32;
                            let scale = scales[l / 16 + 2 * part].cast_signed();
                            out[at + l + 32 * part] = half(208) * f32::from(scale) * f32::from(code);
                        }
                    }
                }
            }
        }
    }
    out
}

fn weight(kind: PackedFormat, rows: usize, columns: usize, seed: u64) -> PackedWeight {
    if kind == PackedFormat::Nf4 {
        let dense = values(seed, rows * columns);
        return PackedWeight::from_nf4(&Nf4Matrix::quantize(&dense, rows, columns, true));
    }
    let mut packed = PackedWeight::zeros(kind, rows, columns);
    packed.store_rows(0, &stored(kind, rows, columns, seed));
    packed
}

fn product(weight: &PackedWeight, x: &[f32]) -> Vec<f32> {
    let mut activations = QuantizedActivations::default();
    activations.quantize(weight.kind, x, weight.columns);
    let mut out = vec![f32::NAN; activations.rows * weight.rows];
    products(&activations, &mut [PackedProduct { weight, out: &mut out }]);
    out
}

/// The magnitude of what a row's minima and codes contribute before they cancel: the largest value times the inputs.
fn minima(weight: &PackedWeight, row: usize, x: &[f64]) -> f64 {
    let blocks = weight.columns / weight.kind.block();
    let largest = |block: usize| {
        let levels = weight.levels(row / ROWS * blocks + block, row % ROWS);
        levels.map_or(0.0, |levels| {
            let scale = f64::from(levels.unit).abs() * f64::from(levels.scales[0].abs().max(levels.scales[1].abs()));
            63.0 * scale + f64::from(levels.minimum_unit).abs() * f64::from(levels.minimum)
        })
    };
    x.chunks_exact(weight.kind.block())
        .enumerate()
        .map(|(block, x)| largest(block) * x.iter().map(|x| x.abs()).sum::<f64>())
        .sum()
}

/// Rounded activations, `[m, columns]` in f64.
fn rounded(kind: PackedFormat, x: &[f32]) -> Vec<f64> {
    let mut activations = QuantizedActivations::default();
    activations.quantize(kind, x, kind.block());
    let value = |(at, &value): (usize, &i8)| f64::from(value) * f64::from(activations.scales[at / kind.block()]);
    activations.values.iter().enumerate().map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_its_definition_and_its_twin(
        kind in prop::sample::select(&KINDS), rows in 1_usize..70, blocks in 1_usize..8, m in 1_usize..12, seed in any::<u64>(),
    ) {
        let columns = blocks * kind.block() * kind.group();
        let packed = weight(kind, rows, columns, seed);
        let x = values(!seed, m * columns);
        let out = product(&packed, &x);
        let (dense, exact) = (packed.dequantize(), rounded(kind, &x));
        let mut activations = QuantizedActivations::default();
        activations.quantize(kind, &x, columns);
        for row in 0..m {
            for tile in 0..rows.div_ceil(ROWS) {
                let job = Job { weight: &packed, tile, activations: &activations, first: row };
                let mut twin = [[0.0; ROWS]; 1];
                job.portable([job.row(row)], &mut twin);
                for (lane, twin) in twin[0].iter().enumerate().take(rows - tile * ROWS) {
                    let column = tile * ROWS + lane;
                    let ours = out[row * rows + column];
                    prop_assert_eq!(ours.to_bits(), twin.to_bits());
                    let terms = || (0..columns).map(|k| exact[row * columns + k] * f64::from(dense[column * columns + k]));
                    let (sum, magnitude) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    // a block's dot is exact in f32 (below 2^24); two scales, a product and a sum a block are rounded,
                    // and for K-quants those of the minima too, which may be much larger than what is left of them
                    let least = if kind.is_k() { 4.0 * minima(&packed, column, &exact[row * columns..][..columns]) } else { 0.0 };
                    let bound = (columns / kind.block() + 4) as f64 * (magnitude + least) / f64::from(1 << 24);
                    prop_assert!((f64::from(ours) - sum).abs() <= bound, "{ours} instead of {sum} ± {bound}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone(
        kind in prop::sample::select(&KINDS), rows in 1_usize..40, m in 1_usize..20, seed in any::<u64>(),
    ) {
        let columns = if kind.is_k() { 256 } else { 128 };
        let packed = weight(kind, rows, columns, seed);
        let x = values(!seed, m * columns);
        let together = product(&packed, &x);
        for (x, out) in x.chunks_exact(columns).zip(together.chunks_exact(rows)) {
            prop_assert_eq!(product(&packed, x), out);
        }
    }

    /// Blocks as ggml stores them, in any parts: tiles stand for the same numbers, and say so wherever they are read.
    #[test]
    fn what_is_stored_is_what_is_read(
        kind in prop::sample::select(&STORED), rows in 1_usize..70, blocks in 1_usize..8, cut in 0_usize..70, seed in any::<u64>(),
    ) {
        let columns = blocks * kind.block() * kind.group();
        let stored = stored(kind, rows, columns, seed);
        let expected = meant(kind, &stored);
        let mut packed = PackedWeight::zeros(kind, rows, columns);
        prop_assert!(packed.dequantize().iter().all(|&value| value == 0.0));
        let cut = cut.min(rows);
        let (first, rest) = stored.split_at(stored.len() / rows * cut);
        packed.store_rows(cut, rest);
        packed.store_rows(0, first);
        prop_assert_eq!(&packed.dequantize()[..], &expected[..]);
        let start = seed as usize % expected.len();
        let mut part = vec![0.0; (expected.len() - start).min(77)];
        packed.widen(start, &mut part);
        prop_assert_eq!(&part[..], &expected[start..start + part.len()]);
    }

    /// A prompt's products see the same numbers, packed from tiles or from the matrix that they stand for.
    #[test]
    fn general_products_of_tiles_equal_those_of_their_values(
        kind in prop::sample::select(&KINDS), n in 1_usize..100, blocks in 1_usize..30, m in 1_usize..40,
        halves in any::<bool>(), seed in any::<u64>(),
    ) {
        let k = blocks.div_ceil(kind.group()) * kind.block() * kind.group();
        let packed = weight(kind, n, k, seed);
        let (dense, x) = (packed.dequantize(), values(!seed, m * k));
        let precision = if halves { Precision::Bf16 } else { Precision::F32 };
        let product = |matrix: Matrix<'_>| {
            let mut y = vec![f32::NAN; m * n];
            linear(&x, matrix, &mut y, Shape { m, n, k }, precision);
            y
        };
        prop_assert_eq!(product(Matrix::Packed(&packed)), product(Matrix::F32(&dense)));
    }
}

#[test]
fn several_weights_in_one_pass() {
    let kinds = [
        (PackedFormat::Q4_0, 48),
        (PackedFormat::Q8_0, 17),
        (PackedFormat::Q4_0, 160),
    ];
    let weights = kinds.map(|(kind, rows)| weight(kind, rows, 576, rows as u64));
    let x = values(1, 3 * 576);
    let mut activations = QuantizedActivations::default();
    activations.quantize(PackedFormat::Q4_0, &x, 576);
    let mut outs = weights.each_ref().map(|weight| vec![f32::NAN; 3 * weight.rows]);
    let mut outputs: Vec<PackedProduct<'_>> = weights
        .iter()
        .zip(&mut outs)
        .map(|(weight, out)| PackedProduct { weight, out })
        .collect();
    products(&activations, &mut outputs);
    for (weight, out) in weights.iter().zip(&outs) {
        assert_eq!(&product(weight, &x), out);
    }
}

#[test]
fn levels_add_little_to_the_error_that_nf4_has() {
    let dense = values(5, 256 * 576);
    let nf4 = Nf4Matrix::quantize(&dense, 256, 576, true);
    let error = |values: &[f32]| {
        let squares = values.iter().zip(&dense).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let (before, after) = (
        error(&nf4.dequantize()),
        error(&PackedWeight::from_nf4(&nf4).dequantize()),
    );
    assert!(after < 1.005 * before, "{before} became {after}");
}

#[test]
fn zeros_stay_zeros_and_what_is_not_finite_stays_so() {
    for kind in KINDS {
        let packed = weight(kind, 16, 256, 3);
        assert!(product(&packed, &[0.0; 256]).iter().all(|&value| value == 0.0));
        for wrong in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            let mut x = [0.5; 256];
            x[7] = wrong;
            assert!(product(&packed, &x).iter().all(|value| value.is_nan()));
        }
    }
}
