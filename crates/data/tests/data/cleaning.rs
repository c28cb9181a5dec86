//! Cleaning and its account: what is dropped has a reason, a count and a place, and limits are held.

use serde_json::json;
use synapse_data::{Benchmark, read_origins};
use synapse_recipe::{LimitsPlan, Overlong, Samples, TrainPlan};

use crate::support::{chat, data_plan, run, run_against, source, train_plan};

/// Ten sentences of their own for every number.
fn story(number: usize) -> String {
    (0..40)
        .map(|word| format!("w{}", (number * 7919 + word * 104_729) % 100_003))
        .collect::<Vec<_>>()
        .join(" ")
}

fn lines(path: &std::path::Path, rows: impl IntoIterator<Item = serde_json::Value>) {
    let rows: Vec<String> = rows.into_iter().map(|row| row.to_string()).collect();
    std::fs::write(path, rows.join("\n")).unwrap();
}

#[test]
fn near_duplicates_go_and_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let row = |number: usize, end: &str| json!({"question": story(number), "answer": format!("{} {end}", story(number + 500))});
    lines(
        &path,
        (0..30).flat_map(|number| [row(number, "one"), row(number, "two")]),
    );
    let mut plan = data_plan(vec![source(&path, Samples::All)], 0);
    let train = TrainPlan {
        max_seq_len: 2048,
        ..train_plan()
    };
    assert_eq!(
        run(&plan, &train).unwrap().manifest.train.documents,
        60,
        "off unless asked for"
    );
    plan.near_duplicates = Some(0.8);
    let cleaned = run(&plan, &train).unwrap();
    assert_eq!(cleaned.manifest.train.documents, 30);
    let source = &cleaned.manifest.sources[0];
    assert_eq!((source.dropped["near_duplicate"], source.rows_available), (30, 30));
    assert_eq!(source.examples["near_duplicate"].len(), 3);
    assert!(source.examples["near_duplicate"][0].starts_with("rows.jsonl:"));
    assert!((cleaned.manifest.shares().duplicates - 0.5).abs() < 1e-9);
    // The same rows again, in another order, give the same bytes.
    lines(
        &path,
        (0..30)
            .rev()
            .flat_map(|number| [row(number, "two"), row(number, "one")]),
    );
    let again = run(&plan, &train).unwrap();
    assert_eq!(again.manifest.train.sha256, cleaned.manifest.train.sha256);
}

#[test]
fn benchmarks_and_held_out_prompts_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let row = |number: usize| json!({"question": story(number), "answer": "yes"});
    // Asked again with another beginning: no duplicate, but the same question.
    let twice = |number: usize| json!({"question": format!("Please: {}", story(number)), "answer": "no"});
    lines(&path, (0..40).map(row).chain((20..40).map(twice)));
    let extra = folder.path().join("bench.jsonl");
    lines(&extra, [json!({"task": {"prompt": story(3)}, "tests": [story(4)]})]);
    let mut plan = data_plan(vec![source(&path, Samples::All)], 8);
    plan.decontaminate = true;
    plan.benchmarks = vec![extra];
    let asked = [Benchmark {
        name: "gsm8k".to_owned(),
        texts: vec![story(0), format!("{} and more", story(1)), "short".to_owned()],
    }];
    let train = TrainPlan {
        max_seq_len: 2048,
        ..train_plan()
    };
    let cleaned = run_against(&plan, &train, &asked).unwrap();
    let dropped = &cleaned.manifest.sources[0].dropped;
    assert_eq!(dropped["contaminated"], 4);
    for place in &cleaned.manifest.sources[0].examples["contaminated"] {
        assert!(place.starts_with("rows.jsonl:") && place.contains(": “w"), "{place}");
        assert!(
            place.ends_with("” is in gsm8k") || place.ends_with("” is in bench.jsonl"),
            "{place}"
        );
    }
    let report = cleaned.manifest.to_string();
    assert!(
        report.contains("dropped   4 contaminated\n            rows.jsonl:"),
        "{report}"
    );
    assert!(dropped["overlaps_held_out"] >= 1, "{dropped:?}");
    assert_eq!(cleaned.manifest.decontaminated_against, ["gsm8k", "bench.jsonl"]);
    for text in cleaned.texts("train.arrow") {
        assert!((0..=1).chain(3..=4).all(|number| !text.contains(&story(number))));
        assert!(cleaned.texts("held_out.arrow").iter().all(|held| {
            let question = held.split("user\n").nth(1).unwrap().split("<|im_end|>").next().unwrap();
            !text.contains(question.trim_start_matches("Please: "))
        }));
    }
}

#[test]
fn every_row_is_accounted_for_and_limits_name_what_breaks_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let answer = |words: usize| "word ".repeat(words);
    let row =
        |number: usize, words: usize| json!({"question": format!("q{number}"), "answer": answer(words), "id": number});
    lines(
        &path,
        (0..20)
            .map(|number| row(number, 5))
            .chain([row(0, 5), row(20, 200), row(21, 0)]),
    );
    let plan = data_plan(vec![source(&path, Samples::All)], 0);
    let prepared = run(
        &plan,
        &TrainPlan {
            overlong: Overlong::Drop,
            max_seq_len: 64,
            ..train_plan()
        },
    )
    .unwrap();
    let (manifest, source) = (&prepared.manifest, &prepared.manifest.sources[0]);
    assert_eq!(source.dropped["duplicate"], 1);
    assert_eq!(source.dropped["overlong"], 1);
    assert_eq!(source.dropped["empty_answer"], 1);
    assert_eq!(
        source.rows_read,
        source.documents + source.dropped.values().sum::<u64>()
    );
    assert_eq!(source.unused_columns, ["id"]);
    assert_eq!((manifest.lengths.documents, source.overlong.rows), (21, 1));
    assert_eq!(
        manifest.lengths.tokens,
        manifest.train.tokens + manifest.overlong.tokens_lost
    );
    assert_eq!(manifest.lengths.histogram.iter().sum::<u64>(), 21);

    let report = manifest.to_string();
    for part in [
        "1 duplicate  (rows.jsonl:21)",
        "1 overlong  (rows.jsonl:22)",
        "not read  columns id",
        "median",
        "license   MIT",
    ] {
        assert!(report.contains(part), "{part} in\n{report}");
    }
    assert_eq!(manifest.broken_limits(&LimitsPlan::default()), Vec::<String>::new());
    let limits = LimitsPlan {
        dropped: Some(0.1),
        tokens_lost: Some(0.9),
        trained: Some(0.99),
        ..LimitsPlan::default()
    };
    let broken = manifest.broken_limits(&limits);
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(
        broken[0].starts_with("`limits.dropped`: 13.0 % rows dropped, 10.0 % are allowed"),
        "{broken:?}"
    );
    assert!(broken[1].starts_with("`limits.trained`"), "{broken:?}");
}

#[test]
fn every_document_says_where_it_comes_from_and_what_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let row = |words: usize| json!({"question": "q", "answer": format!("{words}: {}", "word ".repeat(words))});
    lines(&path, [row(3), row(100), row(4)]);
    let prepared = run(
        &data_plan(vec![source(&path, Samples::All)], 0),
        &TrainPlan {
            overlong: Overlong::Truncate,
            max_seq_len: 64,
            packing: false,
            ..train_plan()
        },
    )
    .unwrap();
    let rows = prepared.rows("train.arrow");
    let origins = prepared.folder.path().join("origins.jsonl");
    let mut places = Vec::new();
    for index in 0..rows.len() {
        let [origin] = read_origins(&origins, index).unwrap().try_into().unwrap();
        let mut ids = rows.row(index).input_ids;
        assert_eq!(ids.len() + origin.cut.len(), origin.of);
        ids.extend(&origin.cut);
        let text = chat().decode(&ids, false).unwrap();
        let line: usize = origin.place.strip_prefix("rows.jsonl:").unwrap().parse().unwrap();
        let words = [3, 100, 4][line - 1];
        assert!(
            text.contains(&format!("{words}: ")) && text.ends_with("<|im_end|>\n"),
            "{text}"
        );
        assert_eq!(origin.cut.is_empty(), words != 100);
        places.push(line);
    }
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3]);
    assert!(read_origins(&origins, 3).unwrap().is_empty());
}
