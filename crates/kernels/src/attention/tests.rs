//! Attention against its definition in f64, and its gradients against finite differences.

use super::*;
use crate::random::Stream;

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.normal(i)).collect()
}

fn heads() -> Heads {
    Heads {
        queries: 4,
        keys: 2,
        dim: 8,
        precision: Precision::F32,
    }
}

/// One span by the definition.
fn reference(heads: Heads, q: &[f64], k: &[f64], v: &[f64], count: usize) -> Vec<f64> {
    let (qw, kw, d) = (heads.query_width(), heads.key_width(), heads.dim);
    let mut out = vec![0.0; count * qw];
    for t in 0..count {
        for h in 0..heads.queries {
            let g = h / heads.group();
            let score = |s: usize| {
                (0..d)
                    .map(|i| q[t * qw + h * d + i] * k[s * kw + g * d + i])
                    .sum::<f64>()
                    / (d as f64).sqrt()
            };
            let weights: Vec<f64> = (0..=t).map(|s| score(s).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..d {
                out[t * qw + h * d + i] = weights
                    .iter()
                    .enumerate()
                    .map(|(s, w)| w / sum * v[s * kw + g * d + i])
                    .sum();
            }
        }
    }
    out
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn forward_equals_the_definition() {
    let heads = heads();
    let counts = [1, 5, 70, 64, 66, 130];
    let data: Vec<_> = counts
        .iter()
        .map(|&count| {
            (
                values(count as u64, count * 32),
                values(50, count * 16),
                values(7, count * 16),
            )
        })
        .collect();
    let spans: Vec<_> = counts
        .iter()
        .zip(&data)
        .map(|(&count, (q, k, v))| Span {
            q: q.into(),
            k: k.into(),
            v: v.into(),
            count,
        })
        .collect();
    let total: usize = counts.iter().sum();
    let (mut out, mut log_sums) = (vec![0.0; total * 32], vec![0.0; total * 4]);
    forward(heads, &spans, &mut out, &mut log_sums);
    let mut start = 0;
    for (&count, (q, k, v)) in counts.iter().zip(&data) {
        let expected = reference(heads, &wide(q), &wide(k), &wide(v), count);
        for (i, want) in expected.iter().enumerate() {
            let got = f64::from(out[start * 32 + i]);
            assert!(
                (got - want).abs() < 2e-5,
                "document of {count} at {i}: {got} instead of {want}"
            );
        }
        start += count;
    }
}

#[test]
fn backward_equals_finite_differences() {
    let heads = heads();
    let lengths = [3usize, 68];
    let total = 71;
    let (q, k, v, d_out) = (
        values(1, total * 32),
        values(2, total * 16),
        values(3, total * 16),
        values(4, total * 32),
    );
    let spans = [
        Span {
            q: (&q[..96]).into(),
            k: (&k[..48]).into(),
            v: (&v[..48]).into(),
            count: 3,
        },
        Span {
            q: (&q[96..]).into(),
            k: (&k[48..]).into(),
            v: (&v[48..]).into(),
            count: 68,
        },
    ];
    let (mut out, mut log_sums) = (vec![0.0; total * 32], vec![0.0; total * 4]);
    forward(heads, &spans, &mut out, &mut log_sums);
    let (mut dq, mut dk, mut dv) = (vec![0.0; total * 32], vec![0.0; total * 16], vec![0.0; total * 16]);
    let saved = SavedAttention {
        out: (&out).into(),
        log_sums: &log_sums,
        d_out: &d_out,
    };
    backward(
        heads,
        &spans,
        saved,
        AttentionGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        },
    );
    let objective = |q: &[f64], k: &[f64], v: &[f64]| {
        let mut sum = 0.0;
        let mut start = 0;
        for count in lengths {
            let o = reference(heads, &q[start * 32..], &k[start * 16..], &v[start * 16..], count);
            sum += o
                .iter()
                .zip(&d_out[start * 32..])
                .map(|(o, d)| o * f64::from(*d))
                .sum::<f64>();
            start += count;
        }
        sum
    };
    let inputs = [wide(&q), wide(&k), wide(&v)];
    for (which, gradient) in [&dq, &dk, &dv].into_iter().enumerate() {
        for index in (0..gradient.len()).step_by(37) {
            let shifted = |by: f64| {
                let mut moved = inputs.clone();
                moved[which][index] += by;
                objective(&moved[0], &moved[1], &moved[2])
            };
            let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            let got = f64::from(gradient[index]);
            assert!(
                (got - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                "input {which} at {index}: {got} instead of {expected}"
            );
        }
    }
}
