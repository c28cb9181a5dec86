//! Every product against a plain f64 sum, over odd shapes and all storage formats.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::random::Stream;

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.uniform(i) - 0.5).collect()
}

/// The scalar twin: one sum at a time, in f64.
fn reference(product: &Product<'_>, before: &[f32], out_stride: usize) -> Vec<f64> {
    let Shape { m, n, k } = product.shape;
    let mut weight = vec![0.0; product.right.matrix.len()];
    product.right.matrix.widen(0, &mut weight);
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0;
            for p in 0..k {
                let left = if product.left.transposed {
                    product.left.data[p * product.left.stride + i]
                } else {
                    product.left.data[i * product.left.stride + p]
                };
                let right = if product.right.transposed {
                    weight[j * product.right.stride + p]
                } else {
                    weight[p * product.right.stride + j]
                };
                sum += f64::from(left) * f64::from(right);
            }
            let old = if product.accumulate == Accumulate::Add {
                f64::from(before[i * out_stride + j])
            } else {
                0.0
            };
            out.push(old + f64::from(product.scale) * sum);
        }
    }
    out
}

fn check(product: &Product<'_>, tolerance: f64) {
    let Shape { m, n, .. } = product.shape;
    let before = values(99, m * (n + 3));
    let expected = reference(product, &before, n + 3);
    for parallel in [true, false] {
        let mut out = before.clone();
        product.run(&mut out, n + 3, parallel);
        for i in 0..m {
            for j in 0..n {
                let (got, want) = (f64::from(out[i * (n + 3) + j]), expected[i * n + j]);
                assert!(
                    (got - want).abs() <= tolerance,
                    "{:?} at [{i}, {j}]: {got} instead of {want}",
                    product.shape
                );
            }
            if i + 1 < m {
                assert_eq!(
                    out[i * (n + 3) + n..(i + 1) * (n + 3)],
                    before[i * (n + 3) + n..(i + 1) * (n + 3)],
                    "wrote between rows"
                );
            }
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let length = prop_oneof![1usize..6, Just(12), Just(13), Just(31), Just(33), 60usize..70, Just(97)];
    let depth = prop_oneof![1usize..5, Just(63), Just(64), Just(65), Just(255), Just(257), Just(600)];
    (length.clone(), length, depth).prop_map(|(m, n, k)| Shape { m, n, k })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_equal_plain_sums(shape in shapes(), seed in 0u64..1000, left_t: bool, right_t: bool, add: bool, format in 0..3, halves: bool) {
        let Shape { m, n, k } = shape;
        let left = values(seed, m * k);
        let dense = values(seed + 1, n * k);
        let rounded: Vec<bf16> = dense.iter().map(|&v| bf16::from_f32(v)).collect();
        let (rows, cols) = if right_t { (n, k) } else { (k, n) };
        let quantised = Nf4Matrix::quantize(&dense, rows, cols, true);
        let matrix = match format { 0 => Matrix::F32(&dense), 1 => Matrix::Bf16(&rounded), _ => Matrix::Nf4(&quantised) };
        let product = Product {
            shape,
            left: if left_t { Left::transposed(&left, m) } else { Left::rows(&left, k) },
            right: if right_t { Right::transposed(matrix, k) } else { Right::rows(matrix, n) },
            scale: 0.75,
            accumulate: if add { Accumulate::Add } else { Accumulate::Overwrite },
            precision: if halves { Precision::Bf16 } else { Precision::F32 },
        };
        // f32 sums of k products below 1/4; bf16 factors are off by up to 2^-8 each
        let tolerance = if halves { 0.004 * (k as f64).sqrt() + 1e-3 } else { 1e-6 * k as f64 + 1e-6 };
        check(&product, tolerance);
    }
}

#[test]
fn one_thread_gives_the_same_bits() {
    let shape = Shape { m: 37, n: 200, k: 700 };
    let (left, right) = (values(1, 37 * 700), values(2, 200 * 700));
    let run = |count: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build()
            .unwrap()
            .install(|| {
                let mut out = vec![0.0; 37 * 200];
                linear(&left, Matrix::F32(&right), &mut out, shape, Precision::Bf16);
                out
            })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}
