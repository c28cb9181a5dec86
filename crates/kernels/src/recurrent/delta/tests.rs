//! The delta rule against its equations in f64, its gradients against finite differences, and the memory it is.

use super::*;
use crate::{
    parallel::with_threads,
    recurrent::reference::{normals, wide},
    recurrent::softplus,
};

/// Owned inputs: q, k, v, β and log α.
type Tensors<T> = [Vec<T>; 5];

fn inputs(tensors: &Tensors<f32>) -> DeltaInputs<'_> {
    let [q, k, v, beta, log_decay] = tensors;
    DeltaInputs {
        q,
        k,
        v,
        beta,
        log_decay,
    }
}

/// Vectors of length 1.
fn directions(seed: u64, count: usize, width: usize) -> Vec<f32> {
    let mut values = normals(seed, count * width);
    for row in values.chunks_exact_mut(width) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
        row.iter_mut().for_each(|x| *x /= norm);
    }
    values
}

/// Random inputs of `rows` tokens; `spread` scales what goes into the gates, and 0 is DeltaNet with β = 0.5.
fn random(shape: DeltaShape, rows: usize, spread: f32) -> Tensors<f32> {
    let gates = rows * shape.heads;
    let beta = normals(4, gates)
        .iter()
        .map(|x| 1.0 / (1.0 + (-spread * x).exp()))
        .collect();
    let log_decay = normals(5, gates)
        .iter()
        .map(|x| {
            if spread == 0.0 {
                0.0
            } else {
                -softplus(spread * x - 2.0)
            }
        })
        .collect();
    [
        directions(1, gates, shape.key),
        directions(2, gates, shape.key),
        normals(3, gates * shape.value),
        beta,
        log_decay,
    ]
}

/// The tokens `rows` of inputs.
fn part(shape: DeltaShape, tensors: &Tensors<f32>, rows: Range<usize>) -> Tensors<f32> {
    let widths = [shape.key, shape.key, shape.value, 1, 1].map(|width| width * shape.heads);
    std::array::from_fn(|i| tensors[i][rows.start * widths[i]..rows.end * widths[i]].to_vec())
}

/// The equations: the outputs, and each document's last state `[heads, value, key]`.
fn reference(shape: DeltaShape, tensors: &Tensors<f64>, lengths: &[usize]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let DeltaShape { heads, key, value } = shape;
    let [q, k, v, beta, log_decay] = tensors;
    let mut o = vec![0.0; v.len()];
    let mut states = Vec::new();
    for rows in documents(lengths) {
        let mut all = vec![0.0; heads * value * key];
        for (head, state) in all.chunks_exact_mut(value * key).enumerate() {
            for t in rows.clone() {
                let (q, k) = (&q[shape.keys(t, head)], &k[shape.keys(t, head)]);
                let (beta, alpha) = (beta[t * heads + head], log_decay[t * heads + head].exp());
                let place = shape.values(t, head);
                for (j, row) in state.chunks_exact_mut(key).enumerate() {
                    let found: f64 = (0..key).map(|i| row[i] * k[i]).sum();
                    for i in 0..key {
                        row[i] = alpha * (row[i] - beta * found * k[i]) + beta * v[place.start + j] * k[i];
                    }
                    o[place.start + j] = (0..key).map(|i| row[i] * q[i]).sum();
                }
            }
        }
        states.push(all);
    }
    (o, states)
}

/// Outputs and last states token by token from zero states.
fn by_steps(shape: DeltaShape, tensors: &Tensors<f32>, lengths: &[usize]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut o = vec![f32::NAN; tensors[2].len()];
    let mut states = vec![vec![0.0; shape.state()]; lengths.len()];
    let mut borrowed: Vec<&mut [f32]> = states.iter_mut().map(Vec::as_mut_slice).collect();
    recurrent(shape, inputs(tensors), lengths, &mut borrowed, &mut o);
    (o, states)
}

fn by_chunks(shape: DeltaShape, tensors: &Tensors<f32>, lengths: &[usize]) -> (Vec<f32>, DeltaChunkStates) {
    let mut o = vec![f32::NAN; tensors[2].len()];
    let boundaries = chunkwise(shape, inputs(tensors), lengths, &mut o);
    (o, boundaries)
}

fn gradients(shape: DeltaShape, tensors: &Tensors<f32>, lengths: &[usize], d_o: &[f32]) -> Tensors<f32> {
    let (_, boundaries) = by_chunks(shape, tensors, lengths);
    let mut out: Tensors<f32> = std::array::from_fn(|i| vec![f32::NAN; tensors[i].len()]);
    let [q, k, v, beta, log_decay] = &mut out;
    let gradients = DeltaGradients {
        q,
        k,
        v,
        beta,
        log_decay,
    };
    backward(shape, inputs(tensors), lengths, &boundaries, d_o, gradients);
    out
}

fn scale_of(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(1e-3, |most, x| most.max(x.abs()))
}

/// Equality to `tolerance` of the largest value expected.
fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = scale_of(expected.iter().copied());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let apart = (f64::from(*got) - expected).abs();
        assert!(apart <= tolerance * scale, "{what} at {i}: {got} instead of {expected}");
    }
}

fn shape(heads: usize, key: usize, value: usize) -> DeltaShape {
    DeltaShape { heads, key, value }
}

/// Odd widths and lengths on both sides of the chunk's, each with a spread of its gates.
fn cases() -> Vec<(DeltaShape, Vec<usize>, f32)> {
    vec![
        (shape(1, 1, 1), vec![1], 1.0),
        (shape(2, 5, 3), vec![1, 63, 0, 65, 2], 1.0),
        (shape(2, 5, 3), vec![70, 1], 0.0),
        (shape(1, 3, 9), vec![130, 64], 3.0),
        (shape(1, 33, 105), vec![67, 1], 3.0),
    ]
}

#[test]
fn both_forms_equal_the_definition() {
    for (shape, lengths, spread) in cases() {
        let tensors = random(shape, lengths.iter().sum(), spread);
        let (expected, last) = reference(shape, &std::array::from_fn(|i| wide(&tensors[i])), &lengths);
        let what = format!("{shape:?} of {lengths:?}");
        let (o, states) = by_steps(shape, &tensors, &lengths);
        assert_close(&o, &expected, 1e-5, &format!("by steps, {what}"));
        assert_close(
            &by_chunks(shape, &tensors, &lengths).0,
            &expected,
            1e-5,
            &format!("by chunks, {what}"),
        );
        for (state, last) in states.iter().zip(&last) {
            // the state is kept transposed
            let transposed: Vec<f64> = (0..shape.state())
                .map(|place| {
                    let (head, place) = (place / shape.memory(), place % shape.memory());
                    let (i, j) = (place / shape.value, place % shape.value);
                    last[head * shape.memory() + j * shape.key + i]
                })
                .collect();
            assert_close(state, &transposed, 1e-5, &format!("state, {what}"));
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (shape, lengths, spread) in cases() {
        let tensors = random(shape, lengths.iter().sum(), spread);
        let d_o = normals(6, tensors[2].len());
        let got = gradients(shape, &tensors, &lengths, &d_o);
        let exact: Tensors<f64> = std::array::from_fn(|i| wide(&tensors[i]));
        let objective = |tensors: &Tensors<f64>| -> f64 {
            let (o, _) = reference(shape, tensors, &lengths);
            o.iter().zip(&d_o).map(|(o, d)| o * f64::from(*d)).sum()
        };
        for (which, name) in ["q", "k", "v", "beta", "log_decay"].into_iter().enumerate() {
            // every element of small cases, some of every column of large ones
            let step = if exact[which].len() > 1000 { 43 } else { 1 };
            let (mut some, mut expected) = (Vec::new(), Vec::new());
            for index in (0..exact[which].len()).step_by(step) {
                let moved = |by: f64| {
                    let mut tensors = exact.clone();
                    tensors[which][index] += by;
                    objective(&tensors)
                };
                expected.push((moved(1e-6) - moved(-1e-6)) / 2e-6);
                some.push(got[which][index]);
            }
            assert_close(&some, &expected, 1e-4, &format!("d{name} of {shape:?}, {lengths:?}"));
        }
    }
}

#[test]
fn cut_calls_equal_one_call_to_the_bit() {
    let (shape, rows) = (shape(2, 7, 109), 100);
    let tensors = random(shape, rows, 1.0);
    let (whole, last) = by_steps(shape, &tensors, &[rows]);
    let (other, mut other_state) = (random(shape, 3, 2.0), vec![0.0; shape.state()]);
    let (mut o, mut state) = (Vec::new(), vec![0.0; shape.state()]);
    for (call, rows) in [0..1, 1..1, 1..64, 64..99, 99..100].into_iter().enumerate() {
        // another document stands before and after in turn
        let mine = part(shape, &tensors, rows.clone());
        let pair = |i: usize| {
            if call % 2 == 0 {
                [&mine[i], &other[i]]
            } else {
                [&other[i], &mine[i]]
            }
        };
        let both: Tensors<f32> = std::array::from_fn(|i| pair(i).into_iter().flatten().copied().collect());
        let (mut lengths, mut states) = ([rows.len(), 3], [&mut state[..], &mut other_state[..]]);
        let mut start = 0;
        if call % 2 == 1 {
            lengths.reverse();
            states.reverse();
            start = other[2].len();
        }
        let mut part = vec![0.0; both[2].len()];
        recurrent(shape, inputs(&both), &lengths, &mut states, &mut part);
        o.extend_from_slice(&part[start..start + mine[2].len()]);
    }
    assert!(o == whole && state == last[0]);
}

#[test]
fn no_state_crosses_documents() {
    let (shape, lengths) = (shape(2, 6, 10), [65usize, 1, 130, 5]);
    let tensors = random(shape, lengths.iter().sum(), 1.0);
    let d_o = normals(6, tensors[2].len());
    let (o, boundaries) = by_chunks(shape, &tensors, &lengths);
    let all = gradients(shape, &tensors, &lengths, &d_o);
    let mut chunks = 0;
    for rows in documents(&lengths) {
        let alone = part(shape, &tensors, rows.clone());
        let width = shape.heads * shape.value;
        let values = rows.start * width..rows.end * width;
        let (own, states) = by_chunks(shape, &alone, &[rows.len()]);
        assert!(own == o[values.clone()]);
        let of_document = &boundaries.states[chunks * shape.state()..][..states.states.len()];
        assert!(states.states == of_document);
        assert!(of_document[..shape.state()].iter().all(|x| *x == 0.0));
        chunks += states.states.len() / shape.state();
        assert!(gradients(shape, &alone, &[rows.len()], &d_o[values]) == part(shape, &all, rows));
    }
    assert_eq!(chunks * shape.state(), boundaries.states.len());
}

#[test]
fn long_documents_stay_finite_and_both_forms_agree() {
    let (shape, rows) = (shape(2, 12, 16), 8192);
    for spread in [0.0, 3.0] {
        let tensors = random(shape, rows, spread);
        let (steps, _) = by_steps(shape, &tensors, &[rows]);
        let (chunks, boundaries) = by_chunks(shape, &tensors, &[rows]);
        assert_close(&chunks, &wide(&steps), 1e-5, "by chunks");
        assert!(boundaries.states.iter().all(|x| x.is_finite()));
        let d_o = normals(6, tensors[2].len());
        let all = gradients(shape, &tensors, &[rows], &d_o);
        assert!(all.iter().flatten().all(|x| x.is_finite()));
    }
}

#[test]
fn threads_change_no_bit() {
    let (shape, lengths) = (shape(3, 9, 12), [65usize, 20, 1, 70]);
    let tensors = random(shape, lengths.iter().sum(), 1.0);
    let d_o = normals(6, tensors[2].len());
    let run = || {
        (
            by_steps(shape, &tensors, &lengths),
            by_chunks(shape, &tensors, &lengths).0,
            gradients(shape, &tensors, &lengths, &d_o),
        )
    };
    assert!(run() == with_threads(1, run));
}

/// A token that writes `v` under `k`, or with no value one that only asks for `k`.
fn push(tensors: &mut Tensors<f32>, k: &[f32], v: Option<&[f32]>, width: usize) {
    let [q, keys, values, beta, log_decay] = tensors;
    q.extend_from_slice(k);
    keys.extend_from_slice(k);
    values.extend_from_slice(v.unwrap_or(&vec![100.0; width]));
    beta.push(if v.is_some() { 1.0 } else { 0.0 });
    log_decay.push(0.0);
}

/// Rows of a reflection: orthonormal, and none is a unit vector.
fn orthonormal(count: usize) -> Vec<Vec<f32>> {
    let normal = directions(8, 1, count);
    let entry = |i: usize, j: usize| f32::from(u8::from(i == j)) - 2.0 * normal[i] * normal[j];
    (0..count).map(|i| (0..count).map(|j| entry(i, j)).collect()).collect()
}

#[test]
fn orthonormal_keys_return_their_values_in_any_order() {
    let (keys, value) = (96, 20);
    let shape = shape(1, keys, value);
    let (names, values) = (orthonormal(keys), normals(9, keys * value));
    let mut tensors = Tensors::default();
    for (name, stored) in names.iter().zip(values.chunks_exact(value)) {
        push(&mut tensors, name, Some(stored), value);
    }
    let mut expected = values.clone();
    for asked in (0..keys).map(|i| i * 37 % keys) {
        push(&mut tensors, &names[asked], None, value);
        expected.extend_from_slice(&values[asked * value..(asked + 1) * value]);
    }
    for (o, form) in [
        (by_steps(shape, &tensors, &[2 * keys]).0, "steps"),
        (by_chunks(shape, &tensors, &[2 * keys]).0, "chunks"),
    ] {
        for (got, expected) in o.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "by {form}: {got} instead of {expected}");
        }
    }
}

#[test]
fn writing_a_key_again_replaces_its_value() {
    let (keys, value) = (40, 9);
    let shape = shape(1, keys, value);
    let (names, values) = (orthonormal(keys), normals(9, 2 * keys * value));
    let values: Vec<&[f32]> = values.chunks_exact(value).collect();
    let mut tensors = Tensors::default();
    for write in 0..keys {
        push(&mut tensors, &names[write], Some(values[write]), value);
    }
    for write in (0..keys).step_by(3) {
        push(&mut tensors, &names[write], Some(values[keys + write]), value);
    }
    let asked = tensors[2].len();
    for name in &names {
        push(&mut tensors, name, None, value);
    }
    let rows = tensors[3].len();
    for o in [
        by_steps(shape, &tensors, &[rows]).0,
        by_chunks(shape, &tensors, &[rows]).0,
    ] {
        for (key, got) in o[asked..].chunks_exact(value).enumerate() {
            let expected = values[if key % 3 == 0 { keys + key } else { key }];
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "key {key}: {got} instead of {expected}");
            }
        }
    }
}

/// A complete forgetting is a new beginning, however far its logarithm falls, and what follows loses no precision.
#[test]
fn complete_forgetting_begins_anew() {
    let (shape, rows, cut) = (shape(1, 8, 8), 100, 30);
    for lowest in [-1e3, -1e30, f32::NEG_INFINITY] {
        let mut tensors = random(shape, rows, 0.0);
        tensors[4].fill(-0.01);
        tensors[4][cut] = lowest;
        let rest = part(shape, &tensors, cut..rows);
        let expected = wide(&by_steps(shape, &rest, &[rows - cut]).0);
        let first = cut * shape.value;
        assert_close(
            &by_steps(shape, &tensors, &[rows]).0[first..],
            &expected,
            0.0,
            "by steps",
        );
        assert_close(
            &by_chunks(shape, &tensors, &[rows]).0[first..],
            &expected,
            1e-6,
            "by chunks",
        );
        let d_o = normals(6, rows * shape.value);
        let all = gradients(shape, &tensors, &[rows], &d_o);
        let after = gradients(shape, &rest, &[rows - cut], &d_o[first..]);
        for (all, after) in part(shape, &all, cut..rows).iter().zip(&after).take(4) {
            assert_close(all, &wide(after), 1e-5, "gradients");
        }
        assert!(all.iter().flatten().all(|x| x.is_finite()));
    }
}
