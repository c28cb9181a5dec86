//! Every kind of tensor a PEFT adapter may hold, merged alone with weight 1: the base becomes what PEFT would run.

use serde_json::json;

use super::models::{self, Draw, SMALL, read, write_adapter};
use super::support::Workplace;

const U: f64 = 1.0 / 16_777_216.0;
const Q: &str = "model.layers.1.self_attn.q_proj";

fn place() -> Workplace {
    let workplace = Workplace::empty();
    models::write(&workplace.path("base"), SMALL, 1, None);
    workplace
}

/// Merges the adapter `x` alone and returns a tensor before and after, in f64.
fn merged(workplace: &Workplace, tensor: &str) -> (Vec<f64>, Vec<f64>) {
    workplace
        .run(&["--method", "task_arithmetic", "--adapter", "x", "--out", "out"])
        .exits(0);
    (
        read(&workplace.path("base"))[tensor].clone(),
        read(&workplace.path("out"))[tensor].clone(),
    )
}

/// [rows, rank] · [rank, columns] · scale in f64.
fn product(b: &[f32], a: &[f32], rank: usize, columns: usize, scale: f64) -> Vec<f64> {
    let rows = b.len() / rank;
    let entry = |at: usize| {
        (0..rank)
            .map(|k| f64::from(b[at / columns * rank + k]) * f64::from(a[k * columns + at % columns]))
            .sum::<f64>()
    };
    (0..rows * columns).map(|at| scale * entry(at)).collect()
}

fn close(got: &[f64], wanted: impl Iterator<Item = f64>) {
    for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        // Sixteen roundings of values below one cover every chain in here.
        assert!((got - wanted).abs() <= 16.0 * U, "[{at}]: {got} instead of {wanted}");
    }
}

#[test]
fn dora_scales_rows_to_their_magnitude() {
    let workplace = place();
    let mut draw = Draw::new(5);
    let (a, b) = (draw.values(2 * 16, 0.3), draw.values(16 * 2, 0.3));
    let magnitude: Vec<f32> = draw.values(16, 0.2).iter().map(|x| 0.5 + x).collect();
    write_adapter(
        &workplace.path("x"),
        &[
            (&format!("{Q}.lora_A.weight"), vec![2, 16], a.clone()),
            (&format!("{Q}.lora_B.weight"), vec![16, 2], b.clone()),
            (&format!("{Q}.lora_magnitude_vector"), vec![16], magnitude.clone()),
        ],
        &json!({"use_dora": true}),
    );
    let (base, out) = merged(&workplace, &format!("{Q}.weight"));
    let delta = product(&b, &a, 2, 16, 3.0);
    let sum: Vec<f64> = base.iter().zip(&delta).map(|(base, delta)| base + delta).collect();
    let expected = (0..16 * 16).map(|at| {
        let row = &sum[at / 16 * 16..at / 16 * 16 + 16];
        f64::from(magnitude[at / 16]) * sum[at] / row.iter().map(|x| x * x).sum::<f64>().sqrt()
    });
    close(&out, expected);
}

#[test]
fn embeddings_are_transposed() {
    let workplace = place();
    let mut draw = Draw::new(6);
    let (a, b) = (draw.values(2 * 32, 0.3), draw.values(16 * 2, 0.3));
    write_adapter(
        &workplace.path("x"),
        &[
            ("model.embed_tokens.lora_embedding_A", vec![2, 32], a.clone()),
            ("model.embed_tokens.lora_embedding_B", vec![16, 2], b.clone()),
        ],
        &json!({"use_rslora": true, "target_modules": ["embed_tokens"]}),
    );
    let (base, out) = merged(&workplace, "model.embed_tokens.weight");
    // δ[token, feature] is (B·A)[feature, token].
    let delta = product(&b, &a, 2, 32, 6.0 / 2.0_f64.sqrt());
    close(
        &out,
        base.iter()
            .enumerate()
            .map(|(at, base)| base + delta[at % 16 * 32 + at / 16]),
    );
}

#[test]
fn modules_trained_whole_replace_the_base() {
    let workplace = place();
    let norm = Draw::new(7).values(16, 1.0);
    let name = "model.layers.2.input_layernorm";
    write_adapter(
        &workplace.path("x"),
        &[(&format!("{name}.weight"), vec![16], norm.clone())],
        &json!({"modules_to_save": ["layers.2.input_layernorm"]}),
    );
    let (_, out) = merged(&workplace, &format!("{name}.weight"));
    close(&out, norm.iter().map(|&x| f64::from(x)));
}

#[test]
fn what_does_not_fit_is_named() {
    let workplace = place();
    let cases: [(&str, Vec<usize>, &str); 5] = [
        (
            "model.layers.1.self_attn.q_proj.bias",
            vec![16],
            "has no tensor model.layers.1.self_attn.q_proj.bias",
        ),
        (
            "model.layers.1.self_attn.q_proj.lora_A.weight",
            vec![2, 16],
            "has no lora_B",
        ),
        (
            "model.layers.1.self_attn.q_proj.lora_E",
            vec![2, 16],
            "nothing else can be merged",
        ),
        ("model.layers.1.mlp.up_proj.weight", vec![24, 8], "expected [24, 16]"),
        (
            "model.layers.7.mlp.up_proj.weight",
            vec![24, 16],
            "was it trained on another base?",
        ),
    ];
    for (name, shape, message) in cases {
        let count = shape.iter().product();
        write_adapter(
            &workplace.path("x"),
            &[(name, shape, vec![0.5; count])],
            &json!({"bias": "all"}),
        );
        workplace
            .run(&["--adapter", "x", "--out", "out"])
            .exits(2)
            .says(message);
    }
    write_adapter(
        &workplace.path("x"),
        &[("model.norm.weight", vec![16], vec![0.5; 16])],
        &json!({"trainable_token_indices": [1]}),
    );
    workplace
        .run(&["--adapter", "x", "--out", "out"])
        .exits(2)
        .says("trainable_token_indices");
    write_adapter(
        &workplace.path("x"),
        &[("model.norm.weight", vec![16], vec![0.5; 16])],
        &json!({"trainable_token_indices": [7]}),
    );
    workplace
        .run(&["--adapter", "x", "--out", "out"])
        .exits(2)
        .says("trainable_token_indices");
}

/// PEFT merges factors: √(w·s) on both sides, signs from unweighted values, sums divided by the number that agree.
#[test]
fn the_peft_way_merges_factors() {
    let workplace = place();
    let mut draw = Draw::new(8);
    let mut factors = Vec::new();
    for (name, alpha) in [("x", 6.0), ("y", 2.0)] {
        let (a, b) = (draw.values(2 * 16, 0.3), draw.values(16 * 2, 0.3));
        write_adapter(
            &workplace.path(name),
            &[
                (&format!("{Q}.lora_A.weight"), vec![2, 16], a.clone()),
                (&format!("{Q}.lora_B.weight"), vec![16, 2], b.clone()),
            ],
            &json!({"lora_alpha": alpha}),
        );
        factors.push((a, b, alpha / 2.0));
    }
    let base = read(&workplace.path("base"))[&format!("{Q}.weight")].clone();
    let weights: [f64; 2] = [0.5, 1.5];
    let roots: Vec<f64> = factors
        .iter()
        .zip(weights)
        .map(|((_, _, scale), weight)| (weight * scale).sqrt())
        .collect();
    let side = |of: &dyn Fn(usize) -> Vec<f32>, ties: bool| -> Vec<f32> {
        let (left, right) = (of(0), of(1));
        let entry = |(x, y): (&f32, &f32)| {
            let (x, y) = (f64::from(*x), f64::from(*y));
            let sum = roots[0] * x + roots[1] * y;
            if !ties || x * y > 0.0 {
                return if ties { sum / 2.0 } else { sum } as f32;
            }
            let sign = if x + y >= 0.0 { 1.0 } else { -1.0 };
            (if x * sign > 0.0 { roots[0] * x } else { roots[1] * y }) as f32
        };
        left.iter().zip(&right).map(entry).collect()
    };
    for (method, ties) in [("linear", false), ("ties", true)] {
        workplace
            .run(&[
                "--method",
                method,
                "--compat",
                "peft",
                "--adapter",
                "x@0.5",
                "--adapter",
                "y@1.5",
                "--out",
                "out",
            ])
            .exits(0)
            .says("as PEFT does");
        let out = read(&workplace.path("out"))[&format!("{Q}.weight")].clone();
        let a = side(&|at| factors[at].0.clone(), ties);
        let b = side(&|at| factors[at].1.clone(), ties);
        let delta = product(&b, &a, 2, 16, 1.0);
        close(&out, base.iter().zip(&delta).map(|(base, delta)| base + delta));
    }
}

/// Two adapters of rank 2 add up to a change of rank 4, which an adapter of rank 4 holds and one of rank 1 does not.
#[test]
fn a_merge_becomes_an_adapter_again() {
    let workplace = place();
    let mut draw = Draw::new(9);
    for name in ["x", "y"] {
        let (a, b) = (draw.values(2 * 16, 0.3), draw.values(16 * 2, 0.3));
        write_adapter(
            &workplace.path(name),
            &[
                (&format!("{Q}.lora_A.weight"), vec![2, 16], a),
                (&format!("{Q}.lora_B.weight"), vec![16, 2], b),
            ],
            &json!({}),
        );
    }
    let merge = [
        "--method",
        "task_arithmetic",
        "--base",
        "base",
        "--adapter",
        "x",
        "--adapter",
        "y@-0.5",
    ];
    let with = |more: &[&'static str]| -> Vec<&str> { merge.iter().chain(more).copied().collect() };
    workplace.run(&with(&["--out", "merged"])).exits(0);
    workplace
        .run(&with(&["--extract-lora", "4", "--out", "four"]))
        .exits(0)
        .says("1 modules at rank 4")
        .says("has 100.00 %");
    let first = workplace.hashes("four");
    workplace.run(&["four/merge.yaml", "--out", "again"]).exits(0);
    assert_eq!(workplace.hashes("again"), first);
    workplace
        .run(&["--method", "task_arithmetic", "--adapter", "four", "--out", "back"])
        .exits(0);
    let (merged, back) = (read(&workplace.path("merged")), read(&workplace.path("back")));
    for (name, values) in &merged {
        close(&back[name], values.iter().copied());
    }
    let ran = workplace.run(&with(&["--extract-lora", "1", "--out", "one"])).exits(0);
    assert!(!ran.stderr().contains("has 100"), "{}", ran.stderr());
    write_adapter(
        &workplace.path("y"),
        &[("model.norm.weight", vec![16], vec![0.5; 16])],
        &json!({"modules_to_save": ["norm"]}),
    );
    workplace
        .run(&with(&["--extract-lora", "4", "--out", "no"]))
        .exits(2)
        .says("the merge changes model.norm.weight");
}
