//! The renderings at the width of a usual terminal, as snapshots, and what the gate makes of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::gate::{GateDecision, GateRule, RegressionAction};
use crate::outcome::{Identity, Item};

const DOMAINS: [&str; 4] = ["math", "code", "general", "coordinator"];

/// Losses of 80 documents around `mean` that differ between documents far more than between models.
fn loss(domain: &str, model: &str, mean: f64) -> Outcome {
    let items = (0..80).map(|index| {
        let spread = f64::from(index * 37 % 80) / 80.0 - 0.5;
        let noise = f64::from((index * 53 + model.len() as i32 * 7) % 11) / 11.0 - 0.45;
        Item {
            id: format!("{domain}-{index}"),
            value: mean + 0.4 * spread + 0.01 * noise,
            weight: f64::from(20 + index % 7),
        }
    });
    Outcome::losses(
        &Identity {
            suite: "held-out-loss",
            domain,
            model,
        },
        items.collect(),
    )
}

fn score(domain: &str, suite: &str, model: &str, right: usize) -> Outcome {
    let items = (0..50).map(|index| Item {
        id: format!("{domain}-{index}"),
        value: f64::from(u8::from((index * 17) % 50 < right)),
        weight: 1.0,
    });
    Outcome::fractions(&Identity { suite, domain, model }, items.collect())
}

fn models() -> Vec<ComparedModel> {
    let specialist = |domain: &&str| {
        ComparedModel::new(
            *domain,
            TableRole::Specialist {
                domain: (*domain).into(),
            },
        )
    };
    let mut models = vec![ComparedModel::new("base", TableRole::Base)];
    models.extend(DOMAINS.iter().map(specialist));
    models.push(ComparedModel::new("merge", TableRole::Merge));
    models
}

/// The figures of the reference run on a 135M model, in shape.
fn outcomes(merged_code: f64) -> Vec<Outcome> {
    let base = [1.340, 0.610, 1.724, 4.317];
    let own = [1.081, 0.486, 1.638, 0.122];
    let merge = [1.125, merged_code, 1.664, 1.525];
    let mut found = Vec::new();
    for (column, domain) in DOMAINS.into_iter().enumerate() {
        found.push(loss(domain, "base", base[column]));
        for (row, model) in DOMAINS.into_iter().enumerate() {
            let elsewhere = base[column] * [1.0, 1.03, 0.99, 1.001][row];
            found.push(loss(domain, model, if row == column { own[column] } else { elsewhere }));
        }
        found.push(loss(domain, "merge", merge[column]));
    }
    for (model, right) in [("base", 4), ("math", 16), ("merge", 12)] {
        found.push(score("math", "exact-match", model, right));
    }
    let unavailable = "no python3 on this machine, so code is not run";
    for model in ["base", "code", "merge"] {
        let identity = Identity {
            suite: "code-tests",
            domain: "code",
            model,
        };
        found.push(Outcome::unmeasured(&identity, Unit::Fraction, unavailable));
    }
    for (model, right) in [("base", 12), ("coordinator", 49), ("merge", 5)] {
        found.push(score("coordinator", "routing", model, right));
    }
    found
}

/// The table of a run whose merge kept most of every gain.
pub(crate) fn reference_table() -> ComparisonTable {
    table(0.512)
}

fn table(merged_code: f64) -> ComparisonTable {
    ComparisonTable::new(models(), &outcomes(merged_code)).unwrap()
}

#[test]
fn terminal_at_80_columns() {
    let text = table(0.512).render(80);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!("terminal_80", text);
}

#[test]
fn narrow_terminals_get_more_blocks() {
    let text = table(0.512).render(50);
    assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
    assert!(text.contains("coordinator"));
}

#[test]
fn markdown_for_the_card() {
    insta::assert_snapshot!("markdown", table(0.512).markdown());
}

#[test]
fn json_reads_back() {
    let table = table(0.512);
    let json = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<ComparisonTable>(&json).unwrap(), table);
    let kept = table.gain_kept("math").unwrap();
    assert!((kept.fraction - 0.83).abs() < 0.01, "{kept:?}");
    assert!(table.cell("held-out-loss", "code", "code").unwrap().own_domain);
}

#[test]
fn a_comparison_has_one_base_and_every_name_once() {
    let two = vec![
        ComparedModel::new("a", TableRole::Base),
        ComparedModel::new("b", TableRole::Base),
    ];
    assert!(
        ComparisonTable::new(two, &[])
            .unwrap_err()
            .to_string()
            .contains("exactly one base, found 2")
    );
    let same = vec![
        ComparedModel::new("a", TableRole::Base),
        ComparedModel::new("a", TableRole::Merge),
    ];
    assert!(
        ComparisonTable::new(same, &[])
            .unwrap_err()
            .to_string()
            .contains("two models are called `a`")
    );
}

#[test]
fn the_gate_names_domain_and_figures() {
    let rule = |action| GateRule {
        on: "held-out-loss".into(),
        max_regress: 0.02,
        action,
    };
    let pass = GateDecision::judge(&table(0.512), &rule(RegressionAction::Refuse)).unwrap();
    assert!(
        matches!(pass, GateDecision::Pass { .. }) && pass.publishes(),
        "{pass:?}"
    );

    let lost = table(0.650);
    let refused = GateDecision::judge(&lost, &rule(RegressionAction::Refuse)).unwrap();
    assert!(!refused.publishes());
    assert!(
        refused.message().starts_with("held-out-loss on code went from 0.6"),
        "{}",
        refused.message()
    );
    assert!(
        refused.message().contains("% worse); 2 % is allowed"),
        "{}",
        refused.message()
    );
    let stamped = GateDecision::judge(&lost, &rule(RegressionAction::Stamp)).unwrap();
    assert!(
        matches!(&stamped, GateDecision::Stamp { regressions, .. } if regressions.len() == 1) && stamped.publishes()
    );

    // Worse beyond chance, but by less than allowed.
    let slightly = GateDecision::judge(&table(0.615), &rule(RegressionAction::Refuse)).unwrap();
    assert!(matches!(slightly, GateDecision::Pass { .. }), "{slightly:?}");
}

#[test]
fn a_gate_that_cannot_look_does_not_open() {
    let rule = |on: &str| GateRule {
        on: on.into(),
        max_regress: 0.02,
        action: RegressionAction::Refuse,
    };
    let error = GateDecision::judge(&table(0.512), &rule("gsm8k")).unwrap_err();
    assert!(error.to_string().contains("`gsm8k`, which was not measured"), "{error}");
    let error = GateDecision::judge(&table(0.512), &rule("code-tests")).unwrap_err();
    assert!(error.to_string().contains("not measured for code"), "{error}");
    let without = ComparisonTable::new(models()[..5].to_vec(), &outcomes(0.5)).unwrap();
    assert!(GateDecision::judge(&without, &rule("held-out-loss")).is_err());
}
