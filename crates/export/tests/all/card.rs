//! The model card, against a committed one. `SYNAPSE_UPDATE=1 cargo test -p synapse-export` rewrites it; read it then.

use std::fs;
use std::path::Path;

use synapse_export::{
    CardComparison, CardData, CardDataset, CardGate, CardInput, CardKind, CardMerge, CardScore, CardSpecialist,
    Measured, model_card,
};

fn input(id: &str, license: Option<&str>) -> CardInput {
    CardInput {
        id: id.to_owned(),
        local: id.starts_with('.'),
        revision: Some("0123456789abcdef0123".to_owned()),
        license: license.map(str::to_owned),
    }
}

fn measured(value: f64, half: f64) -> Option<Measured> {
    Some(Measured {
        value,
        low: value - half,
        high: value + half,
    })
}

/// The figures of the loss table are a real run's on SmolLM2-135M; the rest is made up.
fn merge() -> CardData {
    let comparison = |domain: &str, base, specialist, merge| CardComparison {
        domain: domain.to_owned(),
        count: 1319,
        base: measured(base, 0.02),
        specialist: measured(specialist, 0.018),
        merge: measured(merge, 0.019),
    };
    CardData {
        kind: CardKind::Merge,
        name: "Synapse 3B".to_owned(),
        location: "outputs/synapse-3b".to_owned(),
        summary: "Four specialists in one model.".to_owned(),
        base: input("Qwen/Qwen2.5-3B-Instruct", Some("qwen-research")),
        parameters: Some(3_085_938_688),
        context_length: Some(32_768),
        dtype: Some("bf16".to_owned()),
        specialists: ["math", "code"]
            .map(|name| CardSpecialist {
                name: name.to_owned(),
                method: "QLoRA, rank 64, alpha 128, NF4 double-quantized".to_owned(),
                rows: 50_000,
                steps: 9_375,
                learning_rate: 2e-4,
                hash: Some("ab12".repeat(16)),
            })
            .to_vec(),
        datasets: vec![
            CardDataset {
                source: input("openai/gsm8k", Some("mit")),
                specialist: "math".to_owned(),
                rows: 7_473,
            },
            CardDataset {
                source: input("nickrosh/Evol-Instruct-Code-80k-v1", Some("cc-by-nc-sa-4.0")),
                specialist: "code".to_owned(),
                rows: 31_366,
            },
            CardDataset {
                source: input("iamtarun/python_code_instructions_18k_alpaca", None),
                specialist: "code".to_owned(),
                rows: 18_612,
            },
        ],
        merge: Some(CardMerge {
            method: "ties".to_owned(),
            trim: Some(0.8),
            sign: Some("frequency".to_owned()),
            lambda: 1.0,
            weights: vec![("math".to_owned(), 1.0), ("code".to_owned(), 0.5)],
        }),
        gate: Some(CardGate {
            max_regress: 0.02,
            on: "held-out loss".to_owned(),
            passed: true,
            failures: Vec::new(),
        }),
        held_out_loss: vec![
            comparison("math", 1.340, 1.081, 1.125),
            CardComparison {
                merge: None,
                ..comparison("code", 0.610, 0.620, 0.0)
            },
        ],
        scores: vec![CardScore {
            suite: "gsm8k".to_owned(),
            metric: "exact match".to_owned(),
            comparison: CardComparison {
                merge: None,
                ..comparison("math", 0.541, 0.602, 0.0)
            },
            note: Some("not run on the merge: the time limit was reached.".to_owned()),
        }],
        gguf_files: vec!["synapse-3b-q8_0.gguf".to_owned()],
        notes: vec!["Routing belongs to the coordinator's adapter; the merge does not keep it.".to_owned()],
        tool_version: "0.1.0".to_owned(),
    }
}

fn check(name: &str, card: &CardData) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let found = model_card(card).unwrap();
    if std::env::var_os("SYNAPSE_UPDATE").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(
        found,
        fs::read_to_string(&path).unwrap(),
        "{name}: if the change is meant, run with SYNAPSE_UPDATE=1"
    );
}

#[test]
fn a_merge_card_reads_as_committed() {
    check("merge_card.md", &merge());
}

#[test]
fn an_adapter_card_reads_as_committed() {
    let merge = merge();
    let card = CardData {
        kind: CardKind::Adapter,
        name: "math".to_owned(),
        location: "outputs/math".to_owned(),
        base: input("HuggingFaceTB/SmolLM2-135M-Instruct", Some("apache-2.0")),
        specialists: merge.specialists[..1].to_vec(),
        datasets: merge.datasets[..1].to_vec(),
        held_out_loss: merge.held_out_loss[..1].to_vec(),
        tool_version: merge.tool_version,
        ..CardData::default()
    };
    check("adapter_card.md", &card);
}

#[test]
fn a_card_of_nothing_measured_claims_nothing() {
    let card = model_card(&CardData {
        name: "x".to_owned(),
        base: input("./base", None),
        ..CardData::default()
    })
    .unwrap();
    assert!(
        !card.contains("## Results") && !card.contains("## Merge") && !card.contains("## Training"),
        "{card}"
    );
    assert!(
        !card.contains("base_model")
            && card.contains("license: unknown\n")
            && card.contains("| `./base` | none stated |")
    );
}

#[test]
fn gain_kept_is_the_share_of_the_specialists_gain() {
    let row = |base: f64, specialist: f64, merge: f64| CardComparison {
        base: measured(base, 0.0),
        specialist: measured(specialist, 0.0),
        merge: measured(merge, 0.0),
        ..CardComparison::default()
    };
    assert_eq!(row(2.0, 1.0, 1.25).gain_kept(), Some(0.75));
    assert_eq!(row(2.0, 1.0, 2.5).gain_kept(), Some(-0.5));
    assert_eq!(row(1.0, 1.0, 0.5).gain_kept(), None);
    assert_eq!(
        CardComparison {
            merge: None,
            ..row(2.0, 1.0, 1.0)
        }
        .gain_kept(),
        None
    );
}
