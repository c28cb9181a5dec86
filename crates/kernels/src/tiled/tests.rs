//! The tiles against their definition, each path against its twin, and rows against themselves alone.

use proptest::prelude::*;

use super::*;
use crate::random::Stream;

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.normal(i)).collect()
}

fn weight(eight: bool, rows: usize, columns: usize, seed: u64) -> Tiled {
    let dense = values(seed, rows * columns);
    if eight {
        Tiled::quantize8(Matrix::F32(&dense), rows, columns)
    } else {
        Tiled::from_nf4(&Nf4Matrix::quantize(&dense, rows, columns, true))
    }
}

fn product(weight: &Tiled, x: &[f32]) -> Vec<f32> {
    let mut activations = Activations::default();
    activations.quantize(x, weight.columns);
    let mut out = vec![f32::NAN; activations.rows * weight.rows];
    products(&activations, &mut [Output { weight, out: &mut out }]);
    out
}

/// Rounded activations, `[m, columns]` in f64.
fn rounded(x: &[f32]) -> Vec<f64> {
    let mut activations = Activations::default();
    activations.quantize(x, BLOCK);
    let value = |(at, &value): (usize, &i8)| f64::from(value) * f64::from(activations.scales[at / BLOCK]);
    activations.values.iter().enumerate().map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_its_definition_and_its_twin(
        eight in any::<bool>(), rows in 1_usize..70, blocks in 1_usize..6, m in 1_usize..12, seed in any::<u64>(),
    ) {
        let columns = blocks * BLOCK;
        let tiled = weight(eight, rows, columns, seed);
        let x = values(!seed, m * columns);
        let out = product(&tiled, &x);
        let (dense, exact) = (tiled.dequantize(), rounded(&x));
        let mut activations = Activations::default();
        activations.quantize(&x, columns);
        for row in 0..m {
            for tile in 0..rows.div_ceil(ROWS) {
                let job = Job { weight: &tiled, tile, activations: &activations, first: row };
                let mut twin = [[0.0; ROWS]; 1];
                job.portable([row], &mut twin);
                for (lane, twin) in twin[0].iter().enumerate().take(rows - tile * ROWS) {
                    let column = tile * ROWS + lane;
                    let ours = out[row * rows + column];
                    prop_assert_eq!(ours.to_bits(), twin.to_bits());
                    let terms = || (0..columns).map(|k| exact[row * columns + k] * f64::from(dense[column * columns + k]));
                    let (sum, magnitude) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    // a block's dot is exact in f32 (below 2^24); two scales, a product and a sum a block are rounded
                    let bound = (blocks + 4) as f64 * magnitude / f64::from(1 << 24);
                    prop_assert!((f64::from(ours) - sum).abs() <= bound, "{ours} instead of {sum} ± {bound}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone(eight in any::<bool>(), rows in 1_usize..40, m in 1_usize..20, seed in any::<u64>()) {
        let tiled = weight(eight, rows, 128, seed);
        let x = values(!seed, m * 128);
        let together = product(&tiled, &x);
        for (x, out) in x.chunks_exact(128).zip(together.chunks_exact(rows)) {
            prop_assert_eq!(product(&tiled, x), out);
        }
    }
}

#[test]
fn several_weights_in_one_pass() {
    let weights = [(false, 48), (true, 17), (false, 160)].map(|(eight, rows)| weight(eight, rows, 576, rows as u64));
    let x = values(1, 3 * 576);
    let mut activations = Activations::default();
    activations.quantize(&x, 576);
    let mut outs = weights.each_ref().map(|weight| vec![f32::NAN; 3 * weight.rows]);
    let mut outputs: Vec<Output<'_>> = weights
        .iter()
        .zip(&mut outs)
        .map(|(weight, out)| Output { weight, out })
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
    let (before, after) = (error(&nf4.dequantize()), error(&Tiled::from_nf4(&nf4).dequantize()));
    assert!(after < 1.005 * before, "{before} became {after}");
}

#[test]
fn zeros_stay_zeros_and_what_is_not_finite_stays_so() {
    let tiled = weight(true, 16, 64, 3);
    assert!(product(&tiled, &[0.0; 64]).iter().all(|&value| value == 0.0));
    let mut x = [0.5; 64];
    x[7] = f32::INFINITY;
    assert!(product(&tiled, &x).iter().all(|value| value.is_nan()));
    x[7] = f32::NAN;
    assert!(product(&tiled, &x).iter().all(|value| value.is_nan()));
}
