//! The convolution against its definition in f64, and its gradients against finite differences.

use super::*;
use crate::{
    parallel::with_threads,
    recurrent::reference::{normals, wide},
};

/// Lengths, channels, taps: one row, documents shorter than the filter, widths that no vector divides.
const SHAPES: [(&[usize], usize, usize); 7] = [
    (&[1], 1, 1),
    (&[1, 5, 2], 3, 4),
    (&[0, 7, 1, 13], 37, 4),
    (&[9, 2], 5, 7),
    (&[20, 3], 65, 3),
    (&[6], 300, 2),
    (&[3, 4], 64, 1),
];

struct Case {
    lengths: &'static [usize],
    channels: usize,
    width: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new((lengths, channels, width): (&'static [usize], usize, usize)) -> Self {
        let size = lengths.iter().sum::<usize>() * channels;
        Self {
            lengths,
            channels,
            width,
            x: normals(1, size),
            weight: normals(2, channels * width),
            bias: normals(3, channels),
            dy: normals(4, size),
        }
    }

    fn filter(&self) -> ConvFilter<'_> {
        ConvFilter {
            weight: &self.weight,
            bias: &self.bias,
            width: self.width,
        }
    }

    fn forward(&self) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.x.len()];
        forward(self.filter(), &self.x, self.lengths, None, &mut y);
        y
    }

    /// dx, dw and db; what is added to starts from 0.5.
    fn backward(&self) -> [Vec<f32>; 3] {
        let mut x = vec![f32::NAN; self.x.len()];
        let (mut weight, mut bias) = (vec![0.5; self.weight.len()], vec![0.5; self.bias.len()]);
        let gradients = ConvGradients {
            x: &mut x,
            weight: &mut weight,
            bias: &mut bias,
        };
        backward(self.filter(), &self.x, self.lengths, &self.dy, gradients);
        [x, weight, bias]
    }

    /// `y` by the definition.
    fn reference(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let (channels, width) = (self.channels, self.width);
        let mut y = vec![0.0; x.len()];
        for rows in documents(self.lengths) {
            for t in rows.clone() {
                for c in 0..channels {
                    let taps = (0..width).filter(|tap| t + tap >= rows.start + width - 1);
                    let sum: f64 = taps
                        .map(|tap| weight[c * width + tap] * x[(t + tap + 1 - width) * channels + c])
                        .sum();
                    let z = bias[c] + sum;
                    y[t * channels + c] = z / (1.0 + (-z).exp());
                }
            }
        }
        y
    }
}

#[test]
fn forward_equals_the_definition() {
    for shape in SHAPES {
        let case = Case::new(shape);
        let expected = case.reference(&wide(&case.x), &wide(&case.weight), &wide(&case.bias));
        let scale = expected.iter().fold(1.0f64, |scale, y| scale.max(y.abs()));
        for (i, (got, want)) in case.forward().iter().zip(&expected).enumerate() {
            assert!(
                (f64::from(*got) - want).abs() < 1e-5 * scale,
                "{shape:?} at {i}: {got} instead of {want}"
            );
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for shape in SHAPES {
        let case = Case::new(shape);
        let inputs = [wide(&case.x), wide(&case.weight), wide(&case.bias)];
        let objective = |inputs: &[Vec<f64>; 3]| -> f64 {
            let y = case.reference(&inputs[0], &inputs[1], &inputs[2]);
            y.iter().zip(&case.dy).map(|(y, dy)| y * f64::from(*dy)).sum()
        };
        for (which, (name, got)) in ["dx", "dw", "db"].into_iter().zip(case.backward()).enumerate() {
            let start = if which == 0 { 0.0 } else { 0.5 };
            let scale = got.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
            for index in (0..got.len()).step_by(got.len() / 200 + 1) {
                let moved = |by: f64| {
                    let mut moved = inputs.clone();
                    moved[which][index] += by;
                    objective(&moved)
                };
                let expected = start + (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (f64::from(got[index]) - expected).abs() < 1e-4 * f64::from(scale),
                    "{shape:?}: {name} {index} is {} instead of {expected}",
                    got[index]
                );
            }
        }
    }
}

/// Pieces of 1, 2, 5, 1, ... rows with the state carried, beside another document, give the whole's bits.
#[test]
fn cut_calls_give_the_same_bits() {
    for (channels, width) in [(5, 1), (37, 4), (3, 9)] {
        let rows = 40;
        let case = Case::new((&[40], channels, width));
        let whole = case.forward();
        let other = normals(9, rows * channels);
        let mut kept = [vec![0.0; (width - 1) * channels], vec![0.0; (width - 1) * channels]];
        let mut first = 0;
        for count in [1, 2, 5, 1, 0, 12].into_iter().cycle() {
            let count: usize = count.min(rows - first);
            let range = first * channels..(first + count) * channels;
            let x = [&other[..3 * channels], &case.x[range.clone()]].concat();
            let mut y = vec![f32::NAN; x.len()];
            let [left, right] = &mut kept;
            let states: &mut [&mut [f32]] = &mut [left, right];
            forward(case.filter(), &x, &[3, count], Some(states), &mut y);
            assert_eq!(y[3 * channels..], whole[range], "{count} rows from {first}");
            first += count;
            if first == rows {
                break;
            }
        }
        let last = (rows - (width - 1)) * channels;
        assert_eq!(kept[1], case.x[last..], "the state is the last inputs");
    }
}

#[test]
fn no_state_crosses_documents() {
    let case = Case::new((&[6, 11], 19, 4));
    let (y, [dx, ..]) = (case.forward(), case.backward());
    let split = 6 * 19;
    let alone = Case {
        lengths: &[11],
        x: case.x[split..].to_vec(),
        dy: case.dy[split..].to_vec(),
        ..Case::new((&[11], 19, 4))
    };
    assert_eq!(y[split..], alone.forward());
    assert_eq!(dx[split..], alone.backward()[0]);
}

/// 8,192 rows of large inputs, and a size that several threads share.
#[test]
fn long_documents_stay_finite_and_threads_change_nothing() {
    let mut case = Case::new((&[8192, 77], 70, 4));
    case.x.iter_mut().for_each(|x| *x *= 30.0);
    let run = || (case.forward(), case.backward());
    let (y, gradients) = run();
    assert!(y.iter().chain(gradients.iter().flatten()).all(|v| v.is_finite()));
    assert_eq!((y, gradients), with_threads(1, run));
}
