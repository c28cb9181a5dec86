//! Preparation as the pipeline sees it: files in, files out, nothing lost without a count.

use std::collections::HashSet;
use std::path::Path;

use serde_json::json;
use synapse_data::{DataError, Manifest, read_held_out, routing};
use synapse_recipe::{Location, LossOn, Overlong, RequestsPlan, Samples, TrainPlan};

use crate::support::{Prepared, chat, data_plan, run, source, sums, train_plan};

#[test]
fn the_split_is_stratified_disjoint_and_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let sources = vec![
        source(&sums(folder.path(), "large", 300), Samples::All),
        source(&sums(folder.path(), "small", 100), Samples::Count(60)),
    ];
    let plan = data_plan(sources, 36);
    let first = run(&plan, &train_plan()).unwrap();
    let held: Vec<u64> = first
        .manifest
        .sources
        .iter()
        .map(|source| source.held_out_rows)
        .collect();
    assert_eq!(held, [30, 6]);
    assert_eq!(first.manifest.sources[0].rows_taken, 270);
    assert_eq!(first.manifest.sources[1].rows_taken, 60);
    assert_eq!(first.manifest.train.documents, 330);
    assert!(first.manifest.train.rows < 100, "packed");
    assert!(first.warnings.is_empty());

    let train: HashSet<String> = first.texts("train.arrow").into_iter().collect();
    let held_out = first.texts("held_out.arrow");
    assert_eq!(train.len(), 330);
    assert!(
        held_out
            .iter()
            .all(|text| !train.contains(text) && text.contains("system\nBe exact.<|im_end|>"))
    );
    // A sample, not the first rows.
    assert!(train.iter().any(|text| text.contains("small: 9")));

    let texts = read_held_out(&first.folder.path().join("held_out.jsonl")).unwrap();
    for (row, text) in texts.iter().zip(&held_out) {
        assert_eq!(&chat().render(&row.messages, false).unwrap(), text);
    }
    assert_eq!(
        Manifest::read(&first.folder.path().join("manifest.json")).unwrap(),
        first.manifest
    );

    let second = run(&plan, &train_plan()).unwrap();
    for file in ["train.arrow", "held_out.arrow", "held_out.jsonl", "manifest.json"] {
        let bytes = |run: &Prepared| std::fs::read(run.folder.path().join(file)).unwrap();
        assert!(bytes(&first) == bytes(&second), "{file}");
    }
}

#[test]
fn training_rows_that_ask_a_held_out_question_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.jsonl");
    let line = |n: usize, answer: &str| json!({"question": format!("q  {n}"), "answer": answer}).to_string();
    let lines: Vec<String> = (0..40)
        .flat_map(|n| [line(n, "a"), line(n, "b"), line(n, "A")])
        .collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let prepared = run(&data_plan(vec![source(&path, Samples::All)], 10), &train_plan()).unwrap();
    let dropped = &prepared.manifest.sources[0].dropped;
    assert_eq!(dropped["duplicate"], 40);
    assert!(dropped["equals_held_out"] >= 5);
    let question = |text: &String| {
        text.split("user\n")
            .nth(1)
            .unwrap()
            .split("<|im_end|>")
            .next()
            .unwrap()
            .to_owned()
    };
    let held_out: HashSet<String> = prepared.texts("held_out.arrow").iter().map(question).collect();
    assert!(
        prepared
            .texts("train.arrow")
            .iter()
            .all(|text| !held_out.contains(&question(text)))
    );
}

#[test]
fn the_rest_fills_up_and_shortages_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (sums(folder.path(), "a", 20), sums(folder.path(), "b", 100));
    let mut plan = data_plan(vec![source(&a, Samples::Count(30)), source(&b, Samples::Rest)], 0);
    plan.total = Some(50);
    let prepared = run(&plan, &train_plan()).unwrap();
    let sampled: Vec<u64> = prepared
        .manifest
        .sources
        .iter()
        .map(|source| source.rows_taken)
        .collect();
    assert_eq!(sampled, [20, 30]);
    assert_eq!(prepared.warnings, ["a: 30 rows were asked for and all 20 are taken"]);
    assert_eq!(prepared.manifest.warnings, prepared.warnings);
    assert_eq!(prepared.manifest.sources[0].asked, "30");

    plan.strict = true;
    assert!(matches!(
        run(&plan, &train_plan()),
        Err(DataError::TooFewRows {
            asked: 30,
            found: 20,
            ..
        })
    ));
    plan.total = None;
    assert!(
        run(&plan, &train_plan())
            .err()
            .unwrap()
            .to_string()
            .contains("needs a `total`")
    );
}

#[test]
fn long_documents_follow_the_policy_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.txt");
    std::fs::write(&path, "word ".repeat(500)).unwrap();
    let plan = data_plan(vec![source(&path, Samples::All)], 0);
    let run_with = |overlong| {
        run(
            &plan,
            &TrainPlan {
                overlong,
                max_seq_len: 64,
                ..train_plan()
            },
        )
    };
    let split = run_with(Overlong::Split).unwrap();
    assert_eq!(split.manifest.overlong.tokens_lost, 0);
    assert_eq!(
        split.texts("train.arrow").iter().map(String::len).max(),
        split.texts("train.arrow").iter().map(String::len).max()
    );
    let joined: usize = split
        .texts("train.arrow")
        .iter()
        .map(|text| text.matches("ord").count())
        .sum();
    assert!(joined > 450, "{joined}");
    assert_eq!(
        split.manifest.train.target_tokens,
        split.manifest.train.tokens - split.manifest.train.documents
    );
    let truncated = run_with(Overlong::Truncate).unwrap();
    assert_eq!(truncated.manifest.train.tokens, 64);
    assert_eq!(
        truncated.manifest.overlong.tokens_lost,
        split.manifest.train.tokens - 64
    );
    assert!(truncated.warnings[0].starts_with("1 documents are longer than 64 tokens"));
    assert!(matches!(run_with(Overlong::Drop), Err(DataError::Empty { .. })));
}

#[test]
fn held_out_rows_may_come_from_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = source(&sums(folder.path(), "train", 50), Samples::All);
    source.held_out_file = Some(sums(folder.path(), "apart", 30));
    let prepared = run(&data_plan(vec![source], 8), &train_plan()).unwrap();
    assert_eq!(prepared.manifest.sources[0].rows_taken, 50);
    assert_eq!(prepared.manifest.sources[0].files.len(), 2);
    assert!(
        prepared
            .texts("held_out.arrow")
            .iter()
            .all(|text| text.contains("apart: "))
    );
}

#[test]
fn routing_rows_are_generated_with_answers_that_follow() {
    let mut source = source(Path::new("routing"), Samples::Count(200));
    source.location = Location::Routing;
    let train = TrainPlan {
        max_seq_len: 1024,
        ..train_plan()
    };
    let prepared = run(&data_plan(vec![source], 25), &train).unwrap();
    assert_eq!(
        (prepared.manifest.sources[0].rows_taken, prepared.manifest.held_out.rows),
        (200, 25)
    );
    let texts = prepared.texts("train.arrow");
    assert!(
        texts
            .iter()
            .all(|text| text.contains("system\nBe exact.<|im_end|>") && !text.contains(routing::SYSTEM_PROMPT)),
        "the recipe's own system turn wins"
    );
    for label in routing::LABELS {
        let answer = format!("assistant\n{{\"route\":\"{label}\"}}<|im_end|>\n");
        assert_eq!(texts.iter().filter(|text| text.ends_with(&answer)).count(), 40);
    }
}

#[test]
fn only_answers_are_trained_unless_all_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let plan = data_plan(vec![source(&sums(folder.path(), "a", 5), Samples::All)], 0);
    let prepared = run(
        &plan,
        &TrainPlan {
            packing: false,
            ..train_plan()
        },
    )
    .unwrap();
    let rows = prepared.rows("train.arrow");
    assert_eq!(rows.len(), 5);
    for row in (0..rows.len()).map(|index| rows.row(index)) {
        let trained: Vec<u32> = row
            .labels
            .iter()
            .filter_map(|&label| u32::try_from(label).ok())
            .collect();
        let text = chat().decode(&trained, false).unwrap();
        assert!(text.starts_with("It is ") && text.ends_with(".<|im_end|>"), "{text}");
    }
    let all = run(
        &plan,
        &TrainPlan {
            loss_on: LossOn::All,
            ..train_plan()
        },
    )
    .unwrap();
    assert_eq!(all.manifest.train.target_tokens, all.manifest.train.tokens - 5);
}

#[test]
fn problems_name_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.jsonl");
    let error_of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        run(&data_plan(vec![source(&path, Samples::All)], 0), &train_plan())
            .err()
            .unwrap()
            .to_string()
    };
    let good = "{\"question\": \"q\", \"answer\": \"a\"}\n";
    assert!(error_of(&format!("{good}{{\"question\"")).starts_with("bad.jsonl:2: not valid JSON"));
    let error = error_of(&format!("{good}{{\"question\": {{}}, \"answer\": \"a\"}}"));
    assert_eq!(error, "bad.jsonl:2: `question` is an object where text was expected");
    assert!(error_of("{\"x\": 1}").starts_with("bad (bad.jsonl): the columns x do not fit any known format"));
    assert_eq!(
        error_of("{\"text\": \" \"}"),
        "no row is left to train on; dropped: empty_text 1"
    );
    assert_eq!(
        error_of(""),
        "no row is left to train on; dropped: none, the sources hold no rows"
    );
}

#[test]
fn generated_rows_are_made_of_the_requests_that_their_recipe_trains_on() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = |label: &str, question: &str| {
        let path = folder.path().join(format!("{label}.jsonl"));
        let line = |n: usize| json!({"question": question.replace('#', &n.to_string()), "answer": "a"}).to_string();
        std::fs::write(&path, (0..60).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        RequestsPlan {
            label: label.to_owned(),
            recipe: format!("{label}-recipe"),
            file: path.clone(),
            data: data_plan(vec![source(&path, Samples::All)], 20),
            questions: Vec::new(),
        }
    };
    let mut source = source(Path::new("routing"), Samples::Count(300));
    source.location = Location::Routing;
    source.license = None;
    source.requests = vec![
        recipe("code", "Sort array number # in Java."),
        recipe("math", "Shop # sold some eggs. What did it sell?"),
    ];
    let held_out = |plan: &RequestsPlan| -> HashSet<String> {
        let alone = run(&plan.data, &train_plan()).unwrap();
        let rows = read_held_out(&alone.folder.path().join("held_out.jsonl")).unwrap();
        rows.iter().map(|row| row.messages[1].content.clone()).collect()
    };
    let kept_apart: HashSet<String> = source.requests.iter().flat_map(held_out).collect();
    assert_eq!(kept_apart.len(), 40);
    let train = TrainPlan {
        max_seq_len: 1024,
        ..train_plan()
    };
    let prepared = run(&data_plan(vec![source], 100), &train).unwrap();
    let texts = prepared.texts("train.arrow");
    for request in &kept_apart {
        assert!(texts.iter().all(|text| !text.contains(request.as_str())), "{request}");
    }
    let real = texts.iter().filter(|text| text.contains("Sort array number")).count();
    assert!(real > 20, "{real}");

    let rows = read_held_out(&prepared.folder.path().join("held_out.jsonl")).unwrap();
    let real = rows.iter().filter(|row| row.kind.as_deref() == Some("real"));
    assert!(real.clone().count() > 20);
    for row in real.filter(|row| row.messages[2].content.contains("code")) {
        let asked = row.messages[1].content.to_lowercase();
        assert!(
            kept_apart
                .iter()
                .any(|request| asked.contains(request.to_lowercase().trim_end_matches('.')))
        );
    }
    let manifest = &prepared.manifest.sources[0];
    assert_eq!(manifest.license.as_deref(), Some("Apache-2.0, MIT"));
    assert_eq!((manifest.requests[1].held_in, manifest.requests[1].held_out), (40, 20));
    assert!(
        prepared
            .manifest
            .to_string()
            .contains("requests  math from the recipe `math-recipe`: 40 for training")
    );
}
