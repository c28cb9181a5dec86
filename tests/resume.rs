//! A run that is killed or interrupted ends byte-identical to one that is not.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Root, expect, stderr};

/// A LoRA recipe with everything that could differ on resume: dropout, recompute, several epochs, accumulation.
fn recipe(root: &Root, name: &str) {
    let base = Root::base();
    root.write(
        &format!("recipes/{name}.yaml"),
        &format!(
            "
name: {name}
pipeline: ../pipelines/specialist.yaml
base: {}
data: [{{ dataset: ../data/nano/train/math.parquet, samples: 40 }}]
held_out: 8
quantization: {{ type: nf4, block_size: 64, double_quant: true }}
lora: {{ rank: 8, alpha: 16, dropout: 0.2, targets: all-linear }}
train: {{ epochs: 12, batch_size: 2, gradient_accumulation: 4, max_seq_len: 256, learning_rate: 1.0e-3, recompute: true, checkpoint_every: 3, seed: 7 }}
evaluate: {{ suites: [held-out-loss], every: 5 }}
output: outputs/{name}
",
            base.display()
        ),
    );
}

fn adapter(root: &Root, name: &str) -> Vec<u8> {
    std::fs::read(root.join(&format!("outputs/{name}/adapter_model.safetensors"))).unwrap()
}

pub(crate) fn wait_for_checkpoint(folder: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        if std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("step-"))
        }) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn kill_9_and_resume_gives_the_same_bytes() {
    let root = Root::new();
    recipe(&root, "straight");
    recipe(&root, "killed");
    root.ok(&["run", "recipes/straight.yaml"]);
    let mut child = root
        .train(&["run", "recipes/killed.yaml"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(
        wait_for_checkpoint(&root.join("outputs/runs/killed/checkpoints")),
        "no checkpoint appeared"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !root.join("outputs/killed").exists(),
        "the run was killed too late to mean anything"
    );
    let output = root.ok(&["run", "recipes/killed.yaml"]);
    assert!(stderr(&output).contains("resuming after step"), "{}", stderr(&output));
    assert!(
        adapter(&root, "straight") == adapter(&root, "killed"),
        "the adapters differ"
    );
    let lines = |name: &str| {
        std::fs::read_to_string(root.join(&format!("outputs/runs/{name}/metrics.jsonl")))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(lines("straight"), lines("killed"), "metrics have gaps or repeats");
}

#[test]
fn a_second_run_repeats_nothing_and_a_changed_rate_trains_again() {
    let root = Root::new();
    recipe(&root, "again");
    root.ok(&["run", "recipes/again.yaml"]);
    let second = root.ok(&["run", "recipes/again.yaml"]);
    assert_eq!(stderr(&second).matches("unchanged").count(), 4, "{}", stderr(&second));
    let before = adapter(&root, "again");
    let third = root.ok(&["run", "recipes/again.yaml", "--set", "train.learning_rate=2.0e-3"]);
    assert_eq!(stderr(&third).matches("unchanged").count(), 2, "{}", stderr(&third));
    assert!(
        adapter(&root, "again") != before,
        "another learning rate gave the same adapter"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_resumable_run() {
    let root = Root::new();
    recipe(&root, "stopped");
    let child = root
        .train(&["run", "recipes/stopped.yaml"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(
        wait_for_checkpoint(&root.join("outputs/runs/stopped/checkpoints")),
        "no checkpoint appeared"
    );
    std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let output = expect(child.wait_with_output().unwrap(), 1);
    assert!(
        stderr(&output).contains("run the same command again"),
        "{}",
        stderr(&output)
    );
    root.ok(&["run", "recipes/stopped.yaml"]);
}
