//! The datasets' layouts, on small rows of our own in the hub's shape, against a model whose answers are known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value, json};
use synapse_evaluate::datasets::SourceRow;
use synapse_evaluate::journal::{Journal, JournaledModel};
use synapse_evaluate::sandbox::Sandbox;
use synapse_evaluate::suites::{PromptFormat, SuiteData, build};
use synapse_evaluate::{EvalOptions, EvaluateError, Evaluation, Suite};

use support::Scripted;

fn rows(suite: &str) -> Vec<SourceRow> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/benchmarks/{suite}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    let row = |(index, line): (usize, &str)| {
        SourceRow::new(
            format!("{suite}.jsonl:{}", index + 1),
            serde_json::from_str(line).unwrap(),
        )
    };
    text.lines().enumerate().map(row).collect()
}

fn data(suite: &str, prompt_format: PromptFormat) -> SuiteData {
    SuiteData {
        domain: "model".into(),
        files: [(suite.to_owned(), rows(suite))].into(),
        prompt_format,
        ..SuiteData::default()
    }
}

fn suite(name: &str, prompt_format: PromptFormat) -> Box<dyn Suite> {
    build(name, &data(name, prompt_format)).unwrap()
}

fn run(suite: &dyn Suite, model: &mut Scripted, options: &EvalOptions) -> Evaluation {
    let [evaluation] = suite.run(model, options, &|_, _| {}).unwrap().try_into().unwrap();
    evaluation
}

fn refused(suite: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut data = data(suite, PromptFormat::default());
    change(&mut data.files.get_mut(suite).unwrap()[0].fields);
    let built = build(suite, &data);
    let error = match built {
        Err(error) => error,
        Ok(suite) => suite
            .run(&mut Scripted::new(&[], ""), &EvalOptions::default(), &|_, _| {})
            .unwrap_err(),
    };
    error.to_string()
}

/// The whole canonical program of every task, as a chat model would answer with it.
fn solved(name: &str, broken: &[(&str, &str)]) -> Scripted {
    let rows = rows(name);
    let mut model = Scripted::new(&[], "");
    for row in rows {
        let text = |column: &str| row.fields.get(column).and_then(Value::as_str).unwrap_or_default();
        let (nonempty_text, mut code) = if name == "humaneval" {
            (
                text("entry_point"),
                format!("{}{}", text("prompt"), text("canonical_solution")),
            )
        } else {
            let nonempty_text = if text("text").is_empty() {
                text("prompt")
            } else {
                text("text")
            };
            (nonempty_text, text("code").to_owned())
        };
        for (from, to) in broken {
            code = code.replace(from, to);
        }
        let nonempty_text: &'static str = Box::leak(nonempty_text.to_owned().into_boxed_str());
        model
            .rules
            .push((nonempty_text, format!("Sure.\n```python\n{code}\n```\nThat is all.")));
    }
    model
}

#[test]
fn canonical_programs_pass_and_wrong_ones_do_not() {
    if Sandbox::detect().is_err() {
        return;
    }
    let options = EvalOptions::default();
    for name in ["humaneval", "mbpp"] {
        let suite = suite(name, PromptFormat::default());
        let right = run(suite.as_ref(), &mut solved(name, &[]), &options);
        assert_eq!(
            (right.outcome.value, right.outcome.n),
            (Some(1.0), 3),
            "{:?}",
            right.records
        );
        let broken = [
            ("total += number", "total -= number"),
            ("- area(inner)", "+ area(inner)"),
            ("key=len, ", ""),
            ("in 'aeiou'", "not in 'aeiou'"),
            ("a.y + b.y", "a.y - b.y"),
            ("math.floor", "round"),
        ];
        let wrong = run(suite.as_ref(), &mut solved(name, &broken), &options);
        assert_eq!(wrong.outcome.value, Some(0.0), "{:?}", wrong.records);
        assert!(wrong.records.iter().all(|record| record["failure"].is_string()));
    }
}

/// The original's 99.4 %: programs that parse but whose tests are never called.
#[test]
fn a_task_whose_test_never_calls_the_function_is_no_pass() {
    if Sandbox::detect().is_err() {
        return;
    }
    let mut data = data("humaneval", PromptFormat::default());
    for row in data.files.get_mut("humaneval").unwrap() {
        row.fields
            .insert("test".into(), json!("def check(candidate):\n    pass\n"));
    }
    let suite = build("humaneval", &data).unwrap();
    let found = run(suite.as_ref(), &mut solved("humaneval", &[]), &EvalOptions::default());
    assert_eq!(found.outcome.value, Some(0.0));
    assert!(
        found.records[0]["failure"]
            .as_str()
            .unwrap()
            .contains("does not call `running_total`")
    );
}

/// Only a body comes back: it continues the prompt, in a chat as in plain text, and ends where the function is left.
#[test]
fn bodies_continue_the_prompt() {
    if Sandbox::detect().is_err() {
        return;
    }
    let rules = [
        (
            "running_total",
            "    return [sum(numbers[:i + 1]) for i in range(len(numbers))]\n\nprint(1 / 0)",
        ),
        (
            "ring",
            "    return area(outer) - area(inner)\n\ndef ring(a, b):\n    return 0",
        ),
        ("longest", "    return sorted(words)[-1]\n"),
    ];
    let suite = suite("humaneval", PromptFormat::raw(0));
    let found = run(suite.as_ref(), &mut Scripted::new(&rules, ""), &EvalOptions::default());
    let right: Vec<_> = found
        .records
        .iter()
        .map(|record| record["correct"].as_bool().unwrap())
        .collect();
    assert_eq!(right, [true, true, false], "{:?}", found.records);
}

#[test]
fn several_answers_are_scored_by_pass_at_k() {
    if Sandbox::detect().is_err() {
        return;
    }
    let good = "def longest(words):\n    return max(words, key=len, default=None)";
    let bad = "def longest(words):\n    return words[0]";
    let answers: Vec<&str> = (0..5).map(|seed| if seed == 3 { good } else { bad }).collect();
    let joined = answers.join("<seed>");
    let suite = suite("humaneval", PromptFormat::default());
    let options = EvalOptions {
        samples: 5,
        temperature: 0.8,
        ..EvalOptions::default()
    };
    let found = run(
        suite.as_ref(),
        &mut Scripted::new(&[("longest", &joined)], ""),
        &options,
    );
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
    assert!((found.outcome.value.unwrap() - 1.0 / 15.0).abs() < 1e-12);
    assert!(near(&found.outcome.details["pass_at"]["1"]["value"], 1.0 / 15.0));
    assert!(near(&found.outcome.details["pass_at"]["5"]["value"], 1.0 / 3.0));
    assert_eq!(found.records[2]["samples"].as_array().unwrap().len(), 5);
    assert!(
        found
            .outcome
            .note
            .unwrap()
            .starts_with("pass@1 of 5 answers a task at temperature 0.8")
    );
}

#[test]
fn multiple_choice_in_every_layout() {
    let options = EvalOptions::default();
    for (name, liked, right) in [
        ("mmlu", "C", [true, false, true].as_slice()),
        ("arc", "gravity", &[true, true]),
        ("hellaswag", "stove", &[true, false]),
    ] {
        for prompt_format in [PromptFormat::chat(None), PromptFormat::raw(0)] {
            let suite = suite(name, prompt_format.clone());
            let found = run(suite.as_ref(), &mut Scripted::new(&[], liked), &options);
            let judged: Vec<_> = found
                .records
                .iter()
                .map(|record| record["correct"].as_bool().unwrap())
                .collect();
            assert_eq!(judged, right, "{name} {prompt_format:?}: {:?}", found.records);
            let groups = found.outcome.details.get("per_group");
            assert_eq!(groups.is_some(), name == "mmlu");
        }
    }
    let found = run(
        suite("hellaswag", PromptFormat::raw(0)).as_ref(),
        &mut Scripted::new(&[], ""),
        &options,
    );
    let questions: Vec<_> = found
        .records
        .iter()
        .map(|record| record["question"].as_str().unwrap())
        .collect();
    assert_eq!(
        questions,
        [
            "Making tea: A woman fills a kettle. She",
            "Home: How to sweep a floor. Take a broom."
        ]
    );
}

#[test]
fn custom_rows_bring_their_scorer() {
    let rules = [
        ("Say hello.", "Hello."),
        ("6 times 7", "6 * 7 = 42, so the answer is 42."),
        ("colour", "I like blue."),
        ("2+2", "{\"sure\":true,\"route\":\"math\"}"),
        ("Repeat", "a b."),
    ];
    let suite = suite("custom", PromptFormat::chat(Some("Be brief.")));
    let found = run(suite.as_ref(), &mut Scripted::new(&rules, ""), &EvalOptions::default());
    let judged: Vec<_> = found
        .records
        .iter()
        .map(|record| record["correct"].as_bool().unwrap())
        .collect();
    assert_eq!(judged, [true, true, true, true, false], "{:?}", found.records);
    assert_eq!(found.records[0]["id"], "hello");
}

#[test]
fn rows_of_another_layout_are_refused_by_place_and_column() {
    for (suite, column, value, nonempty_text) in [
        (
            "humaneval",
            "entry_point",
            json!("other"),
            "humaneval.jsonl:1: the prompt does not begin the function `other`",
        ),
        (
            "humaneval",
            "test",
            json!("assert True"),
            "`test` does not define `check`",
        ),
        (
            "mbpp",
            "test_list",
            json!(["assert other(1)"]),
            "calls no function that `code` defines",
        ),
        ("mmlu", "choices", json!("A"), "`choices` is not a list of texts"),
        ("mmlu", "answer", json!(7), "answer 7 is not one of the 4 choices"),
        (
            "arc",
            "answerKey",
            json!("E"),
            "the answer `E` is not one of the labels A, B, C, D",
        ),
        (
            "hellaswag",
            "label",
            json!(""),
            "this is the test split, whose answers are secret",
        ),
        (
            "custom",
            "scorer",
            json!("vibes"),
            "unknown scorer `vibes`; the scorers are exact, ignore-case, contains, number, json",
        ),
        ("custom", "temperature", json!(1), "unknown field `temperature`"),
    ] {
        let told = refused(suite, |fields| {
            fields.insert(column.into(), value);
        });
        assert!(told.contains(nonempty_text), "{suite}: {told}");
    }
    let told = refused("mmlu", |fields| {
        fields.shift_remove("subject");
    });
    assert_eq!(
        told,
        "mmlu: mmlu.jsonl:1: no column `subject`; the columns are question, choices, answer"
    );
}

/// What was answered before a stop is not asked again, and the result is that of an evaluation without a stop.
#[test]
fn an_interrupted_evaluation_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let rules = [
        ("Say hello.", "Hello."),
        ("6 times 7", "41"),
        ("2+2", "no"),
        ("colour", "red"),
    ];
    let suite = suite("custom", PromptFormat::default());
    let options = EvalOptions::default();
    let straight = run(suite.as_ref(), &mut Scripted::new(&rules, ""), &options);

    let stop = AtomicBool::new(false);
    let mut model = Scripted::new(&rules, "");
    let journal = Journal::open(&path, "one").unwrap();
    let stopping = |done: usize, _: usize| {
        if done == 2 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let error = suite
        .run(
            &mut JournaledModel::new(&mut model, Some(journal), &stop),
            &options,
            &stopping,
        )
        .unwrap_err();
    assert!(
        matches!(error, EvaluateError::Stopped) && model.asked == 2,
        "{}",
        model.asked
    );
    stop.store(false, std::sync::atomic::Ordering::Relaxed);

    // A line that was cut short is dropped, and that item is asked again.
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let mut model = Scripted::new(&rules, "");
    let journal = Journal::open(&path, "one").unwrap();
    assert_eq!(journal.len(), 1);
    let resumed = suite
        .run(
            &mut JournaledModel::new(&mut model, Some(journal), &stop),
            &options,
            &|_, _| {},
        )
        .unwrap();
    assert_eq!((resumed, model.asked), (vec![straight], 4));

    // All of it is known now; another model's journal is not taken for this one's.
    let mut model = Scripted::new(&rules, "");
    let journal = Journal::open(&path, "one").unwrap();
    suite
        .run(
            &mut JournaledModel::new(&mut model, Some(journal), &stop),
            &options,
            &|_, _| {},
        )
        .unwrap();
    assert_eq!(model.asked, 0);
    assert!(Journal::open(&path, "two").unwrap().is_empty());
}
