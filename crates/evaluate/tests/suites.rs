//! Every suite against a model whose answers are known, so that each score is known beforehand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use synapse_evaluate::outcome::Unit;
use synapse_evaluate::rows::{
    CallTest, CorrectChoice, HeldOutConversation, HeldOutDocument, MultipleChoiceRow, QuestionAnswer,
};
use synapse_evaluate::sandbox::Sandbox;
use synapse_evaluate::suites::{
    ChoiceStyle, CodeSuite, CodeTask, FILE_SUITES, Gsm8kSuite, MultipleChoiceSuite, PromptFormat, SUITE_IDS, SuiteData,
    build, evaluate,
};
use synapse_evaluate::{EvalOptions, EvaluateError, Evaluation, Suite};
use synapse_tokenizer::Message;

use support::Scripted;

fn row(question: &str, answer: &str) -> HeldOutConversation {
    HeldOutConversation {
        source: "test".into(),
        messages: vec![Message::new("user", question), Message::new("assistant", answer)],
        ..HeldOutConversation::default()
    }
}

fn run(suite: &dyn Suite, model: &mut Scripted) -> Vec<Evaluation> {
    suite.run(model, &EvalOptions::default(), &|_, _| {}).unwrap()
}

fn run_built(id: &str, data: &SuiteData, model: &mut Scripted) -> Vec<Evaluation> {
    run(build(id, data).unwrap().as_ref(), model)
}

#[test]
fn held_out_loss_is_per_trained_token() {
    let document = |first: u32, trained: usize| HeldOutDocument {
        input_ids: vec![first; trained + 1],
        labels: [vec![-100], vec![1; trained]].concat(),
    };
    let documents = vec![document(2, 30), document(4, 10), document(9, 0)];
    let data = SuiteData {
        domain: "math".into(),
        documents,
        ..SuiteData::default()
    };
    let [evaluation] = run_built("held-out-loss", &data, &mut Scripted::new(&[], ""))
        .try_into()
        .unwrap();
    let outcome = evaluation.outcome;
    assert_eq!(
        (outcome.value, outcome.n, outcome.unit),
        (Some(2.5), 2, Unit::NatsPerToken)
    );
    assert!(outcome.interval.unwrap().contains(2.5) && !outcome.higher_is_better);
    assert_eq!(evaluation.records[1]["nats"], json!(40.0));
}

#[test]
fn exact_match_counts_numbers_not_words() {
    let rows = vec![
        row("eggs?", "She has 2 * 9.\n#### 18"),
        row("cost?", "It costs $1,000."),
        row("why?", "Because I say so."),
        row("hens?", "#### 7"),
        HeldOutConversation {
            source: "text".into(),
            ..HeldOutConversation::default()
        },
    ];
    let data = SuiteData {
        domain: "math".into(),
        rows,
        ..SuiteData::default()
    };
    let rules = [
        ("eggs?", "#### $18.00\n\nQuestion: more?\n#### 5"),
        ("cost?", "the answer is 1000"),
        ("hens?", "#### 70"),
    ];
    let [evaluation] = run_built("exact-match", &data, &mut Scripted::new(&rules, ""))
        .try_into()
        .unwrap();
    assert_eq!((evaluation.outcome.value, evaluation.outcome.n), (Some(2.0 / 3.0), 3));
    assert_eq!(
        evaluation.outcome.note.as_deref(),
        Some("2 rows without a numeric answer left out")
    );
    let judged: Vec<_> = evaluation
        .records
        .iter()
        .map(|record| (&record["id"], &record["correct"]))
        .collect();
    assert_eq!(
        judged,
        [
            (&json!("math-0"), &json!(true)),
            (&json!("math-1"), &json!(true)),
            (&json!("math-3"), &json!(false))
        ]
    );
}

#[test]
fn gsm8k_is_asked_by_chat_or_after_examples() {
    let pair = |question: &str, answer: &str| QuestionAnswer {
        question: question.into(),
        answer: answer.into(),
    };
    let questions = vec![
        pair("How many eggs?", "3 * 6 = <<3*6=18>>18\n#### 18"),
        pair("How many hens?", "#### 4"),
    ];
    let rules = [
        ("hens?", "So 4.\n#### 4"),
        ("eggs?", "It is 18.\n\nQuestion: And now?\nAnswer: 5"),
    ];
    let mut suite = Gsm8kSuite {
        domain: "math".into(),
        questions,
        prompt_format: PromptFormat::chat(None),
    };
    let [chat] = run(&suite, &mut Scripted::new(&rules, "")).try_into().unwrap();
    assert_eq!(chat.outcome.value, Some(1.0));
    for shots in [0, 8] {
        suite.prompt_format = PromptFormat::raw(shots);
        let [raw] = run(&suite, &mut Scripted::new(&rules, "")).try_into().unwrap();
        assert_eq!(raw.outcome.value, Some(1.0));
        assert_eq!(raw.records[0]["answer"], json!("It is 18.\n"));
    }
    // Every example answers what it says it does, and each is there when the chat asks.
    suite.prompt_format = PromptFormat {
        shots: 8,
        ..PromptFormat::chat(Some("Think."))
    };
    let [examples] = run(&suite, &mut Scripted::new(&[("#### 3.75", "#### 4")], ""))
        .try_into()
        .unwrap();
    assert_eq!(examples.outcome.value, Some(0.5));
}

#[test]
fn code_is_executed_or_the_cell_says_why_not() {
    let tasks: Vec<CodeTask> = CodeTask::bundled().unwrap().into_iter().take(4).collect();
    let programs = tasks.iter().cloned().map(CodeTask::program).collect();
    let mut model = Scripted::new(&[], "");
    for (index, task) in tasks.iter().enumerate() {
        let name: &'static str = Box::leak(format!("`{}(", task.entry_point).into_boxed_str());
        let code = if index == 0 { &task.wrong } else { &task.canonical };
        model.rules.push((name, format!("Here:\n```python\n{code}```\nDone.")));
    }
    let mut suite = CodeSuite {
        id: "code-tests",
        domain: "code".into(),
        tasks: programs,
        prompt_format: PromptFormat::chat(Some("You write code.")),
        sandbox: Sandbox::detect(),
    };
    if suite.sandbox.is_ok() {
        let [evaluation] = run(&suite, &mut model).try_into().unwrap();
        assert_eq!(
            (evaluation.outcome.value, evaluation.outcome.n),
            (Some(0.75), 4),
            "{:?}",
            evaluation.records
        );
        assert!(evaluation.outcome.note.unwrap().starts_with("sandbox: "));
        assert!(
            evaluation.records[0]["failure"]
                .as_str()
                .unwrap()
                .starts_with("assert ")
        );
    }
    suite.sandbox = Err("no python3 on this machine, so code is not run".into());
    let [evaluation] = run(&suite, &mut model).try_into().unwrap();
    assert_eq!((evaluation.outcome.value, evaluation.outcome.n), (None, 0));
    assert!(evaluation.outcome.note.unwrap().contains("no python3"));
}

#[test]
fn expressions_are_run_in_process() {
    let tested = |question: &str, answer: &str| HeldOutConversation {
        tests: vec![
            CallTest {
                args: vec![json!([3, 1])],
                expected: json!(3),
            },
            CallTest {
                args: vec![json!([-5, -2])],
                expected: json!(-2),
            },
        ],
        ..row(question, answer)
    };
    let answer = "def f(x):\n    return max(x)";
    let rows = vec![
        tested("largest?", answer),
        tested("biggest?", answer),
        row("untested?", answer),
    ];
    let data = SuiteData {
        domain: "code".into(),
        rows,
        ..SuiteData::default()
    };
    let rules = [
        ("largest?", "```python\ndef f(x):\n    return sorted(x)[-1]\n```"),
        ("biggest?", "def f(x):\n    return x[0]"),
    ];
    let [evaluation] = run_built("expression", &data, &mut Scripted::new(&rules, ""))
        .try_into()
        .unwrap();
    assert_eq!((evaluation.outcome.value, evaluation.outcome.n), (Some(0.5), 2));
    assert_eq!(
        evaluation.records[1]["failure"],
        json!("f([-5,-2]) returned -5, expected -2")
    );
}

#[test]
fn routing_is_scored_and_read() {
    let rows = vec![
        row("2+2", "{\"route\":\"math\"}"),
        row("sort it", "{\"route\":\"code\"}"),
        row("hi", "no JSON"),
    ];
    let labels = vec!["math".to_owned(), "code".to_owned(), "none".to_owned()];
    let data = SuiteData {
        domain: "coordinator".into(),
        rows,
        labels,
        ..SuiteData::default()
    };
    let rules = [
        ("2+2", "{\"route\":\"math\"}"),
        ("sort it", "{\"route\": \"code\"} of course"),
    ];
    let [scored, exact] = run_built("routing", &data, &mut Scripted::new(&rules, "math"))
        .try_into()
        .unwrap();
    assert_eq!(
        (scored.outcome.suite.as_str(), scored.outcome.value),
        ("routing", Some(0.5))
    );
    assert_eq!(
        scored.outcome.details["confusion"],
        json!([[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    );
    assert_eq!(
        scored.outcome.details["per_class"]["none"],
        json!({"n": 0, "accuracy": null})
    );
    assert_eq!(
        (exact.outcome.suite.as_str(), exact.outcome.value),
        ("routing-exact", Some(0.5))
    );
    assert_eq!(exact.outcome.details["json_valid"], json!(0.5));
    let unknown = SuiteData {
        labels: vec!["code".into()],
        ..data
    };
    let failure =
        build("routing", &unknown)
            .unwrap()
            .run(&mut Scripted::new(&[], ""), &EvalOptions::default(), &|_, _| {});
    assert!(
        failure
            .unwrap_err()
            .to_string()
            .contains("label `math` is not among code")
    );
}

#[test]
fn choices_are_scored_whole_and_never_cut() {
    let rows = vec![
        MultipleChoiceRow {
            id: None,
            group: None,
            question: "Capital?".into(),
            choices: vec!["Rome".into(), "Paris".into()],
            answer: CorrectChoice::Index(1),
        },
        MultipleChoiceRow {
            id: Some("sky".into()),
            group: Some("colours".into()),
            question: "Sky?".into(),
            choices: vec!["blue".into(), "Paris".into()],
            answer: CorrectChoice::Letter("A".into()),
        },
    ];
    let mut suite = MultipleChoiceSuite {
        id: "choices",
        domain: "general".into(),
        rows,
        style: ChoiceStyle::Texts,
        prompt_format: PromptFormat::chat(None),
    };
    let [texts] = run(&suite, &mut Scripted::new(&[], "Paris")).try_into().unwrap();
    assert_eq!(
        (texts.outcome.value, texts.outcome.details["accuracy_per_byte"].as_f64()),
        (Some(0.5), Some(0.5))
    );
    suite.style = ChoiceStyle::Letters;
    let [letters] = run(&suite, &mut Scripted::new(&[], "B")).try_into().unwrap();
    assert_eq!(letters.outcome.value, Some(0.5));
    let mut short = Scripted::new(&[], "B");
    short.positions = Some(20);
    let error = suite.run(&mut short, &EvalOptions::default(), &|_, _| {}).unwrap_err();
    assert!(matches!(error, EvaluateError::TooLong { limit: 20, .. }), "{error}");
}

#[test]
fn every_suite_id_builds_and_an_empty_domain_is_no_error() {
    let data = SuiteData {
        domain: "empty".into(),
        ..SuiteData::default()
    };
    let suites: Vec<_> = SUITE_IDS.iter().map(|id| build(id, &data).unwrap()).collect();
    for (suite, id) in suites.iter().zip(SUITE_IDS) {
        assert_eq!((suite.id(), suite.domain()), (id, "empty"));
    }
    let without_code: Vec<_> = suites.into_iter().filter(|suite| suite.id() != "code-tests").collect();
    let found = evaluate(
        &mut Scripted::new(&[], ""),
        &without_code,
        &EvalOptions::default(),
        &|_, _, _| {},
    )
    .unwrap();
    assert_eq!(found.len(), SUITE_IDS.len());
    assert!(
        found
            .iter()
            .all(|evaluation| evaluation.outcome.value.is_none() && evaluation.outcome.note.is_some())
    );
    assert!(FILE_SUITES.iter().all(|id| SUITE_IDS.contains(id)));
    let error = build("mmlu-pro", &data).err().unwrap().to_string();
    assert!(
        error.starts_with("unknown suite `mmlu-pro`; the suites are held-out-loss, "),
        "{error}"
    );
}

#[test]
fn limits_batches_logs_and_determinism() {
    let rows: Vec<HeldOutConversation> = (0..150)
        .map(|index| row(&format!("item {index}?"), &format!("#### {index}")))
        .collect();
    let data = SuiteData {
        domain: "math".into(),
        rows,
        ..SuiteData::default()
    };
    let suite = build("exact-match", &data).unwrap();
    let mut model = Scripted::new(&[("item 3?", "#### 3")], "");
    let options = EvalOptions {
        limit: Some(100),
        max_new_tokens: 2,
        ..EvalOptions::default()
    };
    let told = std::cell::RefCell::new(Vec::new());
    let first = suite
        .run(&mut model, &options, &|done, of| {
            told.borrow_mut().push((done, of));
        })
        .unwrap();
    assert_eq!(*told.borrow(), (1..=100).map(|done| (done, 100)).collect::<Vec<_>>());
    // all prompts are one batch: the model decides how many decode together
    assert_eq!((first[0].outcome.n, model.largest_batch), (100, 100));
    assert_eq!(
        first[0].outcome.note.as_deref(),
        Some("1 of 100 answers cut off at 2 tokens")
    );
    assert_eq!(suite.run(&mut model, &options, &|_, _| {}).unwrap(), first);

    let folder = tempfile::tempdir().unwrap();
    let path = first[0].write_log(&folder.path().join("logs")).unwrap();
    assert!(path.ends_with("logs/math.exact-match.scripted.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    let keys: Vec<String> = serde_json::from_str::<serde_json::Map<_, _>>(text.lines().nth(3).unwrap())
        .unwrap()
        .into_iter()
        .map(|(k, _)| k)
        .collect();
    assert_eq!(text.lines().count(), 100);
    assert_eq!(
        keys,
        [
            "id",
            "question",
            "reference",
            "answer",
            "extracted",
            "rule",
            "correct",
            "tokens",
            "finished"
        ]
    );
}
