//! The sLSTM cell against its equations in f64, its forms against each other, and its gradients against finite
//! differences of those equations.

use super::*;
use crate::recurrent::log_sigmoid;
use crate::{
    parallel::with_threads,
    recurrent::reference::{assert_close, scaled_normals, wide},
};

/// Shapes and documents: odd widths, documents of one token and of none, and whole lanes.
const CASES: [(SlstmShape, &[usize]); 4] = [
    (SlstmShape { heads: 3, dim: 5 }, &[1, 9, 4]),
    (SlstmShape { heads: 1, dim: 1 }, &[6]),
    (SlstmShape { heads: 2, dim: 16 }, &[3, 0, 7]),
    (SlstmShape { heads: 1, dim: 19 }, &[11, 1]),
];

/// `W x + b` and the recurrent matrices.
fn operands(shape: SlstmShape, total: usize, scale: f32) -> (Vec<f32>, Vec<f32>) {
    (
        scaled_normals(1, total * GATES * shape.width(), scale),
        scaled_normals(2, shape.heads * shape.matrices(), 1.0 / (shape.dim as f32).sqrt()),
    )
}

/// `h` by the equations.
fn reference(shape: SlstmShape, pre: &[f64], recurrent: &[f64], lengths: &[usize]) -> Vec<f64> {
    let SlstmShape { heads, dim } = shape;
    let mut out = vec![0.0; pre.len() / GATES];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for rows in documents(lengths) {
        for head in 0..heads {
            let (mut c, mut n, mut h, mut m) = (vec![0.0; dim], vec![0.0; dim], vec![0.0; dim], vec![0.0f64; dim]);
            for t in rows.clone() {
                let previous = h.clone();
                for j in 0..dim {
                    let p = |gate: usize| {
                        let row = ((head * GATES + gate) * dim + j) * dim;
                        let products = recurrent[row..row + dim].iter().zip(&previous).map(|(r, h)| r * h);
                        pre[((t * GATES + gate) * heads + head) * dim + j] + products.sum::<f64>()
                    };
                    let forget = sigmoid(p(2)).ln() + m[j];
                    let first = t == rows.start;
                    let next = if first { p(1) } else { forget.max(p(1)) };
                    let keep = if first { 0.0 } else { (forget - next).exp() };
                    let write = (p(1) - next).exp();
                    c[j] = keep * c[j] + write * p(0).tanh();
                    n[j] = keep * n[j] + write;
                    h[j] = sigmoid(p(3)) * c[j] / n[j];
                    m[j] = next;
                    out[(t * heads + head) * dim + j] = h[j];
                }
            }
        }
    }
    out
}

/// `h`, and the gradients of `pre` and of the matrices, which are added to `held`.
fn trained(shape: SlstmShape, inputs: SlstmInputs<'_>, lengths: &[usize], dh: &[f32], held: f32) -> [Vec<f32>; 3] {
    let (mut h, mut d_pre) = (vec![0.5; dh.len()], vec![0.5; inputs.pre.len()]);
    let mut d_recurrent = vec![held; inputs.recurrent.len()];
    let saved = forward_saved(shape, inputs, lengths, &mut h);
    let gradients = SlstmGradients {
        pre: &mut d_pre,
        recurrent: &mut d_recurrent,
    };
    backward(shape, inputs, lengths, &saved, dh, gradients);
    [h, d_pre, d_recurrent]
}

#[test]
fn forward_equals_the_equations() {
    for (shape, lengths) in CASES {
        let total: usize = lengths.iter().sum();
        let (pre, recurrent) = operands(shape, total, 1.0);
        let inputs = SlstmInputs {
            pre: &pre,
            recurrent: &recurrent,
        };
        let want = reference(shape, &wide(&pre), &wide(&recurrent), lengths);
        let mut h = vec![0.5; want.len()];
        forward(shape, inputs, lengths, None, &mut h);
        assert_close(&h, &want, 1e-5, &format!("{shape:?}"));
        let mut saved = vec![0.5; want.len()];
        forward_saved(shape, inputs, lengths, &mut saved);
        assert_eq!(h, saved);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (shape, lengths) in CASES {
        let total: usize = lengths.iter().sum();
        let (pre, recurrent) = operands(shape, total, 1.0);
        let inputs = SlstmInputs {
            pre: &pre,
            recurrent: &recurrent,
        };
        let dh = scaled_normals(3, total * shape.width(), 1.0);
        let [_, d_pre, d_recurrent] = trained(shape, inputs, lengths, &dh, 0.25);
        let objective = |[pre, recurrent]: &[Vec<f64>; 2]| -> f64 {
            let h = reference(shape, pre, recurrent, lengths);
            h.iter().zip(&dh).map(|(h, dh)| h * f64::from(*dh)).sum()
        };
        let mut operands = [wide(&pre), wide(&recurrent)];
        for (which, (gradient, held)) in [(d_pre, 0.0), (d_recurrent, 0.25)].into_iter().enumerate() {
            let want: Vec<f64> = (0..gradient.len())
                .map(|index| {
                    let kept = operands[which][index];
                    let mut moved = |by: f64| {
                        operands[which][index] = kept + by;
                        objective(&operands)
                    };
                    let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    operands[which][index] = kept;
                    held + slope
                })
                .collect();
            assert_close(&gradient, &want, 1e-4, &format!("gradient {which} of {shape:?}"));
        }
    }
}

#[test]
fn cut_calls_give_the_bits_of_a_whole_one() {
    let (shape, length) = (SlstmShape { heads: 2, dim: 9 }, 23);
    let (pre, recurrent) = operands(shape, length, 1.0);
    let mut whole = vec![0.0; length * shape.width()];
    let inputs = SlstmInputs {
        pre: &pre,
        recurrent: &recurrent,
    };
    forward(shape, inputs, &[length], None, &mut whole);
    let other_pre = scaled_normals(7, 3 * GATES * shape.width(), 2.0);
    let mut state = vec![0.0; shape.state()];
    let mut cut = Vec::new();
    for rows in documents(&[1, 6, 0, 15, 1]) {
        // another document stands before it
        let own = &pre[rows.start * GATES * shape.width()..rows.end * GATES * shape.width()];
        let both = [&other_pre, own].concat();
        let mut h = vec![0.0; (3 + rows.len()) * shape.width()];
        let mut other = vec![0.0; shape.state()];
        let mut states = [other.as_mut_slice(), state.as_mut_slice()];
        let inputs = SlstmInputs {
            pre: &both,
            recurrent: &recurrent,
        };
        forward(shape, inputs, &[3, rows.len()], Some(&mut states), &mut h);
        cut.extend_from_slice(&h[3 * shape.width()..]);
    }
    assert_eq!(whole, cut);
}

#[test]
fn no_state_crosses_documents() {
    let (shape, lengths) = (SlstmShape { heads: 2, dim: 17 }, [5, 1, 8]);
    let total = lengths.iter().sum();
    let (pre, recurrent) = operands(shape, total, 1.0);
    let dh = scaled_normals(3, total * shape.width(), 1.0);
    let run = |rows: Range<usize>, lengths: &[usize]| {
        let inputs = SlstmInputs {
            pre: &pre[rows.start * GATES * shape.width()..rows.end * GATES * shape.width()],
            recurrent: &recurrent,
        };
        trained(
            shape,
            inputs,
            lengths,
            &dh[rows.start * shape.width()..rows.end * shape.width()],
            0.0,
        )
    };
    let [h, d_pre, _] = run(0..total, &lengths);
    for rows in documents(&lengths) {
        let [alone_h, alone_pre, _] = run(rows.clone(), &[rows.len()]);
        assert_eq!(h[rows.start * shape.width()..rows.end * shape.width()], alone_h);
        let width = GATES * shape.width();
        assert_eq!(d_pre[rows.start * width..rows.end * width], alone_pre);
    }
}

#[test]
fn a_long_document_with_steep_gates_stays_finite() {
    let (shape, lengths) = (SlstmShape { heads: 2, dim: 9 }, [8192]);
    let (pre, recurrent) = operands(shape, lengths[0], 3.0);
    let inputs = SlstmInputs {
        pre: &pre,
        recurrent: &recurrent,
    };
    let dh = scaled_normals(3, lengths[0] * shape.width(), 1.0);
    for values in trained(shape, inputs, &lengths, &dh, 0.0) {
        assert!(values.iter().all(|value| value.is_finite()));
        assert!(values.iter().any(|value| *value != 0.0));
    }
}

#[test]
fn one_thread_gives_the_bits_of_many() {
    // the last has matrices large enough to be split
    for (shape, lengths) in CASES
        .into_iter()
        .chain([(SlstmShape { heads: 2, dim: 48 }, [9, 4].as_slice())])
    {
        let total = lengths.iter().sum();
        let (pre, recurrent) = operands(shape, total, 1.0);
        let inputs = SlstmInputs {
            pre: &pre,
            recurrent: &recurrent,
        };
        let dh = scaled_normals(3, total * shape.width(), 1.0);
        let all = || trained(shape, inputs, lengths, &dh, 0.5);
        assert_eq!(all(), with_threads(1, all));
    }
}

#[test]
fn log_sigmoid_agrees_with_f64() {
    let mut x = -80.0f32;
    while x < 80.0 {
        let expected = -(-f64::from(x)).exp().ln_1p();
        let error = (f64::from(log_sigmoid(x)) - expected).abs();
        assert!(error <= 3e-7 * expected.abs() + 1e-30, "ln σ({x}): error {error}");
        x += 0.0137;
    }
}
