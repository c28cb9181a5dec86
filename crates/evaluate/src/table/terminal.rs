//! The table for a terminal: readable without color and at most as wide as requested.

use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};

use super::{Cell, ComparisonTable, LEGEND, TableColumn, block_title, cell_text, kept_text};
use crate::outcome::Unit;

/// Spaces around a cell.
const PADDING: usize = 2;
/// Maximum length of a model's name; longer names are shortened.
const LONGEST_NAME: usize = 20;

/// A rule under the heading and nothing else: rows are short enough to follow.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::new('─', '─', '─', '─'))
    .content_lines(ContentLineStyle::none());

impl ComparisonTable {
    /// The table as text, at most `width` characters wide (usually 80, at least 40). Domains that do not
    /// fit side by side go into another block below.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        let names = self.models.iter().map(|model| shortened(&model.name).chars().count());
        let first = names.max().unwrap_or(0).max("documents".len()) + PADDING;
        let mut text = String::new();
        for block in self.blocks() {
            text.extend(wrapped(block_title(block[0].unit), width));
            for columns in side_by_side(&block, width.saturating_sub(first)) {
                text.push_str(&self.block(columns, width));
                text.push_str("\n\n");
            }
        }
        text.extend(wrapped(LEGEND, width));
        for note in self.notes() {
            text.extend(wrapped(&note, width));
        }
        text
    }

    fn block(&self, columns: &[&TableColumn], width: usize) -> String {
        let mut table = Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        let losses = columns[0].unit == Unit::NatsPerToken;
        table.set_header(
            [String::new()]
                .into_iter()
                .chain(columns.iter().map(|column| heading(column))),
        );
        for (index, model) in self.models.iter().enumerate() {
            let cells = columns.iter().map(|column| aligned(&column.cells[index], column.unit));
            table.add_row([shortened(&model.name)].into_iter().chain(cells));
        }
        if columns.iter().any(|column| column.gain_kept.is_some()) {
            let kept = columns.iter().map(|column| format!("{}  ", kept_text(column)));
            table.add_row(["gain kept".to_owned()].into_iter().chain(kept));
        }
        let items = columns.iter().map(|column| format!("{}  ", column.n));
        table.add_row(
            [if losses { "documents" } else { "items" }.to_owned()]
                .into_iter()
                .chain(items),
        );
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}

/// Groups of consecutive columns that fit side by side, at least one each.
fn side_by_side<'a, 'b>(columns: &'a [&'b TableColumn], available: usize) -> Vec<&'a [&'b TableColumn]> {
    let width = |column: &TableColumn| {
        let cells = column
            .cells
            .iter()
            .map(|cell| aligned(cell, column.unit).chars().count());
        cells
            .chain(heading(column).lines().map(|line| line.chars().count()))
            .max()
            .unwrap_or(0)
            + PADDING
    };
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (index, column) in columns.iter().enumerate() {
        if index > start && used + width(column) > available {
            blocks.push(&columns[start..index]);
            (start, used) = (index, 0);
        }
        used += width(column);
    }
    blocks.push(&columns[start..]);
    blocks
}

/// The domain, and for scores the suite; ends where the numbers end, left of the marks.
fn heading(column: &TableColumn) -> String {
    match column.unit {
        Unit::NatsPerToken => format!("{}  ", column.domain),
        Unit::Fraction => format!("{}  \n{}  ", column.domain, column.suite),
    }
}

/// A cell with space for a mark, so that numbers are aligned.
fn aligned(cell: &Cell, unit: Unit) -> String {
    let text = cell_text(cell, unit);
    if cell.mark().is_empty() {
        format!("{text}  ")
    } else {
        text
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
}

/// The text in lines of at most `width` characters, broken at spaces; continuation lines are indented.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".into()) + "\n");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line + "\n");
    lines
}
