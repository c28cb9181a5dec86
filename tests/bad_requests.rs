//! Wrong requests: exit 2 (or 1 where only the work can tell), one clear message, no panic, nothing half-written.

use crate::support::{Root, half_written, repository, stderr};

const RECIPE: &str = "
name: bad
pipeline: ../pipelines/specialist.yaml
base: BASE
data: [{ dataset: ../data/nano/train/math.parquet, samples: 16 }]
held_out: 4
lora: { rank: 4, alpha: 8, dropout: 0.0, targets: all-linear }
train: { max_steps: 1, batch_size: 2, gradient_accumulation: 1, max_seq_len: 256, learning_rate: 1.0e-3 }
evaluate: { suites: [held-out-loss] }
output: outputs/bad
";

fn run(root: &Root, change: impl Fn(&str) -> String) -> (i32, String) {
    let text = change(&RECIPE.replace("BASE", &Root::base().display().to_string()));
    root.write("recipes/bad.yaml", &text);
    let output = root.train(&["run", "recipes/bad.yaml"]).output().unwrap();
    (output.status.code().unwrap_or(-1), stderr(&output))
}

fn check(root: &Root, what: &str, (code, text): (i32, String), expected: i32, words: &[&str]) {
    assert_eq!(code, expected, "{what}: {text}");
    assert!(!text.contains("panicked"), "{what} panics: {text}");
    for word in words {
        assert!(text.contains(word), "{what}: the message does not say `{word}`: {text}");
    }
    assert!(!root.join("outputs/bad").exists(), "{what}: something was published");
    assert_eq!(
        half_written(&root.join("outputs")),
        Vec::<std::path::PathBuf>::new(),
        "{what}"
    );
}

#[test]
fn wrong_recipes_are_refused_with_place_and_way_out() {
    let root = Root::new();
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "unknown key",
            "learning_rate:",
            "lerning_rate:",
            &["recipes/bad.yaml:8", "lerning_rate", "learning_rate"],
        ),
        (
            "unknown section",
            "held_out: 4",
            "heldout: 4",
            &["recipes/bad.yaml:6", "heldout", "held_out"],
        ),
        ("wrong type", "rank: 4", "rank: four", &["recipes/bad.yaml:7", "rank"]),
        ("rank 0", "rank: 4", "rank: 0", &["recipes/bad.yaml:7", "rank"]),
        (
            "negative learning rate",
            "1.0e-3",
            "-1.0e-3",
            &["recipes/bad.yaml:8", "learning_rate"],
        ),
        (
            "dropout above one",
            "dropout: 0.0",
            "dropout: 1.5",
            &["recipes/bad.yaml:7", "dropout"],
        ),
        (
            "missing data file",
            "math.parquet",
            "maths.parquet",
            &["recipes/bad.yaml:5", "maths.parquet"],
        ),
        (
            "missing dataset",
            "../data/nano/train/math.parquet",
            "gsm9k",
            &["recipes/bad.yaml:5", "gsm9k", "gsm8k"],
        ),
        (
            "missing pipeline",
            "specialist.yaml",
            "specialists.yaml",
            &["recipes/bad.yaml:3"],
        ),
        (
            "unknown suite",
            "held-out-loss",
            "held-out",
            &["recipes/bad.yaml:9", "held-out-loss"],
        ),
        (
            "unknown target",
            "all-linear",
            "all-liner",
            &["recipes/bad.yaml:7", "all-linear"],
        ),
        (
            "batch of nothing",
            "batch_size: 2",
            "batch_size: 0",
            &["recipes/bad.yaml:8", "batch_size"],
        ),
        ("no YAML", "name: bad", "name: [bad", &["recipes/bad.yaml"]),
        (
            "duplicate key",
            "held_out: 4",
            "held_out: 4\nheld_out: 5",
            &["held_out"],
        ),
        (
            "method full with lora",
            "max_steps: 1",
            "max_steps: 1, method: full",
            &["lora"],
        ),
        (
            "rest without total",
            "samples: 16",
            "samples: rest",
            &["recipes/bad.yaml:5", "total"],
        ),
        (
            "unknown scheduler",
            "max_steps: 1",
            "max_steps: 1, scheduler: cosin",
            &["recipes/bad.yaml:8", "cosine"],
        ),
    ];
    for (what, from, to, words) in cases {
        check(&root, what, run(&root, |text| text.replacen(from, to, 1)), 2, words);
    }
    let (code, text) = run(&root, |text| {
        text.replace("rank: 4", "rank: 0")
            .replace("learning_rate:", "lerning_rate:")
    });
    check(&root, "two mistakes", (code, text), 2, &["rank", "lerning_rate"]);
}

#[test]
fn wrong_files_are_named() {
    let root = Root::new();
    // a base whose weights were cut short
    let cut = root.join("cut");
    crate::support::copy_tree(&Root::base(), &cut);
    let weights = cut.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let cut_text = cut.display().to_string();
    check(
        &root,
        "truncated safetensors",
        run(&root, |text| replace_base(text, &cut_text)),
        1,
        &["model.safetensors"],
    );
    // a base without configuration
    std::fs::remove_file(cut.join("config.json")).unwrap();
    let (code, text) = run(&root, |text| replace_base(text, &cut_text));
    assert!(code == 1 || code == 2, "{text}");
    check(&root, "no config.json", (code, text), code, &["config.json"]);
    // rows that break their format
    root.write(
        "data/broken.jsonl",
        "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n{\"question\": \"1 + ",
    );
    let broken = run(&root, |text| {
        text.replace("../data/nano/train/math.parquet", "../data/broken.jsonl")
    });
    check(&root, "broken JSON lines", broken, 1, &["broken.jsonl", "2"]);
}

fn replace_base(text: &str, base: &str) -> String {
    text.lines()
        .map(|line| {
            if line.starts_with("base:") {
                format!("base: {base}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}

#[test]
fn wrong_command_lines_exit_with_2() {
    let root = Root::new();
    let base = Root::base();
    let base = base.to_str().unwrap();
    for arguments in [
        &["run"][..],
        &["run", "recipes/none.yaml"],
        &["run", "recipes/math.yaml", "--from", "somewhere"],
        &["run", "recipes/math.yaml", "--set", "train.epoch=1"],
        &["generate", base],
        &["eval", base, "--suite", "mmlu-pro"],
        &["serve", base, "--adapter", "nameless"],
        &["frobnicate"],
    ] {
        let output = root.train(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{arguments:?}");
    }
    for arguments in [
        &["--method", "ties", "--trim", "1.5"][..],
        &["--method", "tiles"],
        &["--method", "ties", "--trim", "0.8"],
    ] {
        let output = root.merge(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn committed_recipes_and_pipelines_are_valid() {
    let root = Root::new();
    // what recipes/synapse-arch/nano.yaml makes, and the four specialists over it begin with
    let made = root.join("outputs/synapse-arch/nano");
    std::fs::create_dir_all(&made).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::write(made.join(name), "").unwrap();
    }
    let mut files = Vec::new();
    for folder in ["recipes", "recipes/smollm2", "recipes/synapse-arch", "pipelines"] {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml")
                && path.file_name().unwrap() != "specialist.yaml"
            {
                files.push(format!("{folder}/{}", path.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    let arguments: Vec<&str> = std::iter::once("check")
        .chain(files.iter().map(String::as_str))
        .collect();
    root.ok(&arguments);
}
