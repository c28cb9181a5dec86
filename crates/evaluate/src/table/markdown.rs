//! The table for a model card.

use std::fmt::Write;

use super::{Cell, ComparisonTable, LEGEND, TableColumn, block_title, cell_text, kept_text};
use crate::outcome::Unit;

impl ComparisonTable {
    /// The table as GitHub-flavored Markdown; a specialist on its own domain is bold.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for block in self.blocks() {
            let unit = block[0].unit;
            let heading = |column: &&TableColumn| match unit {
                Unit::NatsPerToken => escaped(&column.domain),
                Unit::Fraction => {
                    format!("{}: {}", escaped(&column.domain), escaped(&column.suite))
                }
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\n", block_title(unit));
            row(&mut text, "", block.iter().map(heading));
            row(&mut text, "---", block.iter().map(|_| "---:".to_owned()));
            for (index, model) in self.models.iter().enumerate() {
                row(
                    &mut text,
                    &escaped(&model.name),
                    block.iter().map(|column| cell(&column.cells[index], unit)),
                );
            }
            if unit == Unit::NatsPerToken && block.iter().any(|column| column.gain_kept.is_some()) {
                row(&mut text, "gain kept", block.iter().map(|column| kept_text(column)));
            }
            let items = if unit == Unit::NatsPerToken {
                "documents"
            } else {
                "items"
            };
            row(&mut text, items, block.iter().map(|column| column.n.to_string()));
            text.push('\n');
        }
        let _ = writeln!(text, "{LEGEND}");
        for note in self.notes() {
            let _ = writeln!(text, "\n{}", escaped(&note));
        }
        text
    }
}

fn cell(cell: &Cell, unit: Unit) -> String {
    let text = cell_text(cell, unit);
    if cell.own_domain && cell.value.is_some() {
        format!("**{text}**")
    } else {
        text
    }
}

fn row(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
