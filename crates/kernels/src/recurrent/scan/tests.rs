//! The scan against its definition in f64, and its gradients against finite differences.

use super::*;
use crate::{
    parallel::with_threads,
    recurrent::reference::{normals, wide},
    recurrent::softplus,
};

/// Lengths, channels, states: one token, segments and their multiples and neighbors, widths that no vector divides,
/// more blocks than groups.
const SHAPES: [(&[usize], usize, usize); 7] = [
    (&[1], 1, 1),
    (&[1, 5, 3], 5, 3),
    (&[0, 70, 1, 65], 19, 4),
    (&[64, 128], 16, 5),
    (&[150], 33, 16),
    (&[7, 2], 600, 2),
    (&[500, 20, 1, 13], 2, 1),
];

const NAMES: [&str; 6] = ["x", "delta", "b", "c", "a_log", "d"];

struct Case {
    lengths: &'static [usize],
    inner: usize,
    state: usize,
    /// In the order of [`NAMES`].
    operands: [Vec<f32>; 6],
    dy: Vec<f32>,
}

impl Case {
    /// Inputs whose pre-activations are `N(0, scale²)`.
    fn scaled((lengths, inner, state): (&'static [usize], usize, usize), scale: f32) -> Self {
        let rows = lengths.iter().sum::<usize>();
        let scaled = |seed, count| normals(seed, count).iter().map(|v| v * scale).collect::<Vec<_>>();
        let steps = scaled(2, rows * inner);
        Self {
            lengths,
            inner,
            state,
            operands: [
                scaled(1, rows * inner),
                steps.iter().map(|&v| softplus(v - 1.0)).collect(),
                scaled(3, rows * state),
                scaled(4, rows * state),
                normals(5, inner * state),
                normals(6, inner),
            ],
            dy: normals(7, rows * inner),
        }
    }

    fn new(shape: (&'static [usize], usize, usize)) -> Self {
        Self::scaled(shape, 1.0)
    }

    fn parameters(&self) -> ScanParameters<'_> {
        ScanParameters {
            a_log: &self.operands[4],
            d: &self.operands[5],
            state: self.state,
        }
    }

    fn inputs(&self) -> ScanInputs<'_> {
        let [x, delta, b, c, ..] = &self.operands;
        ScanInputs { x, delta, b, c }
    }

    fn forward(&self) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.dy.len()];
        forward(self.parameters(), self.inputs(), self.lengths, None, &mut y);
        y
    }

    /// The gradients in the order of [`NAMES`]; what is added to starts from 0.5.
    fn backward(&self) -> [Vec<f32>; 6] {
        let mut gradients = self.operands.clone();
        for (index, gradient) in gradients.iter_mut().enumerate() {
            gradient.fill(if index < 4 { f32::NAN } else { 0.5 });
        }
        let [x, delta, b, c, a_log, d] = &mut gradients;
        let targets = ScanGradients {
            x,
            delta,
            b,
            c,
            a_log,
            d,
        };
        backward(self.parameters(), self.inputs(), self.lengths, &self.dy, targets);
        gradients
    }

    /// `y` by the definition.
    fn reference(&self, [x, delta, b, c, a_log, d]: &[Vec<f64>; 6]) -> Vec<f64> {
        let (inner, state) = (self.inner, self.state);
        let mut y = vec![0.0; x.len()];
        for rows in documents(self.lengths) {
            let mut h = vec![0.0; inner * state];
            for t in rows {
                for i in 0..inner {
                    let at = t * inner + i;
                    y[at] = d[i] * x[at];
                    for n in 0..state {
                        let h = &mut h[i * state + n];
                        let a = -a_log[i * state + n].exp();
                        *h = (delta[at] * a).exp() * *h + delta[at] * x[at] * b[t * state + n];
                        y[at] += *h * c[t * state + n];
                    }
                }
            }
        }
        y
    }

    /// One document's rows, with everything else as it is.
    fn part(&self, rows: Range<usize>, lengths: &'static [usize]) -> Self {
        let mut operands = self.operands.clone();
        for (operand, width) in operands
            .iter_mut()
            .zip([self.inner, self.inner, self.state, self.state])
        {
            *operand = operand[rows.start * width..rows.end * width].to_vec();
        }
        Self {
            lengths,
            operands,
            dy: self.dy[rows.start * self.inner..rows.end * self.inner].to_vec(),
            ..*self
        }
    }
}

#[test]
fn forward_equals_the_definition() {
    for shape in SHAPES {
        let case = Case::new(shape);
        let expected = case.reference(&case.operands.clone().map(|operand| wide(&operand)));
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
        let mut operands = case.operands.clone().map(|operand| wide(&operand));
        let objective = |operands: &[Vec<f64>; 6]| -> f64 {
            let y = case.reference(operands);
            y.iter().zip(&case.dy).map(|(y, dy)| y * f64::from(*dy)).sum()
        };
        for (which, (name, got)) in NAMES.into_iter().zip(case.backward()).enumerate() {
            let start = if which < 4 { 0.0 } else { 0.5 };
            let scale = got.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
            assert!(got.iter().all(|value| value.is_finite()), "{shape:?}: d{name}");
            for index in (0..got.len()).step_by(got.len() / 60 + 1) {
                let mut moved = |by: f64| {
                    let before = operands[which][index];
                    operands[which][index] += by;
                    let value = objective(&operands);
                    operands[which][index] = before;
                    value
                };
                let expected = start + (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (f64::from(got[index]) - expected).abs() < 1e-4 * f64::from(scale),
                    "{shape:?}: d{name} {index} is {} instead of {expected}",
                    got[index]
                );
            }
        }
    }
}

/// Pieces of 1, 2, 64, ... rows with the state carried, beside another document, give the whole's bits.
#[test]
fn cut_calls_give_the_same_bits() {
    for (inner, state) in [(1, 1), (19, 4), (48, 16)] {
        let case = Case::new((&[200], inner, state));
        let mut whole = vec![f32::NAN; 200 * inner];
        let mut last = vec![0.0; inner * state];
        forward(
            case.parameters(),
            case.inputs(),
            &[200],
            Some(&mut [&mut last]),
            &mut whole,
        );
        assert_eq!(whole, case.forward(), "zeros are the state before the first row");
        let mut kept = [vec![0.0; inner * state], vec![0.0; inner * state]];
        let mut first = 0;
        for count in [1, 2, 64, 0, 5, 1, 70].into_iter().cycle() {
            let count: usize = count.min(200 - first);
            let piece = case.part(first..first + count, &[]);
            // the other document is made of the same rows
            let both = piece.operands.clone().map(|operand| operand.repeat(2));
            let mut y = vec![f32::NAN; 2 * count * inner];
            let [left, right] = &mut kept;
            let inputs = ScanInputs {
                x: &both[0],
                delta: &both[1],
                b: &both[2],
                c: &both[3],
            };
            left.fill(0.5);
            forward(
                case.parameters(),
                inputs,
                &[count, count],
                Some(&mut [left, right]),
                &mut y,
            );
            let range = first * inner..(first + count) * inner;
            assert_eq!(y[count * inner..], whole[range], "{count} rows from {first}");
            first += count;
            if first == 200 {
                break;
            }
        }
        assert_eq!(kept[1], last, "the last state");
    }
}

#[test]
fn no_state_crosses_documents() {
    let case = Case::new((&[66, 71], 19, 4));
    let (y, [dx, ddelta, db, dc, ..]) = (case.forward(), case.backward());
    let alone = case.part(66..137, &[71]);
    assert_eq!(y[66 * 19..], alone.forward());
    let [alone_x, alone_delta, alone_b, alone_c, ..] = alone.backward();
    assert_eq!((&dx[66 * 19..], &ddelta[66 * 19..]), (&alone_x[..], &alone_delta[..]));
    assert_eq!((&db[66 * 4..], &dc[66 * 4..]), (&alone_b[..], &alone_c[..]));
}

/// 8,192 tokens of large inputs, and a size that several threads share.
#[test]
fn long_documents_stay_finite_and_threads_change_nothing() {
    let case = Case::scaled((&[8192, 700, 3, 9], 40, 16), 3.0);
    let run = || (case.forward(), case.backward());
    let (y, gradients) = run();
    assert!(y.iter().chain(gradients.iter().flatten()).all(|v| v.is_finite()));
    assert_eq!((y, gradients), with_threads(1, run));
}
