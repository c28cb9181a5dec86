//! `eval`, `compare` and `report`, as a user types them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::{Root, expect, stderr, stdout};
use crate::words::cached;

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lists(rows: &[&[&str]]) -> ListArray {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for value in *row {
            builder.values().append_value(value);
        }
        builder.append(true);
    }
    builder.finish()
}

fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Two rows of every benchmark, written by us, as parquet in the hub's layout and in the hub's cache.
fn fill_cache(root: &Root) {
    let revision = "0123456789012345678901234567890123456789";
    let place = |id: &str, file: &str| cached(root, id, revision, file);
    parquet(
        &place("cais/mmlu", "all/test-00000-of-00001.parquet"),
        vec![
            ("question", texts(&["What is 2 plus 2?", "Which is a fruit?"])),
            ("subject", texts(&["elementary_mathematics", "nutrition"])),
            (
                "choices",
                Arc::new(lists(&[&["3", "4", "5", "6"], &["apple", "stone", "chair", "shoe"]])),
            ),
            ("answer", Arc::new(Int64Array::from(vec![1, 0]))),
        ],
    );
    let choices = [
        ("text", lists(&[&["gravity", "wind"], &["ice", "iron", "glass"]])),
        ("label", lists(&[&["A", "B"], &["1", "2", "3"]])),
    ];
    let fields = choices.map(|(name, list)| {
        let kind = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        (Arc::new(Field::new(name, kind, true)), Arc::new(list) as ArrayRef)
    });
    parquet(
        &place("allenai/ai2_arc", "ARC-Challenge/test-00000-of-00001.parquet"),
        vec![
            ("id", texts(&["Ours_1", "Ours_2"])),
            ("question", texts(&["What pulls a stone down?", "What melts first?"])),
            ("choices", Arc::new(StructArray::from(fields.to_vec()))),
            ("answerKey", texts(&["A", "1"])),
        ],
    );
    parquet(
        &place("Rowan/hellaswag", "data/validation-00000-of-00001.parquet"),
        vec![
            ("ind", Arc::new(Int64Array::from(vec![1, 2]))),
            ("activity_label", texts(&["Making tea", "Sweeping"])),
            ("ctx_a", texts(&["A woman fills a kettle.", "A man takes a broom."])),
            ("ctx_b", texts(&["she", "he"])),
            ("ctx", texts(&["", ""])),
            (
                "endings",
                Arc::new(lists(
                    &[&["heats it.", "eats it.", "sings to it.", "paints it."][..]; 2],
                )),
            ),
            ("label", texts(&["0", "3"])),
        ],
    );
    parquet(
        &place(
            "openai/openai_humaneval",
            "openai_humaneval/test-00000-of-00001.parquet",
        ),
        vec![
            ("task_id", texts(&["Ours/0", "Ours/1"])),
            (
                "prompt",
                texts(&["def one():\n    \"\"\"1\"\"\"\n", "def two():\n    \"\"\"2\"\"\"\n"]),
            ),
            ("canonical_solution", texts(&["    return 1\n", "    return 2\n"])),
            (
                "test",
                texts(&[
                    "def check(candidate):\n    assert candidate() == 1\n",
                    "def check(candidate):\n    assert candidate() == 2\n",
                ]),
            ),
            ("entry_point", texts(&["one", "two"])),
        ],
    );
    parquet(
        &place("google-research-datasets/mbpp", "full/test-00000-of-00001.parquet"),
        vec![
            ("task_id", Arc::new(Int64Array::from(vec![11, 12]))),
            (
                "text",
                texts(&["Write a function that doubles.", "Write a function that halves."]),
            ),
            (
                "code",
                texts(&["def double(x): return 2 * x", "def halve(x): return x / 2"]),
            ),
            (
                "test_list",
                Arc::new(lists(&[&["assert double(2) == 4"], &["assert halve(2) == 1"]])),
            ),
            ("test_setup_code", texts(&["", ""])),
            ("challenge_test_list", Arc::new(lists(&[&[], &[]]))),
        ],
    );
}

#[test]
fn benchmarks_are_read_as_they_lie_on_the_hub() {
    let root = Root::new();
    fill_cache(&root);
    let suites = "mmlu,arc,hellaswag,humaneval,mbpp";
    for form in [&[][..], &["--raw"]] {
        let arguments = [
            &[
                "eval",
                "data/nano/base",
                "--suite",
                suites,
                "--max-tokens",
                "8",
                "--json",
                "--out",
                "found",
            ],
            form,
        ];
        let output = root.ok(&arguments.concat());
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (outcome, suite) in found["outcomes"].as_array().unwrap().iter().zip(suites.split(',')) {
            assert_eq!(outcome["suite"], suite);
            let note = outcome["note"].as_str().unwrap_or_default();
            // a machine without python3 has no code scores, and says so
            let measured = if note.contains("code is not run") { 0 } else { 2 };
            assert_eq!(outcome["n"], measured, "{outcome}");
            assert!(measured == 0 || outcome["interval"]["high"].is_f64());
            assert!(root.join(&format!("found/model.{suite}.base.jsonl")).is_file());
        }
        assert!(root.join("found/evaluation.json").is_file() && !root.join("found/journal.jsonl").exists());
    }
}

/// Questions that the bundled base answers at some length.
fn questions(root: &Root, count: usize) {
    let row = |i: usize| {
        let prompt = format!(
            "Mia finds {i} toys on Monday and {} on Tuesday. How many toys does Mia find?",
            i + 3
        );
        json!({ "prompt": prompt, "answer": (2 * i + 3).to_string(), "scorer": "number" })
    };
    let lines: String = (0..count).map(|i| format!("{}\n", row(i))).collect();
    root.write("questions.jsonl", &lines);
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interrupted_evaluation_ends_as_one_that_was_not() {
    let root = Root::new();
    questions(&root, 1500);
    let arguments = |out: &'static str| {
        [
            "eval",
            "data/nano/base",
            "--suite",
            "custom",
            "--questions",
            "custom=questions.jsonl",
            "--max-tokens",
            "64",
            "--out",
            out,
        ]
    };
    for (name, message) in [
        ("-INT", "stopped; run the same command again to resume from broken"),
        ("-TERM", "stopped;"),
    ] {
        let mut child = root.train(&arguments("broken")).stderr(Stdio::piped()).spawn().unwrap();
        let journal = root.join("broken/journal.jsonl");
        let before = std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        wait_for("an answer", || {
            let lines = std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
            lines > before + 20 || child.try_wait().unwrap().is_some()
        });
        signal(&child, name);
        let output = expect(child.wait_with_output().unwrap(), 1);
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
        assert!(!root.join("broken/evaluation.json").exists());
    }
    root.ok(&arguments("broken"));
    root.ok(&arguments("straight"));
    for file in ["evaluation.json", "model.custom.base.jsonl"] {
        let read = |folder: &str| std::fs::read(root.join(&format!("{folder}/{file}"))).unwrap();
        assert!(read("broken") == read("straight"), "{file} differs");
    }
}

#[test]
fn models_are_compared_on_the_same_items() {
    let root = Root::new();
    questions(&root, 30);
    let tiny = Root::base().display().to_string();
    let suite = [
        "--suite",
        "custom",
        "--questions",
        "custom=questions.jsonl",
        "--max-tokens",
        "48",
    ];
    root.ok(&[&["eval", "data/nano/base", "--out", "kept"], &suite[..]].concat());
    let output = root.ok(&[&["compare", "kept", &tiny], &suite[..]].concat());
    let told = stdout(&output);
    assert!(
        told.starts_with("model · custom: 30 items, share of right answers"),
        "{told}"
    );
    assert!(
        told.contains("\n  base  ") && told.contains("\n  tiny  ") && told.contains("lost "),
        "{told}"
    );
    let output = root.ok(&["compare", "kept", "kept/evaluation.json", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let versus = &found[0]["rows"][1]["versus_first"];
    assert_eq!((&versus["difference"], &versus["p_value"]), (&json!(0.0), &json!(1.0)));

    root.ok(&[
        &["eval", "data/nano/base", "--limit", "20", "--out", "fewer"],
        &suite[..],
    ]
    .concat());
    let alone = ["compare", "kept"];
    for (arguments, words) in [
        (&[&alone[..], &["fewer"]].concat()[..], "30 items against 20"),
        (&[&alone[..], &["nowhere"]].concat(), "nowhere: no such file or folder"),
        (
            &[&alone[..], &["data/nano/base"]].concat(),
            "has to be evaluated first; pass --suite",
        ),
        (&[&alone[..], &["recipes"]].concat(), "not a run folder"),
        (&[&alone[..], &["kept@other"]].concat(), "choose one of kept@base"),
        (&alone, "2 values required"),
    ] {
        let output = expect(root.train(arguments).output().unwrap(), 2);
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn wrong_evaluations_are_refused_before_a_model_is_loaded() {
    let root = Root::new();
    questions(&root, 2);
    root.write(
        "bad.jsonl",
        "{\"prompt\": \"a\", \"answer\": \"b\", \"scorer\": \"vibes\"}\n",
    );
    for (arguments, words) in [
        (
            &["--suite", "glue"][..],
            "unknown suite `glue`; the suites are held-out-loss",
        ),
        (&["--suite", "routing"], "--data outputs/runs/NAME/data"),
        (&["--suite", "custom"], "--questions custom=FILE.jsonl"),
        (
            &["--suite", "custom", "--questions", "custom=nowhere.jsonl"],
            "no such file",
        ),
        (
            &["--suite", "custom", "--questions", "questions.jsonl"],
            "takes SUITE=FILE",
        ),
        (
            &["--suite", "code-tests", "--questions", "custom=questions.jsonl"],
            "is not among the suites of --suite",
        ),
        (&["--suite", "code-tests", "--samples", "3"], "all samples are the same"),
        (
            &[
                "--suite",
                "custom",
                "--questions",
                "custom=questions.jsonl",
                "--temperature",
                "0.5",
            ],
            "apply only to code-tests",
        ),
        (
            &["--suite", "code-tests", "--shots", "3"],
            "--shots applies only to gsm8k",
        ),
    ] {
        let output = expect(
            root.train(&[&["eval", "nowhere"], arguments].concat())
                .output()
                .unwrap(),
            2,
        );
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let bad = [
        "eval",
        "nowhere",
        "--suite",
        "custom",
        "--questions",
        "custom=bad.jsonl",
    ];
    let output = expect(root.train(&bad).output().unwrap(), 1);
    assert!(
        stderr(&output).contains("bad.jsonl:1: unknown scorer `vibes`"),
        "{}",
        stderr(&output)
    );
}

/// The page is there while the run goes, says so, and says no more when it ended or was stopped.
#[test]
fn the_page_lives_with_its_run() {
    let root = Root::new();
    let run = |arguments: &[&str]| {
        let command = [
            &[
                "run",
                "recipes/nano/general.yaml",
                "--offline",
                "--set",
                "train.max_steps=12",
            ],
            arguments,
        ]
        .concat();
        root.train(&command)
    };
    let page = root.join("outputs/runs/nano-general/report.html");
    let mut child = run(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut live = String::new();
    wait_for("a living page", || {
        live = std::fs::read_to_string(&page).unwrap_or_default();
        live.contains("http-equiv=\"refresh\"") || child.try_wait().unwrap().is_some()
    });
    assert!(live.contains("Still running: "), "the run ended without a living page");
    signal(&child, "-TERM");
    child.wait().unwrap();
    let stopped = std::fs::read_to_string(&page).unwrap();
    assert!(stopped.contains("Ended early: stopped") && !stopped.contains("http-equiv=\"refresh\""));
    assert!(expect(run(&[]).output().unwrap(), 0).status.success());
    let done = std::fs::read_to_string(&page).unwrap();
    for words in [
        "What the merge kept",
        "Learning rate",
        "choices",
        "license",
        "peak memory",
        "evaluate: { suites: [choices",
    ] {
        let words = if words.starts_with("What") {
            "id=\"results\""
        } else {
            words
        };
        assert!(done.contains(words), "{words}");
    }
    assert!(!done.contains("Ended early") && !done.contains("http-equiv=\"refresh\""));
    std::fs::remove_file(&page).unwrap();
    let output = root.ok(&["report", "outputs/runs/nano-general"]);
    assert!(stdout(&output).trim().ends_with("nano-general/report.html") && page.is_file());
    let output = expect(root.train(&["report", "recipes"]).output().unwrap(), 2);
    assert!(stderr(&output).contains("not a run folder"), "{}", stderr(&output));
    // what the recipe measured can be held against each other
    let versus = root.ok(&["compare", "outputs/runs/nano-general@base", "outputs/runs/nano-general"]);
    assert!(
        stdout(&versus).contains("general · choices: 200 items"),
        "{}",
        stdout(&versus)
    );
}
