//! Rates of everything that is not a matrix product, at the shapes of one SmolLM2 layer and two documents of 512.
//!
//!     cargo bench -p synapse-kernels --bench ops         (SYNAPSE_ISA=portable to compare with the twin)
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{hint::black_box, time::Instant};

use synapse_kernels::{
    Isa, Precision,
    adamw::{AdamW, State},
    attention::{self, AttentionGradients, CachedSpan, Heads, Phase, SavedAttention, Span},
    cross_entropy,
    elementwise::{self, Dropout},
    norm,
    random::Stream,
    threads,
};

const TOKENS: usize = 1024;
const HIDDEN: usize = 576;
const MLP: usize = 1536;
const VOCAB: usize = 49_152;
const HEADS: Heads = Heads {
    queries: 9,
    keys: 3,
    dim: 64,
    precision: Precision::Bf16,
};

fn values(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.uniform(i) - 0.5).collect()
}

/// Prints the best of several runs; `work` is in units of 1e9, such as gigabytes.
fn measure(name: &str, (work, unit): (f64, &str), mut task: impl FnMut()) {
    task();
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            task();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:24} {:8.3} ms {:8.1} {unit}", best * 1e3, work / best);
}

fn main() {
    println!("isa {}, {} threads", Isa::current().name(), threads());
    let bytes = |elements: usize| (elements as f64 * 4.0 / 1e9, "GB/s");
    let (x, weight) = (values(1, TOKENS * HIDDEN), vec![1.0; HIDDEN]);
    let (mut y, mut inverse) = (vec![0.0; TOKENS * HIDDEN], vec![0.0; TOKENS]);
    measure("norm forward", bytes(2 * x.len()), || {
        norm::forward(&x, &weight, 1e-5, &mut y, &mut inverse);
    });
    let mut dx = vec![0.0; x.len()];
    measure("norm backward", bytes(4 * x.len()), || {
        norm::backward(&x, &weight, &inverse, &y, &mut dx);
    });
    let (mut gate, mut up) = (values(2, TOKENS * MLP), values(3, TOKENS * MLP));
    let mut activated = vec![0.0; TOKENS * MLP];
    measure("swiglu", bytes(3 * gate.len()), || {
        elementwise::swiglu(&gate, &up, &mut activated);
    });
    measure("swiglu backward", bytes(5 * gate.len()), || {
        elementwise::swiglu_backward((&mut gate).into(), (&mut up).into(), &activated);
    });
    let dropout = Dropout {
        stream: Stream::new(&[5]),
        probability: 0.05,
    };
    measure("dropout", bytes(2 * x.len()), || dropout.apply(&x, (&mut y).into()));
    attention_rates();
    let targets: Vec<u32> = (0..128).collect();
    let (mut logits, mut losses) = (values(9, 128 * VOCAB), vec![0.0; 128]);
    measure("cross-entropy, 128 rows", bytes(2 * logits.len()), || {
        cross_entropy::loss_and_gradient(&mut logits, VOCAB, &targets, &mut losses);
    });
    black_box(&losses);
    adamw_rate();
}

fn attention_rates() {
    let (q, k, v) = (
        values(6, TOKENS * 9 * 64),
        values(7, TOKENS * 3 * 64),
        values(8, TOKENS * 3 * 64),
    );
    let spans: Vec<Span<'_>> = (0..2)
        .map(|document| Span {
            q: (&q[document * 512 * 576..]).into(),
            k: (&k[document * 512 * 192..]).into(),
            v: (&v[document * 512 * 192..]).into(),
            count: 512,
        })
        .collect();
    let (mut out, mut log_sums) = (vec![0.0; q.len()], vec![0.0; TOKENS * 9]);
    // causal: half of the square, two products forward and five backward
    let products = |count: f64| (count * 2.0 * 2.0 * 9.0 * 64.0 * 512.0 * 512.0 / 2.0 / 1e9, "GFLOP/s");
    measure("attention", products(2.0), || {
        attention::forward(HEADS, &spans, &mut out, &mut log_sums);
    });
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    measure("attention backward", products(5.0), || {
        let saved = SavedAttention {
            out: (&out).into(),
            log_sums: &log_sums,
            d_out: &q,
        };
        let gradients = AttentionGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        attention::backward(HEADS, &spans, saved, gradients);
    });
    let spans: Vec<CachedSpan<'_>> = (0..32)
        .map(|sequence| CachedSpan {
            q: &q[sequence * 576..(sequence + 1) * 576],
            k: &k,
            v: &v,
            count: 1,
            past: TOKENS - 1,
        })
        .collect();
    let products = 32.0 * 2.0 * 2.0 * 9.0 * 64.0 * TOKENS as f64 / 1e9;
    measure("attention, 32 generated", (products, "GFLOP/s"), || {
        attention::forward_cached(HEADS, Phase::Decode, &spans, &mut out);
    });
}

fn adamw_rate() {
    const COUNT: usize = 8 << 20;
    let (mut parameters, gradients) = (values(10, COUNT), values(11, COUNT));
    let (mut first, mut second) = (vec![0.0; COUNT], vec![0.0; COUNT]);
    let options = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        step: 1,
        gradient_scale: 1.0,
    };
    measure("AdamW", (7.0 * 4.0 * COUNT as f64 / 1e9, "GB/s"), || {
        options.update(State {
            parameters: &mut parameters,
            first: &mut first,
            second: &mut second,
            gradients: &gradients,
        });
    });
}
