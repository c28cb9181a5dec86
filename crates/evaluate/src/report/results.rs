//! The comparison table and the gate's decision as the page shows them.

use std::fmt::Write;

use serde::Serialize;

use crate::gate::GateDecision;
use crate::outcome::Unit;
use crate::paired::Verdict;
use crate::statistics::Interval;
use crate::table::{Cell, ComparisonTable, LEGEND, TableColumn, TableRole, block_title, cell_text, kept_text};

/// The section's content.
#[derive(Serialize)]
pub(super) struct Results {
    gate: Option<Gate>,
    blocks: Vec<Block>,
    legend: &'static str,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Gate {
    class: &'static str,
    word: &'static str,
    message: String,
}

/// The columns of one unit.
#[derive(Serialize)]
struct Block {
    title: &'static str,
    columns: Vec<Heading>,
    rows: Vec<ModelRow>,
    summaries: Vec<Summary>,
}

#[derive(Serialize)]
struct Heading {
    domain: String,
    /// For task scores; losses have one suite.
    suite: Option<String>,
}

#[derive(Serialize)]
struct ModelRow {
    name: String,
    is_merge: bool,
    cells: Vec<CellView>,
}

#[derive(Serialize)]
struct CellView {
    text: String,
    /// `better`, `worse` or nothing.
    class: &'static str,
    /// Above or below the base, where the difference is beyond chance.
    arrow: &'static str,
    bold: bool,
    title: Option<String>,
}

/// A row below the models: `gain kept`, or the number of items.
#[derive(Serialize)]
struct Summary {
    name: &'static str,
    cells: Vec<SummaryCell>,
}

#[derive(Serialize)]
struct SummaryCell {
    text: String,
    title: Option<String>,
}

/// `None` without a table and without a decision.
pub(super) fn results(table: Option<&ComparisonTable>, decision: Option<&GateDecision>) -> Option<Results> {
    if table.is_none() && decision.is_none() {
        return None;
    }
    let blocks = table.map(|table| {
        let blocks = table.blocks();
        blocks.iter().map(|columns| block(table, columns)).collect()
    });
    Some(Results {
        gate: decision.map(gate),
        blocks: blocks.unwrap_or_default(),
        legend: LEGEND,
        notes: table.map(ComparisonTable::notes).unwrap_or_default(),
    })
}

fn block(table: &ComparisonTable, columns: &[&TableColumn]) -> Block {
    let unit = columns[0].unit;
    let heading = |column: &&TableColumn| Heading {
        domain: column.domain.clone(),
        suite: (unit == Unit::Fraction).then(|| column.suite.clone()),
    };
    let rows = table.models.iter().enumerate().map(|(index, model)| ModelRow {
        name: model.name.clone(),
        is_merge: model.role == TableRole::Merge,
        cells: columns
            .iter()
            .map(|column| cell(&column.cells[index], column.unit))
            .collect(),
    });
    let mut summaries = Vec::new();
    if columns.iter().any(|column| column.gain_kept.is_some()) {
        let cell = |column: &&TableColumn| SummaryCell {
            text: kept_text(column),
            title: column
                .gain_kept
                .and_then(|kept| kept.interval)
                .map(|i| format!("95 % interval {:.0}–{:.0} %", 100.0 * i.low, 100.0 * i.high)),
        };
        summaries.push(Summary {
            name: "gain kept",
            cells: columns.iter().map(cell).collect(),
        });
    }
    let count = |column: &&TableColumn| SummaryCell {
        text: column.n.to_string(),
        title: None,
    };
    summaries.push(Summary {
        name: match unit {
            Unit::NatsPerToken => "documents",
            Unit::Fraction => "items",
        },
        cells: columns.iter().map(count).collect(),
    });
    Block {
        title: block_title(unit),
        columns: columns.iter().map(heading).collect(),
        rows: rows.collect(),
        summaries,
    }
}

fn cell(cell: &Cell, unit: Unit) -> CellView {
    let (class, arrow) = match cell.versus_base.map(|versus| versus.verdict) {
        Some(Verdict::Better) => ("better", arrow(cell)),
        Some(Verdict::Worse) => ("worse", arrow(cell)),
        _ => ("", ""),
    };
    CellView {
        text: cell_text(cell, unit),
        class,
        arrow,
        bold: cell.own_domain && cell.value.is_some(),
        title: details(cell),
    }
}

/// Whether the number is above or below the base's.
fn arrow(cell: &Cell) -> &'static str {
    match cell.versus_base {
        Some(versus) if versus.difference < 0.0 => "▼",
        Some(_) => "▲",
        None => "",
    }
}

/// The exact intervals behind a cell, shown when a pointer rests on it.
fn details(cell: &Cell) -> Option<String> {
    let interval = |interval: Interval| format!("{:.4} to {:.4}", interval.low, interval.high);
    let mut text = format!("{:.4}", cell.value?);
    // Writing to a string cannot fail.
    if let Some(own) = cell.interval {
        let _ = write!(text, ", 95 % interval {}", interval(own));
    }
    if let Some(versus) = cell.versus_base {
        let _ = write!(text, "; against the base {:+.4}", versus.difference);
        if let Some(paired) = versus.interval {
            let _ = write!(text, " ({})", interval(paired));
        }
        if let Some(p) = versus.p_value {
            let _ = write!(text, ", McNemar p {p:.3}");
        }
    }
    Some(text)
}

fn gate(decision: &GateDecision) -> Gate {
    let (class, word) = match decision {
        GateDecision::Pass { .. } => ("better", "passed"),
        GateDecision::Stamp { .. } => ("worse", "published with a stamp"),
        GateDecision::Refuse { .. } => ("worse", "refused"),
    };
    Gate {
        class,
        word,
        message: decision.message().to_owned(),
    }
}
