//! The comparison table and the gate's decision as HTML.

use std::fmt::Write;

use super::html::escaped;
use crate::comparison::Verdict;
use crate::gate::GateDecision;
use crate::outcome::Unit;
use crate::statistics::Interval;
use crate::table::{Cell, ComparisonTable, LEGEND, Role, TableColumn, block_title, cell_text, kept_text};

/// Keeps the place of a mark, so that numbers stay below one another.
const UNMARKED: &str = "<span class=\"unmarked\" aria-hidden=\"true\"> ✓ ▲</span>";

pub(super) fn table(table: &ComparisonTable) -> String {
    let mut html = String::new();
    // Writing to a string cannot fail.
    for block in table.blocks() {
        let unit = block[0].unit;
        let _ = writeln!(
            html,
            "<div class=\"wide\"><table class=\"results\"><caption><span>{}</span></caption>",
            block_title(unit)
        );
        html.push_str("<thead><tr><td></td>");
        for column in &block {
            let suite = if unit == Unit::Fraction {
                format!("<br><small>{}</small>", escaped(&column.suite))
            } else {
                String::new()
            };
            let _ = write!(
                html,
                "<th scope=\"col\" class=\"number\">{}{suite}</th>",
                escaped(&column.domain)
            );
        }
        html.push_str("</tr></thead><tbody>\n");
        for (index, subject) in table.subjects.iter().enumerate() {
            let class = if subject.role == Role::Merge {
                " class=\"merge\""
            } else {
                ""
            };
            let _ = write!(html, "<tr{class}><th scope=\"row\">{}</th>", escaped(&subject.name));
            for column in &block {
                html.push_str(&cell(&column.cells[index], column));
            }
            html.push_str("</tr>\n");
        }
        if block.iter().any(|column| column.gain_kept.is_some()) {
            summary_row(&mut html, "gain kept", &block, |column| {
                let interval = column.gain_kept.and_then(|kept| kept.interval);
                let title = interval.map(|i| format!("95 % interval {:.0}–{:.0} %", 100.0 * i.low, 100.0 * i.high));
                (kept_text(column), title)
            });
        }
        let items = if unit == Unit::NatsPerToken {
            "documents"
        } else {
            "items"
        };
        summary_row(&mut html, items, &block, |column| (column.n.to_string(), None));
        html.push_str("</tbody></table></div>\n");
    }
    let _ = writeln!(
        html,
        "<p class=\"note\">{LEGEND} ▲ ▼: above or below the base. <b>Bold</b>: a specialist on its own domain.</p>"
    );
    for note in table.notes() {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(&note));
    }
    html
}

fn summary_row(
    html: &mut String,
    name: &str,
    columns: &[&TableColumn],
    value: impl Fn(&TableColumn) -> (String, Option<String>),
) {
    let _ = write!(html, "<tr class=\"summary\"><th scope=\"row\">{name}</th>");
    for column in columns {
        let (text, title) = value(column);
        let title = title
            .map(|title| format!(" title=\"{}\"", escaped(&title)))
            .unwrap_or_default();
        let _ = write!(html, "<td class=\"number\"{title}>{text}{UNMARKED}</td>");
    }
    html.push_str("</tr>\n");
}

fn cell(cell: &Cell, column: &TableColumn) -> String {
    let text = cell_text(cell, column.unit);
    let (class, text) = match cell.versus_base.map(|versus| versus.verdict) {
        Some(Verdict::Better) => ("number better", text + arrow(cell)),
        Some(Verdict::Worse) => ("number worse", text + arrow(cell)),
        _ => ("number", text + UNMARKED),
    };
    let text = if cell.own_domain && cell.value.is_some() {
        format!("<b>{text}</b>")
    } else {
        text
    };
    let title = details(cell)
        .map(|title| format!(" title=\"{}\"", escaped(&title)))
        .unwrap_or_default();
    format!("<td class=\"{class}\"{title}>{text}</td>")
}

/// Which way the number went from the base's.
fn arrow(cell: &Cell) -> &'static str {
    match cell.versus_base {
        Some(versus) if versus.difference < 0.0 => " ▼",
        Some(_) => " ▲",
        None => "",
    }
}

/// The exact intervals behind a cell, for a pointer that rests on it.
fn details(cell: &Cell) -> Option<String> {
    let interval = |interval: Interval| format!("{:.4} to {:.4}", interval.low, interval.high);
    let mut text = format!("{:.4}", cell.value?);
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

pub(super) fn gate(decision: &GateDecision) -> String {
    let (class, word) = match decision {
        GateDecision::Pass { .. } => ("better", "passed"),
        GateDecision::Stamp { .. } => ("worse", "published with a stamp"),
        GateDecision::Refuse { .. } => ("worse", "refused"),
    };
    format!(
        "<p class=\"gate\"><span class=\"{class}\">Gate: {word}.</span> {}</p>\n",
        escaped(decision.message())
    )
}
