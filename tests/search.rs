//! `search`: what is found in memory is what a run with the same numbers publishes; stopped, it goes on.

use serde_json::Value;

use crate::support::{Root, expect, stderr, stdout};

/// Two small specialists of the tiny base, and the pipeline that merges them.
fn pipeline(root: &Root) {
    let base = Root::base();
    for (name, data) in [("math", "math.parquet"), ("general", "general.jsonl, format: sharegpt")] {
        root.write(
            &format!("recipes/tiny-{name}.yaml"),
            &format!(
                "
name: {name}
pipeline: ../pipelines/specialist.yaml
base: {}
data: [{{ dataset: ../data/nano/train/{data}, samples: 48 }}]
held_out: 12
lora: {{ rank: 4, alpha: 16, dropout: 0.0, targets: all-linear }}
train: {{ max_steps: 12, batch_size: 4, gradient_accumulation: 1, max_seq_len: 128, learning_rate: 5.0e-3, seed: 3 }}
evaluate: {{ suites: [held-out-loss] }}
output: outputs/tiny-{name}
",
                base.display()
            ),
        );
    }
    root.write(
        "pipelines/tiny.yaml",
        "
name: tiny-merge
recipes: [../recipes/tiny-math.yaml, ../recipes/tiny-general.yaml]
merge: { method: ties, trim: 0.8, sign: frequency, lambda: 1.0, weights: { math: 1.0, general: 1.0 } }
gate: { max_regress: 0.5, on: held-out-loss, action: refuse }
export: { dtype: bf16, shard_size: 5GB, gguf: [] }
output: outputs/tiny-merge
",
    );
}

const SEARCH: [&str; 11] = [
    "search",
    "pipelines/tiny.yaml",
    "--trims",
    "0.5",
    "--lambdas",
    "0.5,1.5",
    "--rows",
    "3",
    "--finalists",
    "2",
    "--json",
];

fn found(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn mean(trial: &Value) -> f64 {
    trial["mean_gain_kept"].as_f64().unwrap()
}

#[test]
fn a_search_finds_what_a_run_then_publishes_and_goes_on_where_it_stopped() {
    let root = Root::new();
    pipeline(&root);
    let first = stdout(&root.ok(&SEARCH));
    let outcome = found(&first);
    // Two trims with three lambdas, and neighbors.
    assert!(outcome["tried"].as_u64().unwrap() > 6, "{outcome:#}");
    assert_eq!(outcome["rows"], 24);
    let chosen = &outcome["finalists"][outcome["chosen"].as_u64().unwrap() as usize];
    assert!(mean(chosen) >= mean(&outcome["best_at_own_trim"]), "{outcome:#}");
    assert!(
        mean(&outcome["best_at_own_trim"]) >= mean(&outcome["own"]),
        "{outcome:#}"
    );
    assert_eq!(outcome["best_at_own_trim"]["trim"], 0.8);
    assert_eq!(chosen["gate"]["decision"], "pass");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(found(&read("outputs/runs/tiny-merge/search/search.json")), outcome);
    assert!(read("outputs/runs/tiny-merge/search/front.svg").contains("chosen"));

    // A search that was cut off goes on: half a journal, and a line that was not written to its end.
    let path = root.join("outputs/runs/tiny-merge/search/journal.jsonl");
    let journal = std::fs::read(&path).unwrap();
    std::fs::write(&path, &journal[..journal.len() / 2]).unwrap();
    std::fs::remove_dir_all(root.join("outputs/runs/tiny-merge/search/finalists")).unwrap();
    assert_eq!(stdout(&root.ok(&SEARCH)), first);
    assert_eq!(std::fs::read(&path).unwrap(), journal);

    // The section is one that a pipeline takes, and the command's run measures what the search said.
    let merge = read("outputs/runs/tiny-merge/search/merge.yaml");
    let text = read("pipelines/tiny.yaml");
    let others = text.lines().filter(|line| !line.starts_with("merge:"));
    let whole = others.collect::<Vec<_>>().join("\n") + "\n" + &merge;
    root.write("pipelines/chosen.yaml", &whole);
    root.ok(&["check", "pipelines/chosen.yaml"]);
    let command = outcome["command"]
        .as_str()
        .unwrap()
        .strip_prefix("synapse-train ")
        .unwrap();
    root.ok(&command.split(' ').collect::<Vec<_>>());
    let comparison = found(&read("outputs/runs/tiny-merge/comparison.json"));
    for column in comparison["columns"].as_array().unwrap() {
        let merged = column["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cell| cell["subject"] == "merge")
            .unwrap();
        let (published, tried) = (
            merged["value"].as_f64().unwrap(),
            chosen["loss"][column["domain"].as_str().unwrap()].as_f64().unwrap(),
        );
        // The same losses, summed in another order of rows.
        assert!(
            (published - tried).abs() <= 1e-9 * published,
            "{published} against {tried}"
        );
    }
    let page = read("outputs/runs/tiny-merge/report.html");
    assert!(page.contains("merges were tried on held-out loss") && page.contains("data:image/svg+xml,"));
    let again = root.ok(&["run", "pipelines/chosen.yaml"]);
    assert!(stderr(&again).contains("merge     unchanged"), "{}", stderr(&again));
}

#[test]
fn wrong_searches_are_refused() {
    let root = Root::new();
    pipeline(&root);
    let cases: [(&[&str], &str); 7] = [
        (&["recipes/tiny-math.yaml"], "is a recipe"),
        (
            &["pipelines/tiny.yaml", "--trims", "1.5"],
            "trim 1.5 must be at least 0 and below 1",
        ),
        (&["pipelines/tiny.yaml", "--lambdas", "0"], "lambda 0 must be above 0"),
        (
            &["pipelines/tiny.yaml", "--finalists", "0"],
            "at least one row and one finalist",
        ),
        (
            &[
                "pipelines/tiny.yaml",
                "--set",
                "merge.method=linear",
                "--set",
                "merge.trim=0",
            ],
            "has no lambda",
        ),
        (
            &["pipelines/tiny.yaml", "--set", "merge.parameters.lambda=2"],
            "merge.parameters.lambda",
        ),
        (&["pipelines/tiny.yaml", "--steps", "3"], "--steps"),
    ];
    for (arguments, words) in cases {
        let all: Vec<&str> = ["search"].iter().chain(arguments).copied().collect();
        let output = expect(root.train(&all).output().unwrap(), 2);
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(!root.join("outputs/runs").exists(), "{arguments:?} did something");
    }
}
