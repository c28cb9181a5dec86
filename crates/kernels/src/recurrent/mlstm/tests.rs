//! The mLSTM cell against its equations in f64, its forms against each other, and its gradients against finite
//! differences of those equations.

use super::{chunkwise::chunkwise_by, *};
use crate::{
    parallel::with_threads,
    recurrent::reference::{assert_close, scaled_normals, wide},
};

/// Shapes and documents: odd widths, documents of one token, none, and a little more than one and two chunks.
const CASES: [(MlstmShape, &[usize]); 4] = [
    (shape(2, 3, 5), &[1, 67, 9, 130]),
    (shape(1, 1, 1), &[5]),
    (shape(3, 16, 17), &[2, 0, 40]),
    (shape(1, 7, 2), &[64, 1, 128]),
];

const fn shape(heads: usize, key: usize, value: usize) -> MlstmShape {
    MlstmShape { heads, key, value }
}

/// Owned inputs: q, k, v, ĩ and f̃.
#[derive(Clone)]
struct Owned<T>([Vec<T>; 5]);

fn widths(shape: MlstmShape) -> [usize; 5] {
    let (key, value) = (shape.key_width(), shape.value_width());
    [key, key, value, shape.heads, shape.heads]
}

impl Owned<f32> {
    fn new(shape: MlstmShape, total: usize, gates: f32) -> Self {
        let scales = [1.0, 1.0, 1.0, gates, gates];
        Self(std::array::from_fn(|i| {
            scaled_normals(i as u64, total * widths(shape)[i], scales[i])
        }))
    }

    fn inputs(&self) -> MlstmInputs<'_> {
        let [q, k, v, input_gate, forget_gate] = &self.0;
        MlstmInputs {
            q,
            k,
            v,
            input_gate,
            forget_gate,
        }
    }

    fn wide(&self) -> Owned<f64> {
        Owned(self.0.each_ref().map(|values| wide(values)))
    }

    /// Some rows alone.
    fn rows(&self, shape: MlstmShape, rows: Range<usize>) -> Self {
        let widths = widths(shape);
        Self(std::array::from_fn(|i| {
            self.0[i][rows.start * widths[i]..rows.end * widths[i]].to_vec()
        }))
    }
}

/// `h` by the equations.
fn reference(shape: MlstmShape, Owned([q, k, v, i, f]): &Owned<f64>, lengths: &[usize]) -> Vec<f64> {
    let MlstmShape { heads, key, value } = shape;
    let mut h = vec![0.0; v.len()];
    for rows in documents(lengths) {
        for head in 0..heads {
            let (mut c, mut n, mut m) = (vec![0.0; key * value], vec![0.0; key], 0.0f64);
            for t in rows.clone() {
                let (gate, at, to) = (t * heads + head, (t * heads + head) * key, (t * heads + head) * value);
                let forget = -(-f[gate]).exp().ln_1p();
                let next = (forget + m).max(i[gate]);
                let (keep, write) = ((forget + m - next).exp(), (i[gate] - next).exp());
                m = next;
                let mut sum = 0.0;
                for a in 0..key {
                    let scaled = k[at + a] / (key as f64).sqrt();
                    n[a] = keep * n[a] + write * scaled;
                    sum += n[a] * q[at + a];
                    for b in 0..value {
                        c[a * value + b] = keep * c[a * value + b] + write * scaled * v[to + b];
                        h[to + b] += q[at + a] * c[a * value + b];
                    }
                }
                for h in &mut h[to..to + value] {
                    *h /= sum.abs().max((-m).exp()) + 1e-6;
                }
            }
        }
    }
    h
}

fn token_by_token(shape: MlstmShape, inputs: MlstmInputs<'_>, lengths: &[usize]) -> Vec<f32> {
    let mut states = vec![vec![0.0; shape.state()]; lengths.len()];
    let mut states: Vec<_> = states.iter_mut().map(Vec::as_mut_slice).collect();
    // what `h` held does not matter
    let mut h = vec![0.5; inputs.v.len()];
    recurrent(shape, inputs, lengths, &mut states, &mut h);
    h
}

/// `h` and the five gradients by chunks of a length.
fn by_chunks(
    chunk: usize,
    shape: MlstmShape,
    inputs: MlstmInputs<'_>,
    lengths: &[usize],
    dh: &[f32],
) -> (Vec<f32>, [Vec<f32>; 5]) {
    let mut h = vec![0.5; inputs.v.len()];
    let boundaries = chunkwise_by(chunk, shape, inputs, lengths, &mut h);
    let mut gradients =
        [inputs.q, inputs.k, inputs.v, inputs.input_gate, inputs.forget_gate].map(|x| vec![0.5; x.len()]);
    let [q, k, v, input_gate, forget_gate] = &mut gradients;
    let targets = MlstmGradients {
        q,
        k,
        v,
        input_gate,
        forget_gate,
    };
    backward(shape, inputs, lengths, &boundaries, dh, targets);
    (h, gradients)
}

#[test]
fn every_form_equals_the_equations() {
    for (shape, lengths) in CASES {
        let total: usize = lengths.iter().sum();
        let owned = Owned::new(shape, total, 1.0);
        let want = reference(shape, &owned.wide(), lengths);
        let tokens = token_by_token(shape, owned.inputs(), lengths);
        assert_close(&tokens, &want, 1e-5, "token by token");
        let tokens: Vec<f64> = tokens.into_iter().map(f64::from).collect();
        // the last is the parallel form: one chunk as long as the document
        for chunk in [1, 7, 64, total] {
            let mut h = vec![0.5; want.len()];
            chunkwise_by(chunk, shape, owned.inputs(), lengths, &mut h);
            assert_close(&h, &want, 1e-5, &format!("chunks of {chunk}"));
            assert_close(&h, &tokens, 1e-5, &format!("chunks of {chunk} and token by token"));
        }
        let mut h = vec![0.5; want.len()];
        chunkwise(shape, owned.inputs(), lengths, &mut h);
        assert_close(&h, &want, 1e-5, "chunkwise");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (shape, lengths) in CASES {
        let total: usize = lengths.iter().sum();
        let owned = Owned::new(shape, total, 1.0);
        let dh = scaled_normals(9, total * shape.value_width(), 1.0);
        let mut wide = owned.wide();
        let objective = |inputs: &Owned<f64>| -> f64 {
            let h = reference(shape, inputs, lengths);
            h.iter().zip(&dh).map(|(h, dh)| h * f64::from(*dh)).sum()
        };
        let (_, gradients) = by_chunks(64, shape, owned.inputs(), lengths, &dh);
        for (which, gradient) in gradients.iter().enumerate() {
            // every element of short tensors, some of every head of long ones
            let stride = if gradient.len() < 500 { 1 } else { 7 };
            let indices: Vec<usize> = (0..gradient.len()).step_by(stride).collect();
            let want: Vec<f64> = indices
                .iter()
                .map(|&index| {
                    let kept = wide.0[which][index];
                    let mut moved = |by: f64| {
                        wide.0[which][index] = kept + by;
                        objective(&wide)
                    };
                    let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    wide.0[which][index] = kept;
                    slope
                })
                .collect();
            let got: Vec<f32> = indices.iter().map(|&index| gradient[index]).collect();
            assert_close(&got, &want, 1e-4, &format!("gradient {which} of {shape:?}"));
        }
        for chunk in [1, 7, total] {
            let (_, others) = by_chunks(chunk, shape, owned.inputs(), lengths, &dh);
            for (which, (gradient, other)) in gradients.iter().zip(&others).enumerate() {
                let want: Vec<f64> = gradient.iter().map(|&v| f64::from(v)).collect();
                assert_close(other, &want, 2e-5, &format!("gradient {which} in chunks of {chunk}"));
            }
        }
    }
}

#[test]
fn cut_calls_give_the_bits_of_a_whole_one() {
    let (shape, length) = (shape(2, 5, 9), 23);
    let owned = Owned::new(shape, length, 1.0);
    let whole = token_by_token(shape, owned.inputs(), &[length]);
    let mut state = vec![0.0; shape.state()];
    let mut cut = Vec::new();
    for rows in documents(&[1, 6, 0, 15, 1]) {
        // another document, longer or shorter, stands before it
        let others = Owned::new(shape, 3, 2.0);
        let own = owned.rows(shape, rows.clone());
        let both = Owned(std::array::from_fn(|i| [others.0[i].as_slice(), &own.0[i]].concat()));
        let mut h = vec![0.0; (3 + rows.len()) * shape.value_width()];
        let mut other = vec![0.0; shape.state()];
        let mut states = [other.as_mut_slice(), state.as_mut_slice()];
        recurrent(shape, both.inputs(), &[3, rows.len()], &mut states, &mut h);
        cut.extend_from_slice(&h[3 * shape.value_width()..]);
    }
    assert_eq!(whole, cut);
}

#[test]
fn no_state_crosses_documents() {
    let (shape, lengths) = (shape(2, 4, 6), [70, 1, 66]);
    let total = lengths.iter().sum();
    let owned = Owned::new(shape, total, 1.0);
    let dh = scaled_normals(9, total * shape.value_width(), 1.0);
    let (h, gradients) = by_chunks(64, shape, owned.inputs(), &lengths, &dh);
    let tokens = token_by_token(shape, owned.inputs(), &lengths);
    for rows in documents(&lengths) {
        let own = owned.rows(shape, rows.clone());
        let at = rows.start * shape.value_width()..rows.end * shape.value_width();
        let (alone, alone_gradients) = by_chunks(64, shape, own.inputs(), &[rows.len()], &dh[at.clone()]);
        assert_eq!(h[at.clone()], alone);
        assert_eq!(tokens[at], token_by_token(shape, own.inputs(), &[rows.len()]));
        for ((gradient, alone), width) in gradients.iter().zip(&alone_gradients).zip(widths(shape)) {
            assert_eq!(gradient[rows.start * width..rows.end * width], **alone);
        }
    }
}

#[test]
fn a_long_document_with_steep_gates_stays_finite() {
    let (shape, lengths) = (shape(2, 8, 9), [8192]);
    let owned = Owned::new(shape, lengths[0], 3.0);
    let dh = scaled_normals(9, lengths[0] * shape.value_width(), 1.0);
    let (h, gradients) = by_chunks(64, shape, owned.inputs(), &lengths, &dh);
    let tokens = token_by_token(shape, owned.inputs(), &lengths);
    for values in gradients.iter().chain([&h, &tokens]) {
        assert!(values.iter().all(|value| value.is_finite()));
    }
    assert!(
        gradients
            .iter()
            .all(|gradient| gradient.iter().any(|slope| *slope != 0.0))
    );
}

#[test]
fn one_thread_gives_the_bits_of_many() {
    for (shape, lengths) in CASES {
        let total = lengths.iter().sum();
        let owned = Owned::new(shape, total, 1.0);
        let dh = scaled_normals(9, total * shape.value_width(), 1.0);
        let all = || {
            (
                by_chunks(64, shape, owned.inputs(), lengths, &dh),
                token_by_token(shape, owned.inputs(), lengths),
            )
        };
        assert_eq!(all(), with_threads(1, all));
    }
}
