//! The linear layer with its branch against torch. `tests/fixtures/make_operations.py` made the numbers.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::Path;

use synapse_checkpoint::TensorFiles;

use super::*;
use crate::lora_branch::LoraGradients;

const TOKENS: usize = 9;
const RANK: usize = 4;

fn assert_close(name: &str, ours: &[f32], torchs: &[f32]) {
    assert_eq!(ours.len(), torchs.len(), "{name}");
    let largest = torchs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (ours, torchs) in ours.iter().zip(torchs) {
        // sums of at most 64 products of which each is rounded once
        assert!(
            (ours - torchs).abs() <= 1e-5 * largest,
            "{name}: {ours} instead of {torchs}"
        );
    }
}

#[test]
fn output_and_gradients_equal_torchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/operations.safetensors");
    let files = TensorFiles::open(vec![path]).unwrap();
    let read = |name: &str| files.read_f32(&format!("linear.{name}")).unwrap();
    let [x, a, b, dy] = ["x", "a", "b", "dy"].map(read);
    // weight and bias are trained too, so that all of torch's gradients are compared
    let (weight, bias) = (read("w"), read("bias"));
    let parameters = [weight.as_slice(), &bias].concat();
    let (w, rest) = (0..weight.len(), weight.len()..parameters.len());
    let places = LoraGradients {
        a: rest.end,
        b: rest.end + a.len(),
    };
    let linear = Linear {
        weight: Tensor::Parameter(w.clone()),
        bias: Some(Tensor::Parameter(rest.clone())),
        input: 64,
        output: 24,
        module: "linear".into(),
    };
    let lora = LoraBranch {
        a: Matrix::F32(&a),
        b: Matrix::F32(&b),
        rank: RANK,
        scale: 2.0,
        dropout: None,
        gradients: Some(places),
    };
    let rows = Rows {
        count: TOKENS,
        precision: Precision::F32,
        order: ReductionOrder::Fastest,
    };
    let mut pool = Pool::default();
    let mut y = vec![f32::NAN; TOKENS * linear.output];
    let target = (y.as_mut_slice(), Accumulate::Overwrite);
    let hidden = linear.forward_adapted(rows, (&parameters, lora), Matrix::F32(&x), target, &mut pool);
    assert_close("y", &y, &read("y"));

    let mut gradients = vec![0.0; places.b + b.len()];
    let mut dx = vec![f32::NAN; x.len()];
    let entry = LinearBackward {
        linear: &linear,
        branch: Some(SavedBranch { lora, hidden: &hidden }),
        dy: Matrix::F32(&dy),
    };
    let target = (dx.as_mut_slice(), Accumulate::Overwrite);
    backward(
        rows,
        &parameters,
        &[entry],
        Matrix::F32(&x),
        target,
        (&mut gradients, &mut pool),
    );
    assert_close("dx", &dx, &read("dx"));
    for (name, range) in [
        ("dw", w),
        ("dbias", rest),
        ("da", places.a..places.b),
        ("db", places.b..places.b + b.len()),
    ] {
        assert_close(name, &gradients[range], &read(name));
    }
}
