//! The committed files are what the generator writes, byte for byte, and what they promise holds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use synapse_toy_corpus::{Corpus, HELD_OUT_ROWS, SEED, SPECIALIST_ROWS, VOCABULARY};
use tokenizers::Tokenizer;

/// The files the generator owns, by their path below `folder`.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in ["pretrain", "train", "held-out", "fresh"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            found.insert(
                path.strip_prefix(folder).unwrap().to_owned(),
                std::fs::read(&path).unwrap(),
            );
        }
    }
    found
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/nano")
}

fn held_out(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bundled().join(format!("held-out/{name}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_committed_files_are_the_generators() {
    let fresh = tempfile::tempdir().unwrap();
    Corpus::new(SEED).unwrap().write(fresh.path()).unwrap();
    let (made, committed) = (files(fresh.path()), files(&bundled()));
    assert_eq!(made.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (path, bytes) in &made {
        assert!(
            bytes == &committed[path],
            "data/nano/{} is stale: run `cargo run --release -p synapse-toy-corpus` in the repository's root",
            path.display()
        );
    }
    let size: usize = committed.values().map(Vec::len).sum();
    assert!(size < 3_000_000, "the bundled data has grown to {size} bytes");
}

#[test]
fn another_seed_gives_other_rows() {
    let questions = |seed| {
        Corpus::new(seed)
            .unwrap()
            .training_questions()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    assert_ne!(questions(SEED), questions(SEED + 1));
}

#[test]
fn no_held_out_question_is_trained_on() {
    let corpus = Corpus::new(SEED).unwrap();
    let trained: BTreeSet<&str> = corpus.training_questions().collect();
    let held_out: BTreeSet<&str> = corpus.held_out_questions().collect();
    assert_eq!(held_out.len(), 4 * HELD_OUT_ROWS, "held-out questions repeat");
    assert!(trained.len() > 3 * SPECIALIST_ROWS);
    // A question of the base's routing rows stands after a lead-in, hence `contains` rather than equality.
    let all = trained.iter().copied().collect::<Vec<_>>().join("\n");
    let leaked: Vec<&&str> = held_out.iter().filter(|question| all.contains(**question)).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn no_everyday_question_is_trained_on() {
    let corpus = Corpus::new(SEED).unwrap();
    // Case and final punctuation make no other question.
    let plain = |text: &str| text.to_lowercase().trim_end_matches(['.', '?', '!', ' ']).to_owned();
    let trained: BTreeSet<String> = corpus.training_questions().map(plain).collect();
    let asked: BTreeSet<String> = corpus.everyday_questions().map(plain).collect();
    assert!(asked.len() >= 40, "{} everyday questions", asked.len());
    let leaked: Vec<&String> = asked.intersection(&trained).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    let labels: BTreeMap<String, usize> = held_out("everyday").iter().fold(BTreeMap::new(), |mut count, row| {
        *count.entry(row["messages"][2]["content"].to_string()).or_default() += 1;
        count
    });
    assert_eq!(labels.len(), 5, "{labels:?}");
}

#[test]
fn the_tokenizer_round_trips_the_corpus_within_its_vocabulary() {
    let tokenizer = Tokenizer::from_file(bundled().join("fresh/tokenizer.json")).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), VOCABULARY);
    for (id, token) in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].iter().enumerate() {
        assert_eq!(tokenizer.token_to_id(token), u32::try_from(id).ok());
    }
    let corpus = Corpus::new(SEED).unwrap();
    let texts = corpus.base_texts().chain(corpus.held_out_questions());
    for text in texts.chain(["Grüße, 你好, \u{1f642}\t\r\n  x", "for _ in range(10):\n        pass\n"]) {
        let encoded = tokenizer.encode(text, false).unwrap();
        assert!(
            encoded
                .get_ids()
                .iter()
                .all(|id| usize::try_from(*id).unwrap() < VOCABULARY)
        );
        assert_eq!(tokenizer.decode(encoded.get_ids(), false).unwrap(), text);
    }
}

#[test]
fn python_agrees_with_every_expected_value() {
    let text = include_str!("fixtures/python_values.json");
    let by_python: Vec<Vec<Value>> = serde_json::from_str(text).unwrap();
    let rows = held_out("code");
    assert_eq!(
        rows.len(),
        by_python.len(),
        "run tests/fixtures/make_python_values.py again"
    );
    for (row, values) in rows.iter().zip(&by_python) {
        let expected: Vec<&Value> = row["tests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|test| &test["expected"])
            .collect();
        assert_eq!(expected, values.iter().collect::<Vec<_>>(), "{}", row["output"]);
    }
}

#[test]
fn choices_hold_the_answer_once() {
    for (row, asked) in held_out("general-choices").iter().zip(held_out("general")) {
        assert_eq!(row["question"], asked["conversations"][0]["value"]);
        let sentence = asked["conversations"][1]["value"].clone();
        let choices = row["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 4);
        let right = usize::try_from(row["answer"].as_u64().unwrap()).unwrap();
        assert_eq!(choices[right], sentence);
        assert_eq!(choices.iter().filter(|choice| **choice == sentence).count(), 1);
    }
}

#[test]
fn math_answers_end_in_their_last_result() {
    for row in held_out("math") {
        let answer = row["answer"].as_str().unwrap();
        let (work, result) = answer.rsplit_once("\n#### ").unwrap();
        assert!(work.ends_with(&format!("= {result}.")), "{answer}");
        assert!(result.parse::<i64>().unwrap() > 0);
    }
}
