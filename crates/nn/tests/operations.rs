//! Every operation with a hand-written backward pass against torch: outputs and gradients.
//! `fixtures/make_operations.py` made the numbers; the linear layer is compared in `src/linear/tests.rs`.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::Path;

use synapse_checkpoint::TensorFiles;
use synapse_kernels::{
    Matrix, MatrixMut, Precision,
    adamw::{AdamW, State},
    attention::{self, AttentionGradients, Heads, SavedAttention, Span},
    cross_entropy, elementwise, norm, rope,
};

/// torch's tensors of one operation.
struct Torch {
    files: TensorFiles,
    operation: String,
}

impl Torch {
    fn of(operation: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/operations.safetensors");
        Self {
            files: TensorFiles::open(vec![path]).unwrap(),
            operation: operation.to_owned(),
        }
    }

    fn read(&self, name: &str) -> Vec<f32> {
        self.files.read_f32(&format!("{}.{name}", self.operation)).unwrap()
    }

    /// To 1e-5 of the largest entry: torch computed in f64, we sum up to 70 rounded products in f32.
    fn assert_close(&self, name: &str, ours: &[f32]) {
        let torchs = self.read(name);
        assert_eq!(ours.len(), torchs.len(), "{}.{name}", self.operation);
        let largest = torchs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (at, (ours, torchs)) in ours.iter().zip(&torchs).enumerate() {
            assert!(
                (ours - torchs).abs() <= 1e-5 * largest,
                "{}.{name}[{at}]: {ours} instead of {torchs}",
                self.operation
            );
        }
    }
}

#[test]
fn attention_of_two_documents() {
    let torchs = [Torch::of("attention0"), Torch::of("attention1")];
    let heads = Heads {
        queries: 4,
        keys: 2,
        dim: 8,
        precision: Precision::F32,
    };
    let inputs = torchs
        .each_ref()
        .map(|torch| ["q", "k", "v"].map(|name| torch.read(name)));
    let spans = inputs.each_ref().map(|[q, k, v]| Span {
        q: Matrix::F32(q),
        k: Matrix::F32(k),
        v: Matrix::F32(v),
        count: q.len() / 32,
    });
    let tokens: usize = spans.iter().map(|span| span.count).sum();
    let (mut out, mut log_sums) = (vec![f32::NAN; tokens * 32], vec![f32::NAN; tokens * 4]);
    attention::forward(heads, &spans, out.as_mut_slice(), &mut log_sums);
    let d_out = torchs.each_ref().map(|torch| torch.read("dy")).concat();
    let [mut dq, mut dk, mut dv] = [32, 16, 16].map(|width| vec![f32::NAN; tokens * width]);
    let saved = SavedAttention {
        out: Matrix::F32(&out),
        log_sums: &log_sums,
        d_out: &d_out,
    };
    let gradients = AttentionGradients {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
    };
    attention::backward(heads, &spans, saved, gradients);
    let split = spans[0].count;
    for (torch, rows) in torchs.iter().zip([0..split, split..tokens]) {
        for (name, ours, width) in [("y", &out, 32), ("dq", &dq, 32), ("dk", &dk, 16), ("dv", &dv, 16)] {
            torch.assert_close(name, &ours[rows.start * width..rows.end * width]);
        }
    }
}

#[test]
fn norm() {
    let torch = Torch::of("norm");
    let [x, w, dy] = ["x", "w", "dy"].map(|name| torch.read(name));
    let (mut y, mut inverse) = (vec![f32::NAN; x.len()], vec![f32::NAN; 5]);
    norm::forward(&x, &w, 1e-5, y.as_mut_slice(), &mut inverse);
    torch.assert_close("y", &y);
    // the backward pass adds to what the residual brings
    let mut dx = vec![0.0; x.len()];
    norm::backward(&x, &w, &inverse, &dy, &mut dx);
    torch.assert_close("dx", &dx);
    let mut dw = vec![0.0; w.len()];
    norm::backward_weight(&x, &inverse, &dy, &mut dw);
    torch.assert_close("dw", &dw);
}

#[test]
fn swiglu() {
    let torch = Torch::of("swiglu");
    let [mut gate, mut up, dy] = ["gate", "up", "dy"].map(|name| torch.read(name));
    let mut y = vec![f32::NAN; gate.len()];
    elementwise::swiglu(&gate, &up, y.as_mut_slice());
    torch.assert_close("y", &y);
    elementwise::swiglu_backward(MatrixMut::F32(&mut gate), MatrixMut::F32(&mut up), &dy);
    torch.assert_close("dgate", &gate);
    torch.assert_close("dup", &up);
}

#[test]
fn rotation() {
    let torch = Torch::of("rope");
    let frequencies: Vec<f32> = (0..4).map(|i| 10_000_f64.powf(-f64::from(i) / 4.0) as f32).collect();
    let table = rope::Table::new(&frequencies, 7);
    let positions: Vec<u32> = (0..7).collect();
    let (mut x, mut dy) = (torch.read("x"), torch.read("dy"));
    table.rotate(&mut x, 16, &positions);
    torch.assert_close("y", &x);
    table.rotate_back(&mut dy, 16, &positions);
    torch.assert_close("dx", &dy);
}

#[test]
fn loss() {
    let torch = Torch::of("loss");
    let mut bytes = Vec::new();
    torch.files.read_bytes("loss.targets", &mut bytes).unwrap();
    let targets: Vec<u32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| u32::from_le_bytes(word))
        .collect();
    let (mut logits, mut losses) = (torch.read("logits"), vec![f32::NAN; targets.len()]);
    cross_entropy::loss_and_gradient(&mut logits, 50, &targets, &mut losses);
    torch.assert_close("y", &losses);
    torch.assert_close("dlogits", &logits);
}

#[test]
fn adamw() {
    let torch = Torch::of("adamw");
    let mut parameters = torch.read("start");
    let gradients = torch.read("gradients");
    let (mut first, mut second) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    for (step, gradients) in (1..).zip(gradients.chunks_exact(parameters.len())) {
        AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 1.0,
        }
        .update(State {
            parameters: &mut parameters,
            first: &mut first,
            second: &mut second,
            gradients,
        });
    }
    torch.assert_close("end", &parameters);
}
