//! What a user reads when a file is wrong. The snapshots are the messages, to be judged as prose.
#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fmt::Write;
use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use synapse_recipe::{check, load};
use tempfile::TempDir;

/// A snapshot file that holds the messages and not the code that made them.
macro_rules! snapshot {
    ($messages:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($messages);
        })
    };
}

const GOOD: &str = "\
name: math
base: Qwen/Qwen2.5-3B-Instruct
data:
  - { dataset: gsm8k, samples: all }
  - { dataset: orca-math, samples: 100 }
quantization: { type: nf4, block_size: 64, double_quant: true }
lora: { rank: 64, alpha: 128, dropout: 0.05, targets: all-linear }
train:
  epochs: 3
  batch_size: 2
  learning_rate: 2.0e-4
  scheduler: cosine
evaluate: { suites: [held-out-loss], every: 200 }
output: outputs/math
";

const REGISTRY: &str = "\
datasets:
  gsm8k:
    id: openai/gsm8k
    files: { train: [\"main/train-*.parquet\"], test: [\"main/test-*.parquet\"] }
    format: question-answer
    license: MIT
  orca-math:
    id: microsoft/orca-math-word-problems-200k
    files: { train: [\"data/train-*.parquet\"] }
    format: question-answer
    license: MIT
";

/// A project folder with a registry and two good recipes.
fn project() -> TempDir {
    let folder = TempDir::new().unwrap();
    for sub in ["data", "recipes", "pipelines", "empty-model", "weightless"] {
        fs::create_dir(folder.path().join(sub)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("data/registry.yaml", REGISTRY);
    write("data/rows.jsonl", "{}\n");
    write("data/rows.xyz", "?\n");
    write("weightless/config.json", "{}");
    write("recipes/math.yaml", GOOD);
    write(
        "recipes/code.yaml",
        &GOOD
            .replace("name: math", "name: code")
            .replace("outputs/math", "outputs/code"),
    );
    write("pipelines/late.yaml", "stages: [train, merge]\n");
    folder
}

/// The messages for one file of the project, without the folder it happens to lie in.
fn messages(folder: &TempDir, file: &str, text: &str, overrides: &[&str]) -> String {
    fs::write(folder.path().join(file), text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match check(&folder.path().join(file), &overrides) {
        Ok(()) => "fine".to_owned(),
        Err(diagnostics) => diagnostics
            .to_string()
            .replace(&format!("{}/", folder.path().display()), ""),
    }
}

fn report(cases: &[(&str, String)]) -> String {
    let folder = project();
    let mut report = String::new();
    for (name, text) in cases {
        writeln!(
            report,
            "## {name}\n{}\n",
            messages(&folder, "recipes/bad.yaml", text, &[])
        )
        .unwrap();
    }
    report
}

fn edit(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

#[test]
fn the_good_recipe_is_good() {
    assert_eq!(report(&[("good", GOOD.to_owned())]), "## good\nfine\n\n");
}

#[test]
fn keys() {
    snapshot!(report(&[
        ("unknown key", edit("learning_rate", "lerning_rate")),
        ("another tool's key", edit("batch_size", "per_device_train_batch_size")),
        (
            "key of another section",
            edit("name: math", "name: math\nlearning_rate: 1.0e-4")
        ),
        (
            "top-level key in a section",
            edit("  epochs: 3", "  epochs: 3\n  held_out: 10")
        ),
        ("nothing like it", edit("name: math", "name: math\ncolor: blue")),
        ("missing keys", "name: math\ndata: [{ samples: all }]\n".to_owned()),
        (
            "duplicate keys",
            edit(
                "  scheduler: cosine",
                "  scheduler: cosine\n  epochs: 2\n  batch_size: 4"
            )
        ),
        ("merge keys", edit("train:\n", "train:\n  <<: { epochs: 2 }\n")),
    ]));
}

#[test]
fn values() {
    snapshot!(report(&[
        ("rank 0", edit("rank: 64", "rank: 0")),
        ("negative learning rate", edit("2.0e-4", "-2.0e-4")),
        ("learning rate of 200", edit("2.0e-4", "200")),
        ("infinite learning rate", edit("2.0e-4", ".inf")),
        ("dropout 1", edit("dropout: 0.05", "dropout: 1")),
        ("number in quotes", edit("epochs: 3", "epochs: \"3\"")),
        ("fraction of a row", edit("batch_size: 2", "batch_size: 2.5")),
        ("whole number as a float", edit("batch_size: 2", "batch_size: 2.0")),
        ("yes for true", edit("double_quant: true", "double_quant: yes")),
        ("wrong word", edit("cosine", "cosin")),
        ("unknown quantization", edit("type: nf4", "type: int3")),
        ("block size", edit("block_size: 64", "block_size: 96")),
        (
            "text for a mapping",
            edit(
                "lora: { rank: 64, alpha: 128, dropout: 0.05, targets: all-linear }",
                "lora: big"
            )
        ),
        (
            "mapping for a list",
            edit(
                "  - { dataset: gsm8k, samples: all }\n  - { dataset: orca-math, samples: 100 }",
                "  dataset: gsm8k"
            )
        ),
        ("nothing", edit("learning_rate: 2.0e-4", "learning_rate:")),
        (
            "unknown module",
            edit("targets: all-linear", "targets: [q_proj, qq_proj]")
        ),
        ("unknown targets", edit("targets: all-linear", "targets: all_linear")),
        ("unknown suite", edit("held-out-loss", "heldout-loss")),
        (
            "no sources",
            edit(
                "  - { dataset: gsm8k, samples: all }\n  - { dataset: orca-math, samples: 100 }",
                "  []"
            )
        ),
        ("samples 0", edit("samples: 100", "samples: 0")),
        ("samples many", edit("samples: 100", "samples: many")),
        ("name with a slash", edit("name: math", "name: ../math")),
    ]));
}

#[test]
fn conditions() {
    snapshot!(report(&[
        ("rest without total", edit("samples: 100", "samples: rest")),
        ("total without rest", edit("name: math", "name: math\ntotal: 1000")),
        (
            "samples above total",
            edit("{ dataset: gsm8k, samples: all }", "{ dataset: gsm8k, samples: rest }")
                .replace("name: math", "name: math\ntotal: 100")
        ),
        (
            "two rests",
            edit("samples: 100", "samples: rest")
                .replace("samples: all", "samples: rest")
                .replace("name: math", "name: math\ntotal: 100")
        ),
        ("unknown dataset", edit("dataset: gsm8k", "dataset: gsm8")),
        ("missing file", edit("dataset: gsm8k", "dataset: ../data/row.jsonl")),
        ("unreadable file", edit("dataset: gsm8k", "dataset: ../data/rows.xyz")),
        ("test split", edit("samples: all", "samples: all, split: test")),
        (
            "test files",
            edit("samples: all", "samples: all, files: [\"main/*.parquet\"]")
        ),
        (
            "unknown field in a map",
            edit("samples: all", "samples: all, map: { questions: q }")
        ),
        ("endless routing rows", edit("dataset: gsm8k", "dataset: routing")),
        (
            "requests for rows that are not generated",
            edit("samples: all", "samples: all, requests: { math: math.yaml }")
        ),
        (
            "requests nobody answers, of no file, of itself and of no recipe",
            edit(
                "{ dataset: gsm8k, samples: all }",
                "{ dataset: routing, samples: 9, requests: { several: math.yaml, general: none.yaml, math: bad.yaml, \
                 code: ../pipelines/late.yaml } }"
            )
        ),
        (
            "missing held-out file",
            edit("samples: all", "samples: all, held_out_file: ../data/none.jsonl")
        ),
        (
            "held-out loss of nothing",
            edit("name: math", "name: math\nheld_out: 0")
        ),
        (
            "routing without a router",
            edit("[held-out-loss]", "[routing, held-out-loss]")
        ),
        (
            "choices without a file",
            edit("[held-out-loss]", "[choices, held-out-loss]")
        ),
        (
            "files that no suite reads",
            edit(
                "[held-out-loss]",
                "[held-out-loss, choices], files: { mmlu: rows.parquet, routing: rows.jsonl, choices: none.jsonl }"
            )
        ),
        (
            "answers that nobody asks for",
            edit("[held-out-loss]", "[held-out-loss], shots: 8, samples: 5")
        ),
        (
            "answers that are all the same",
            edit("[held-out-loss]", "[held-out-loss, humaneval], samples: 5")
        ),
        (
            "filters that leave nothing",
            edit("name: math", "name: math\nfilters: { min_chars: 100, max_chars: 10 }")
        ),
        ("base that is nothing", edit("Qwen/Qwen2.5-3B-Instruct", "qwen")),
        (
            "missing base folder",
            edit("Qwen/Qwen2.5-3B-Instruct", "../models/qwen")
        ),
        ("missing gguf", edit("Qwen/Qwen2.5-3B-Instruct", "../models/qwen.gguf")),
        (
            "folder without a model",
            edit("Qwen/Qwen2.5-3B-Instruct", "../empty-model")
        ),
        (
            "folder without weights",
            edit("Qwen/Qwen2.5-3B-Instruct", "../weightless")
        ),
        (
            "full with lora and quantization",
            edit("  epochs: 3", "  method: full\n  epochs: 3")
        ),
        (
            "adapters on a fresh base",
            edit("Qwen/Qwen2.5-3B-Instruct", "{ fresh: ../weightless }")
        ),
        (
            "missing pipeline",
            edit("name: math", "name: math\npipeline: ../pipelines/none.yaml")
        ),
        (
            "pipeline with a merge",
            edit("name: math", "name: math\npipeline: ../pipelines/late.yaml")
        ),
        ("output is everything", edit("output: outputs/math", "output: .")),
    ]));
}

#[test]
fn everything_at_once() {
    let text = edit("rank: 64", "rank: 0")
        .replace("2.0e-4", "-1")
        .replace("batch_size", "batchsize")
        .replace("dataset: gsm8k", "dataset: gsm9k")
        .replace("samples: 100", "samples: rest")
        .replace("cosine", "cosinus");
    snapshot!(report(&[("six mistakes", text)]));
}

#[test]
fn files_that_are_not_recipes() {
    snapshot!(report(&[
        ("empty", String::new()),
        ("comment only", "# nothing\n".to_owned()),
        ("a list", "- a\n- b\n".to_owned()),
        ("a word", "math\n".to_owned()),
        ("tabs", "train:\n\tepochs: 3\n".to_owned()),
        ("open bracket", "data: [gsm8k\n".to_owned()),
        ("two documents", format!("{GOOD}---\n{GOOD}")),
        ("stages out of order", "stages: [train, fetch, train]\n".to_owned()),
        (
            "registry entry without a license",
            "datasets:\n  x: { id: a/b, files: { train: [] }, format: alpacka }\n".to_owned()
        ),
    ]));
    let folder = project();
    let missing = load(&folder.path().join("recipes/none.yaml"), &[]).unwrap_err();
    assert!(missing.to_string().contains("cannot read this file"));
    let stages = load(&folder.path().join("pipelines/late.yaml"), &[]).unwrap_err();
    assert!(stages.to_string().contains("only lists stages"));
}

#[test]
fn pipelines() {
    const PIPELINE: &str = "\
name: both
recipes: [../recipes/math.yaml, ../recipes/code.yaml]
merge: { method: ties, trim: 0.8, sign: frequency, weights: { math: 1.0, code: 1.0 } }
gate: { max_regress: 0.02, on: held-out-loss, action: refuse }
export: { dtype: bf16, shard_size: 5GB, gguf: [q8_0] }
output: outputs/both
";
    let folder = project();
    let mut report = String::new();
    let mut case = |name: &str, text: String, overrides: &[&str]| {
        writeln!(
            report,
            "## {name}\n{}\n",
            messages(&folder, "pipelines/bad.yaml", &text, overrides)
        )
        .unwrap();
    };
    case("good", PIPELINE.to_owned(), &[]);
    case("trim 1.5", PIPELINE.replace("trim: 0.8", "trim: 1.5"), &[]);
    case("unknown method", PIPELINE.replace("method: ties", "method: tyes"), &[]);
    case(
        "weights for nobody",
        PIPELINE.replace("weights: { math", "weights: { maths"),
        &[],
    );
    case("weights of nothing", PIPELINE.replace("1.0", "0.0"), &[]);
    case(
        "gate on something unmeasured",
        PIPELINE.replace("on: held-out-loss", "on: gsm8k"),
        &[],
    );
    case(
        "what only recipes say",
        PIPELINE.replace(
            "gate:",
            "evaluate: { suites: [held-out-loss], limit: 5, prompting: raw, max_new_tokens: 9 }\ngate:",
        ),
        &[],
    );
    case("shard size", PIPELINE.replace("5GB", "5 apples"), &[]);
    case("unknown gguf type", PIPELINE.replace("q8_0", "q9_0"), &[]);
    case("missing recipe", PIPELINE.replace("code.yaml", "coda.yaml"), &[]);
    case("one recipe twice", PIPELINE.replace("code.yaml", "math.yaml"), &[]);
    case(
        "output in a recipe's way",
        PIPELINE.replace("outputs/both", "outputs/math"),
        &[],
    );
    case(
        "a pipeline of pipelines",
        PIPELINE.replace("../recipes/code.yaml", "bad.yaml"),
        &[],
    );
    case(
        "bases that differ",
        PIPELINE.to_owned(),
        &["code.base=Qwen/Qwen2.5-0.5B"],
    );
    case("full training", PIPELINE.to_owned(), &["code.train.method=full"]);
    case(
        "bad overrides",
        PIPELINE.to_owned(),
        &["merge.trim=2", "train.epochs=-1", "lora.rnk=8", "math.base=nowhere"],
    );
    snapshot!(report);
}

#[test]
fn overrides() {
    let folder = project();
    let mut report = String::new();
    for text in [
        "train.epochs=0",
        "train.lr=1",
        "epochs=3",
        "train.epochs",
        "=3",
        "train..x=1",
        "name.x=1",
        "data.7.samples=1",
        "lora={rank: 0}",
        "lora={rank: 1",
        "base=./nowhere",
        "output=",
    ] {
        writeln!(report, "{}\n", messages(&folder, "recipes/bad.yaml", GOOD, &[text])).unwrap();
    }
    snapshot!(report);
    assert_eq!(
        messages(
            &folder,
            "recipes/bad.yaml",
            GOOD,
            &[
                "train.epochs=0.5",
                "evaluate.suites=[]",
                "held_out=0",
                "evaluate.every=0"
            ]
        ),
        "fine"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes, and any damage to a good recipe, end in a plan or in messages.
    #[test]
    fn nothing_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        damage in proptest::collection::vec((0..GOOD.len(), prop_oneof![Just(b"{".to_vec()), Just(b"- ".to_vec()), Just(b"&a ".to_vec()), Just(b"*a".to_vec()), Just(b": ".to_vec()), Just(b"\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..4)]), 0..6),
    ) {
        static FOLDER: LazyLock<TempDir> = LazyLock::new(project);
        let file = FOLDER.path().join("recipes/bad.yaml");
        let mut damaged = GOOD.as_bytes().to_vec();
        for (place, insert) in damage {
            let place = place.min(damaged.len());
            damaged.splice(place..place, insert);
        }
        for content in [bytes, damaged] {
            fs::write(&file, &content).unwrap();
            if let Err(diagnostics) = load(&file, &[]) {
                prop_assert!(!diagnostics.problems.is_empty());
                prop_assert!(!diagnostics.to_string().is_empty());
            }
        }
    }
}
