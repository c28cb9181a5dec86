//! `data inspect`: one prepared row, token by token, as the training step reads it, with the source of each document, its
//! truncated tokens, and whether its last answer ends with a stop token that carries loss.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::{Value, json};
use synapse_data::{DocumentOrigin, PackedDataset, PackedRow, read_origins};
use synapse_recipe::SpecialistPlan;
use synapse_tokenizer::ChatTokenizer;

use crate::{args::Color, failure::Failure};

/// The part of a token in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// Context without loss.
    Context,
    /// A target, with loss.
    Target,
    /// Truncated from the document's end and not in the row.
    Truncated,
}

/// One row as text or JSON.
pub(crate) fn inspect(
    plan: &SpecialistPlan,
    base: &Path,
    index: usize,
    color: Color,
    as_json: bool,
) -> Result<String, Failure> {
    let data = plan.run_dir.join("data");
    let rows = PackedDataset::open(&data.join("train.arrow"))?;
    if index >= rows.len() {
        return Err(Failure::request(format!(
            "--row {index}: {} has {} rows, numbered from 0",
            plan.name,
            rows.len()
        )));
    }
    let shown = InspectedRow {
        chat: ChatTokenizer::open(base)?.with_template_arguments(&plan.chat)?,
        row: rows.row(index),
        origins: read_origins(&data.join("origins.jsonl"), index)?,
    };
    if as_json {
        return Ok(serde_json::to_string_pretty(&shown.json(&plan.name, index))?);
    }
    let colored = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
    };
    shown.text(&format!("{} row {index}", plan.name), colored)
}

struct InspectedRow {
    chat: ChatTokenizer,
    row: PackedRow,
    origins: Vec<DocumentOrigin>,
}

impl InspectedRow {
    /// The documents with their first positions.
    fn documents(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Option<&DocumentOrigin>)> {
        let mut start = 0;
        self.row.seq_lengths.iter().enumerate().map(move |(index, &length)| {
            let range = start..start + length as usize;
            start = range.end;
            (range, self.origins.get(index))
        })
    }

    fn is_target(&self, position: usize) -> bool {
        self.row.labels[position] != -100
    }

    fn text(&self, title: &str, colored: bool) -> Result<String, Failure> {
        let count = |range: std::ops::Range<usize>| range.filter(|&position| self.is_target(position)).count();
        let all = self.row.input_ids.len();
        let mut text = format!(
            "{title}: {all} tokens in {} documents, {} trained\n",
            self.row.seq_lengths.len(),
            count(0..all)
        );
        for (range, origin) in self.documents() {
            let place = origin.map_or_else(String::new, |origin| format!("{}, {}: ", origin.source, origin.place));
            let part = origin.filter(|origin| origin.of > range.len());
            let part = part.map_or_else(String::new, |origin| {
                format!(" (from {} of {})", origin.from, origin.of)
            });
            text.push_str(&format!(
                "\n── {place}{} tokens{part}, {} trained; {}\n",
                range.len(),
                count(range.clone()),
                self.ending(range.clone(), origin)
            ));
            let mut tokens: Vec<(u32, TokenKind)> = range
                .map(|position| {
                    let kind = if self.is_target(position) {
                        TokenKind::Target
                    } else {
                        TokenKind::Context
                    };
                    (self.row.input_ids[position], kind)
                })
                .collect();
            let cut = origin.into_iter().flat_map(|origin| &origin.cut);
            tokens.extend(cut.map(|&id| (id, TokenKind::Truncated)));
            for run in tokens.chunk_by(|a, b| a.1 == b.1) {
                let ids: Vec<u32> = run.iter().map(|(id, _)| *id).collect();
                text.push_str(&marked(&self.chat.decode(&ids, false)?, run[0].1, colored));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Whether the document's last target is a token that ends an answer or a text.
    fn ending(&self, range: std::ops::Range<usize>, origin: Option<&DocumentOrigin>) -> String {
        if let Some(origin) = origin.filter(|origin| !origin.cut.is_empty()) {
            return format!("its last {} tokens are cut off", origin.cut.len());
        }
        let last = range.rev().find(|&position| self.is_target(position));
        let Some(id) = last.map(|position| self.row.input_ids[position]) else {
            return "nothing is trained".to_owned();
        };
        let ends = self.chat.stop_ids().contains(&id) || self.chat.document_end() == Some(id);
        let token = self.chat.token_text(id);
        if ends {
            format!("learns to stop with {token}")
        } else {
            format!("does not learn to stop: its last trained token is {token:?}")
        }
    }

    fn json(&self, name: &str, index: usize) -> Value {
        let documents = self.documents().map(|(range, origin)| {
            let tokens: Vec<Value> = range
                .map(|position| {
                    let id = self.row.input_ids[position];
                    json!({ "id": id, "text": self.chat.token_text(id), "trained": self.is_target(position) })
                })
                .collect();
            json!({
                "source": origin.map(|origin| &origin.source),
                "place": origin.map(|origin| &origin.place),
                "from": origin.map(|origin| origin.from),
                "of": origin.map(|origin| origin.of),
                "tokens": tokens,
                "cut": origin.map(|origin| &origin.cut),
            })
        });
        json!({ "name": name, "row": index, "documents": documents.collect::<Vec<_>>() })
    }
}

/// Text of one kind, in color or between brackets.
fn marked(text: &str, kind: TokenKind, colored: bool) -> String {
    let (before, after) = match (kind, colored) {
        (TokenKind::Context, false) => ("", ""),
        (TokenKind::Target, false) => ("【", "】"),
        (TokenKind::Truncated, false) => ("⟪", "⟫"),
        (TokenKind::Context, true) => ("\x1b[2m", "\x1b[0m"),
        (TokenKind::Target, true) => ("\x1b[1;32m", "\x1b[0m"),
        (TokenKind::Truncated, true) => ("\x1b[9;31m", "\x1b[0m"),
    };
    format!("{before}{text}{after}")
}
