//! Every product against a plain f64 sum, over odd shapes and all storage formats.
use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::{Nf4Matrix, random::Stream};

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.uniform(i) - 0.5).collect()
}

/// The scalar twin: one sum at a time, in f64.
fn reference(product: &Product<'_>, before: &[f32], out_stride: usize) -> Vec<f64> {
    let Shape { m, n, k } = product.shape;
    let mut weight = vec![0.0; product.right.matrix.len()];
    product.right.matrix.widen(0, &mut weight);
    let mut activation = vec![0.0; product.left.matrix.len()];
    product.left.matrix.widen(0, &mut activation);
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0;
            for p in 0..k {
                let left = if product.left.transposed {
                    activation[p * product.left.stride + i]
                } else {
                    activation[i * product.left.stride + p]
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
    let depth = prop_oneof![
        1usize..5,
        Just(63),
        Just(64),
        Just(65),
        Just(255),
        Just(257),
        Just(600),
        Just(1601)
    ];
    (length.clone(), length, depth).prop_map(|(m, n, k)| Shape { m, n, k })
}

/// One operand in all formats.
struct Stored {
    floats: Vec<f32>,
    halves: Vec<bf16>,
    codes: Nf4Matrix,
}

impl Stored {
    fn new(seed: u64, rows: usize, cols: usize) -> Self {
        let floats = values(seed, rows * cols);
        Self {
            halves: floats.iter().map(|&v| bf16::from_f32(v)).collect(),
            codes: Nf4Matrix::quantize(&floats, rows, cols, true),
            floats,
        }
    }

    fn matrix(&self, format: u8) -> Matrix<'_> {
        match format {
            0 => Matrix::F32(&self.floats),
            1 => Matrix::Bf16(&self.halves),
            _ => Matrix::Nf4(&self.codes),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_equal_plain_sums(shape in shapes(), seed in 0u64..1000, left_t: bool, right_t: bool, add: bool, formats in (0u8..2, 0u8..3), halves: bool) {
        let Shape { m, n, k } = shape;
        let (rows, cols) = if left_t { (k, m) } else { (m, k) };
        let left = Stored::new(seed, rows, cols);
        let left = if left_t { Left::transposed(left.matrix(formats.0), m) } else { Left::rows(left.matrix(formats.0), k) };
        let (rows, cols) = if right_t { (n, k) } else { (k, n) };
        let right = Stored::new(seed + 1, rows, cols);
        let right = right.matrix(formats.1);
        let product = Product {
            shape,
            left,
            right: if right_t { Right::transposed(right, k) } else { Right::rows(right, n) },
            scale: 0.75,
            accumulate: if add { Accumulate::Add } else { Accumulate::Overwrite },
            precision: if halves { Precision::Bf16 } else { Precision::F32 },
        };
        // f32 sums of k products below 1/4; bf16 factors are off by up to 2^-8 each
        let tolerance = if halves { 0.004 * (k as f64).sqrt() + 1e-3 } else { 1e-6 * k as f64 + 1e-6 };
        check(&product, tolerance);
    }

    #[test]
    fn sums_add_their_terms(m in prop_oneof![1usize..6, 30usize..35], n in 1usize..70, depths in prop::collection::vec(0usize..90, 1..4), add: bool, halves: bool) {
        let precision = if halves { Precision::Bf16 } else { Precision::F32 };
        let operands: Vec<_> = depths.iter().enumerate().map(|(i, &k)| (k, values(i as u64, m * k), values(i as u64 + 9, n * k))).collect();
        let terms: Vec<_> = operands.iter().map(|(k, left, right)| Term {
            left: Left::rows(left, *k),
            right: Right::transposed(right, *k),
            k: *k,
            scale: 0.5 + *k as f32 / 100.0,
        }).collect();
        let before = values(77, m * n);
        let mut expected: Vec<f64> = before.iter().map(|&v| if add { f64::from(v) } else { 0.0 }).collect();
        for term in &terms {
            let product = Product {
                shape: Shape { m, n, k: term.k },
                left: term.left,
                right: term.right,
                scale: term.scale,
                accumulate: Accumulate::Overwrite,
                precision,
            };
            for (sum, value) in expected.iter_mut().zip(reference(&product, &before, n)) {
                *sum += value;
            }
        }
        let mut out = before;
        let accumulate = if add { Accumulate::Add } else { Accumulate::Overwrite };
        Sum { m, n, terms: &terms, accumulate, precision }.compute(&mut out, n);
        for (got, want) in out.iter().zip(&expected) {
            prop_assert!((f64::from(*got) - want).abs() < if halves { 0.1 } else { 1e-4 }, "{got} instead of {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What generated and prompt tokens rest on: neither batch nor chunk changes a bit of a row.
    #[test]
    fn a_row_is_the_same_alone_by_panels_and_by_dots(m in 2usize..40, n in 1usize..70, k in prop_oneof![Just(1usize), 30usize..70, Just(700), Just(1601)], format in 0u8..3, halves: bool) {
        let (left, right) = (values(1, m * k), Stored::new(2, n, k));
        let rows = |first: usize, count: usize, dots: bool| {
            let term = Term {
                left: Left::rows(&left[first * k..(first + count) * k], k),
                right: Right::transposed(right.matrix(format), k),
                k,
                scale: 0.5,
            };
            let mut out = vec![f32::NAN; count * n];
            let precision = if halves { Precision::Bf16 } else { Precision::F32 };
            let sum = Sum { m: count, n, terms: &[term], accumulate: Accumulate::Overwrite, precision };
            if dots {
                sum.compute_dots(&mut out, n);
            } else {
                sum.compute_panels(&mut out, n);
            }
            out
        };
        for dots in [false, true] {
            let together = rows(0, m, dots);
            let alone: Vec<f32> = (0..m).flat_map(|row| rows(row, 1, dots)).collect();
            prop_assert_eq!(&together, &alone);
            let chunks: Vec<f32> = (0..m).step_by(7).flat_map(|row| rows(row, 7.min(m - row), dots)).collect();
            prop_assert_eq!(&together, &chunks);
        }
        let (panels, dots) = (rows(0, m, false), rows(0, m, true));
        for (panels, dots) in panels.iter().zip(&dots) {
            // k products below 1/4, halved; a factor rounded to bf16 is off by 2^-9 at most, and dots round only
            // factors that are stored so
            let tolerance = k as f32 / 8.0 * if halves { 0.01 } else { 1e-6 } + 1e-6;
            prop_assert!((panels - dots).abs() <= tolerance, "{panels} and {dots}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Thin sums of several sizes, some large enough to be parted, some with nothing to do.
    #[test]
    fn dots_together_are_those_of_each_alone(
        shapes in prop::collection::vec((0usize..7, 0usize..90, 0usize..3), 0..6),
        k in prop_oneof![Just(1usize), 30usize..70, Just(700)],
        format in 0u8..3,
        add: bool,
    ) {
        let accumulate = if add { Accumulate::Add } else { Accumulate::Overwrite };
        let operands: Vec<(Vec<f32>, Stored)> = shapes
            .iter()
            .zip(1..)
            .map(|(&(m, n, _), seed)| (values(seed, m * k), Stored::new(seed + 50, n.max(1), k)))
            .collect();
        let terms: Vec<Vec<Term<'_>>> = operands
            .iter()
            .zip(&shapes)
            .map(|((left, right), &(_, _, terms))| {
                let term = Term { left: Left::rows(left, k), right: Right::transposed(right.matrix(format), k), k, scale: 0.5 };
                vec![term; terms]
            })
            .collect();
        let sums = || shapes.iter().zip(&terms).map(|(&(m, n, _), terms)| Sum { m, n, terms, accumulate, precision: Precision::Bf16 });
        let before: Vec<Vec<f32>> = shapes.iter().map(|&(m, n, _)| values(7, m * n)).collect();
        let mut alone = before.clone();
        for (sum, out) in sums().zip(&mut alone) {
            sum.compute_dots(out, sum.n);
        }
        let mut together = before;
        let mut jobs: Vec<_> = sums().zip(&mut together).map(|(sum, out)| (sum, out.as_mut_slice())).collect();
        Sum::compute_dots_together(&mut jobs);
        prop_assert_eq!(alone, together);
    }
}

/// Trained weights rest on it: a document's last rows of attention are so few.
#[test]
fn few_rows_of_training_are_not_rounded() {
    let (m, n, k) = (3, 40, 257);
    let (left, right) = (values(1, m * k), Stored::new(2, n, k));
    let product = Product {
        shape: Shape { m, n, k },
        left: Left::rows(&left, k),
        right: Right::transposed(right.matrix(1), k),
        scale: 0.5,
        accumulate: Accumulate::Overwrite,
        precision: Precision::Bf16,
    };
    check(&product, 1e-6 * k as f64);
}

#[test]
fn one_thread_gives_the_same_bits() {
    let shape = Shape { m: 37, n: 200, k: 700 };
    let (left, right) = (values(1, 37 * 700), values(2, 200 * 700));
    let run = |count: usize| {
        crate::with_threads(count, || {
            let mut out = vec![0.0; 37 * 200];
            linear(&left, Matrix::F32(&right), &mut out, shape, Precision::Bf16);
            out
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}
