//! `run --device`: the candle backend computes the same steps as the CPU kernels and resumes like them, and an unavailable
//! device is refused before anything runs. No GPU is needed: candle runs on the CPU here.

use synapse_trainer::{HeldOutReport, Metric, StepReport, read_metrics};

use crate::{
    resume::wait_for_checkpoint,
    support::{Root, expect, stderr},
};

/// LoRA on the bundled base. The cases differ in `storage` and `train`.
fn recipe(root: &Root, name: &str, storage: &str, dropout: f32, train: &str) {
    root.write(
        &format!("recipes/{name}.yaml"),
        &format!(
            "
name: {name}
pipeline: ../pipelines/specialist.yaml
base: ../data/nano/base
data: [{{ dataset: ../data/nano/train/math.parquet, samples: 40 }}]
held_out: 4
quantization: {storage}
lora: {{ rank: 8, alpha: 16, dropout: {dropout}, targets: all-linear }}
train: {{ batch_size: 2, gradient_accumulation: 2, max_seq_len: 128, learning_rate: 1.0e-3, warmup_ratio: 0.0, seed: 7, {train} }}
evaluate: {{ suites: [held-out-loss], every: 2 }}
output: outputs/{name}
"
        ),
    );
}

/// Trains on a device and returns the recorded steps and held-out losses.
fn train(root: &Root, name: &str, device: &str) -> (Vec<StepReport>, Vec<HeldOutReport>) {
    let file = format!("recipes/{name}.yaml");
    let output = root.ok(&["run", &file, "--until", "train", "--device", device]);
    let said = stderr(&output);
    assert!(said.contains(&format!("training on {device};")), "{said}");
    let (mut steps, mut held_out) = (Vec::new(), Vec::new());
    for metric in read_metrics(&root.join(&format!("outputs/runs/{name}"))).unwrap() {
        match metric {
            Metric::Step(step) => steps.push(step),
            Metric::HeldOut(loss) => held_out.push(loss),
        }
    }
    (steps, held_out)
}

fn close(what: &str, have: f64, want: f64, tolerance: f64) {
    let difference = (have - want).abs() / want.abs();
    assert!(
        difference <= tolerance,
        "{what}: {have} on candle, {want} on the kernels"
    );
}

/// Both devices compute the same losses to a relative `tolerance`.
fn compare(name: &str, storage: &str, dropout: f32, extra: &str, tolerance: f64) {
    let root = Root::new();
    recipe(&root, name, storage, dropout, &format!("max_steps: 4, {extra}"));
    let (want, wanted) = train(&root, name, "cpu");
    let (have, had) = train(&root, name, "candle-cpu");
    assert_eq!((have.len(), had.len()), (4, 2), "{name}");
    assert_eq!((want.len(), wanted.len()), (4, 2), "{name}");
    assert!(want[3].loss != want[0].loss, "{name}: nothing was learned");
    for (have, want) in have.iter().zip(&want) {
        assert_eq!(have.target_tokens, want.target_tokens);
        let what = |quantity: &str| format!("{name}, {quantity} of step {}", want.step);
        close(&what("loss"), have.loss, want.loss, tolerance);
        close(&what("gradient norm"), have.grad_norm, want.grad_norm, 10.0 * tolerance);
    }
    for (have, want) in had.iter().zip(&wanted) {
        let what = format!("{name}, held-out loss after step {}", want.step);
        close(&what, have.held_out_loss, want.held_out_loss, tolerance);
    }
}

const NF4: &str = "{ type: nf4, block_size: 64, double_quant: true }";

#[test]
fn losses_of_the_first_steps_equal_those_of_the_kernels() {
    compare("nf4", NF4, 0.1, "compute_dtype: f32, recompute: true", 1e-4);
    compare(
        "dense",
        "{ type: none }",
        0.0,
        "compute_dtype: f32, recompute: false",
        1e-4,
    );
    compare("narrow", NF4, 0.1, "compute_dtype: bf16, recompute: true", 1e-2);
}

#[test]
fn another_device_invalidates_the_train_stage() {
    let root = Root::new();
    recipe(&root, "moved", NF4, 0.0, "max_steps: 1");
    let run = |device: &str| {
        let arguments = ["run", "recipes/moved.yaml", "--until", "train", "--device", device];
        stderr(&root.ok(&arguments)).matches("unchanged").count()
    };
    assert_eq!((run("candle-cpu"), run("candle-cpu")), (0, 3));
    let record = std::fs::read_to_string(root.join("outputs/runs/moved/stages/train.json")).unwrap();
    assert!(record.contains(r#""device": "candle-cpu""#), "{record}");
    assert_eq!(run("cpu"), 2, "the adapter of another device was reused");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_on_candle_ends_as_an_uninterrupted_one() {
    let root = Root::new();
    for name in ["straight", "stopped"] {
        recipe(&root, name, NF4, 0.1, "max_steps: 6, checkpoint_every: 1");
    }
    let arguments = [
        "run",
        "recipes/stopped.yaml",
        "--until",
        "train",
        "--device",
        "candle-cpu",
    ];
    let child = root
        .train(&arguments)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_for_checkpoint(&root.join("outputs/runs/stopped/checkpoints")));
    let id = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    expect(child.wait_with_output().unwrap(), 1);
    let resumed = root.ok(&arguments);
    assert!(stderr(&resumed).contains("resuming after step"), "{}", stderr(&resumed));
    train(&root, "straight", "candle-cpu");
    let adapter = |name: &str| std::fs::read(root.join(&format!("outputs/{name}/adapter_model.safetensors"))).unwrap();
    assert!(adapter("straight") == adapter("stopped"), "the adapters differ");
}

#[test]
fn an_unavailable_device_is_refused_before_anything_runs() {
    let root = Root::new();
    recipe(&root, "refused", NF4, 0.0, "max_steps: 1");
    let refuse = |file: &str, device: &str, words: &[&str]| {
        let output = root.train(&["run", file, "--device", device]).output().unwrap();
        let said = stderr(&expect(output, 2));
        for word in words {
            assert!(said.contains(word), "{file} on {device} does not say `{word}`: {said}");
        }
        assert!(!root.join("outputs").exists(), "{file} on {device} began to run");
    };
    #[cfg(not(feature = "cuda"))]
    refuse(
        "recipes/refused.yaml",
        "cuda",
        &[
            "cannot train on cuda",
            "cargo build",
            "-p synapse-train --features cuda",
        ],
    );
    #[cfg(not(feature = "metal"))]
    refuse(
        "recipes/refused.yaml",
        "metal",
        &["cannot train on metal", "--features metal"],
    );
    refuse(
        "recipes/nano/base.yaml",
        "candle-cpu",
        &["method: full", "--device cpu"],
    );
    refuse("recipes/refused.yaml", "gpu", &["candle-cpu", "cuda", "metal"]);
}
