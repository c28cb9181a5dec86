//! `status`: the runs below a folder and how far they are.

use std::path::Path;

use serde_json::json;
use synapse_recipe::Stage;
use synapse_trainer::{Metric, read_metrics};

use crate::{
    Outcome,
    commands::{print, print_json},
};

/// Lists runs in name order.
pub(crate) fn status(outputs: &Path, as_json: bool) -> Outcome {
    let runs = outputs.join("runs");
    let mut names: Vec<_> = std::fs::read_dir(&runs)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let mut rows = Vec::new();
    for entry in names {
        let folder = entry.path();
        let done: Vec<&str> = Stage::ALL
            .iter()
            .filter(|stage| folder.join("stages").join(format!("{}.json", stage.id())).is_file())
            .map(|stage| stage.id())
            .collect();
        let last = read_metrics(&folder)?
            .into_iter()
            .rev()
            .find_map(|metric| match metric {
                Metric::Step(report) => Some((report.step, report.loss)),
                Metric::HeldOut(_) => None,
            });
        rows.push((entry.file_name().to_string_lossy().into_owned(), done, last));
    }
    if as_json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, done, last)| json!({"name": name, "stages": done, "step": last.map(|(step, _)| step), "loss": last.map(|(_, loss)| loss)}))
            .collect();
        return print_json(&list);
    }
    if rows.is_empty() {
        return print(&format!("no runs in {}", runs.display()));
    }
    let mut text = String::new();
    for (name, done, last) in rows {
        let step = last.map_or_else(String::new, |(step, loss)| format!("  step {step}, loss {loss:.4}"));
        text.push_str(&format!("{name:16} {}{step}\n", done.join(" → ")));
    }
    print(&text)
}
