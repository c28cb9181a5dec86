//! The linear layer with its branch against torch. `tests/fixtures/make_operations.py` made the numbers.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::Path;

use synapse_checkpoint::TensorFiles;

use super::*;

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
    let ranges = LoraRanges {
        a: rest.end..rest.end + a.len(),
        b: rest.end + a.len()..rest.end + a.len() + b.len(),
    };
    let linear = Linear {
        weight: Tensor::Parameter(w.clone()),
        bias: Some(Tensor::Parameter(rest.clone())),
        input: 64,
        output: 24,
    };
    let lora = Lora {
        a: Matrix::F32(&a),
        b: Matrix::F32(&b),
        rank: RANK,
        scale: 2.0,
        dropout: None,
    };
    let rows = Rows {
        count: TOKENS,
        precision: Precision::F32,
        order: Order::Fastest,
    };
    let mut pool = Pool::default();
    let mut y = vec![f32::NAN; TOKENS * linear.output];
    let target = (y.as_mut_slice(), Accumulate::Overwrite);
    let hidden = linear.forward_adapted(rows, (&parameters, lora), Matrix::F32(&x), target, &mut pool);
    assert_close("y", &y, &read("y"));

    let mut gradients = vec![0.0; ranges.b.end];
    let mut dx = vec![f32::NAN; x.len()];
    let flow = Flow {
        linear: &linear,
        branch: Some(Branch {
            lora,
            ranges: &ranges,
            hidden: &hidden,
        }),
        dy: Matrix::F32(&dy),
    };
    let target = (dx.as_mut_slice(), Accumulate::Overwrite);
    backward(
        rows,
        &parameters,
        &[flow],
        Matrix::F32(&x),
        target,
        (&mut gradients, &mut pool),
    );
    assert_close("dx", &dx, &read("dx"));
    for (name, range) in [
        ("dw", w),
        ("dbias", rest),
        ("da", ranges.a.clone()),
        ("db", ranges.b.clone()),
    ] {
        assert_close(name, &gradients[range], &read(name));
    }
}
