//! `status`: lists the runs in a folder and their finished stages.

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
        let next = planned(&folder)
            .into_iter()
            .find(|stage| !done.contains(&stage.as_str()) && !published(&folder, stage));
        rows.push((entry.file_name().to_string_lossy().into_owned(), done, next, last));
    }
    if as_json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, done, next, last)| json!({"name": name, "stages": done, "waits_for": next, "step": last.map(|(step, _)| step), "loss": last.map(|(_, loss)| loss)}))
            .collect();
        return print_json(&list);
    }
    if rows.is_empty() {
        return print(&format!("no runs in {}", runs.display()));
    }
    let mut text = String::new();
    for (name, done, next, last) in rows {
        let waits = next.map_or_else(|| "  done".to_owned(), |stage| format!("  waits for {stage}"));
        let step = last.map_or_else(String::new, |(step, loss)| format!("  step {step}, loss {loss:.4}"));
        text.push_str(&format!("{name:16} {}{step}{waits}\n", done.join(" → ")));
    }
    print(&text)
}

/// The stages that a run's plan names: its own, or those of a pipeline.
fn planned(run: &Path) -> Vec<String> {
    let plan: Option<serde_json::Value> = std::fs::read(run.join("plan.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let Some(plan) = plan else {
        return Vec::new();
    };
    match plan.get("stages").and_then(|stages| stages.as_array()) {
        Some(stages) => stages
            .iter()
            .filter_map(|stage| stage.as_str().map(str::to_owned))
            .collect(),
        None => [Stage::Evaluate, Stage::Merge, Stage::Gate, Stage::Export]
            .map(|stage| stage.id().to_owned())
            .to_vec(),
    }
}

/// Exporting writes no record: it is done once the pipeline's output exists.
fn published(run: &Path, stage: &str) -> bool {
    let output = run.parent().and_then(Path::parent).zip(run.file_name());
    stage == Stage::Export.id() && output.is_some_and(|(outputs, name)| outputs.join(name).is_dir())
}
