//! report.html of a pipeline's run, put together from what its stages left on disk.

use std::path::Path;

use serde_json::{Map, Value};
use synapse_checkpoint::write_atomic;
use synapse_evaluate::report::{
    self, Curve, CurvePoint, DataSummary, Fact, HeatMap, Licence, RecipeText, ReportData, Sample, StageTime,
};
use synapse_evaluate::{ComparisonTable, GateDecision};
use synapse_merge::MergeReport;
use synapse_recipe::{PipelinePlan, SpecialistPlan, Stage};
use synapse_trainer::{Metric, read_metrics};

use crate::{
    PipelineError, SpecialistOutcome,
    comparison::{BASE, MERGE},
    merging::Trained,
    record,
};

/// What the page is made of besides files.
pub(crate) struct Page<'a> {
    pub(crate) trained: &'a Trained<'a>,
    pub(crate) report: &'a MergeReport,
    pub(crate) table: &'a ComparisonTable,
    pub(crate) decision: Option<&'a GateDecision>,
}

/// Writes report.html into the run's folder.
pub(crate) fn write(page: &Page<'_>) -> Result<(), PipelineError> {
    let (plan, run) = (page.trained.plan, page.trained.run);
    let mut data = ReportData {
        name: plan.name.clone(),
        subtitle: format!(
            "{} specialists on {}",
            plan.specialists.len(),
            plan.base().map_or_else(String::new, ToString::to_string)
        ),
        command: run.options.command.clone(),
        recipes: recipes(plan),
        stages: stages(plan)?,
        table: Some(page.table.clone()),
        gate: page.decision.cloned(),
        merge_map: Some(HeatMap::of_layers(
            "Sign conflicts",
            "Share of the voted entries where specialists disagree about the sign.",
            page.report
                .tensors
                .iter()
                .map(|tensor| (tensor.name.as_str(), tensor.disagreement)),
        )),
        resources: resources(),
        ..ReportData::default()
    };
    for (specialist, outcome) in &page.trained.specialists {
        data.curves.push(curve(specialist)?);
        data.data.extend(summaries(specialist, outcome));
        data.licences.extend(licences(specialist, outcome));
        data.samples.extend(samples(plan, specialist)?);
    }
    data.licences.dedup();
    Ok(write_atomic(
        &plan.run_dir.join("report.html"),
        report::render(&data)?.as_bytes(),
    )?)
}

fn recipes(plan: &PipelinePlan) -> Vec<RecipeText> {
    let files = std::iter::once(&plan.file).chain(plan.specialists.iter().map(|specialist| &specialist.file));
    files
        .filter_map(|file| {
            Some(RecipeText {
                file: file.display().to_string(),
                text: std::fs::read_to_string(file).ok()?,
            })
        })
        .collect()
}

/// Stages one after another with the seconds of the run that made each.
fn stages(plan: &PipelinePlan) -> Result<Vec<StageTime>, PipelineError> {
    let mut stages = Vec::new();
    let mut start = 0.0;
    let runs = plan
        .specialists
        .iter()
        .map(|specialist| (specialist.name.as_str(), specialist.run_dir.as_path()));
    for (name, folder) in runs.chain([(plan.name.as_str(), plan.run_dir.as_path())]) {
        for stage in Stage::ALL {
            if let Some(record) = record::read::<Value>(folder, stage)? {
                stages.push(StageTime {
                    name: format!("{name}: {}", stage.id()),
                    start,
                    seconds: record.seconds,
                    note: String::new(),
                });
                start += record.seconds;
            }
        }
    }
    Ok(stages)
}

fn curve(plan: &SpecialistPlan) -> Result<Curve, PipelineError> {
    let mut curve = Curve {
        name: plan.name.clone(),
        ..Curve::default()
    };
    for metric in read_metrics(&plan.run_dir)? {
        match metric {
            Metric::Step(step) => curve.points.push(CurvePoint {
                step: step.step,
                loss: step.loss,
                learning_rate: step.learning_rate,
                tokens_per_second: step.tokens as f64 / step.seconds.max(1e-9),
            }),
            Metric::HeldOut(loss) => curve.held_out.push((loss.step, loss.held_out_loss)),
        }
    }
    Ok(curve)
}

fn summaries(plan: &SpecialistPlan, outcome: &SpecialistOutcome) -> Vec<DataSummary> {
    let Some(manifest) = &outcome.manifest else {
        return Vec::new();
    };
    let summary = |source: &synapse_data::SourceManifest| DataSummary {
        domain: plan.name.clone(),
        source: source.dataset.clone(),
        revision: source.revision.clone().unwrap_or_default(),
        read: source.rows_read,
        kept: source.documents,
        held_out: source.held_out_rows,
        trained_tokens: source.trained_tokens,
        lengths: source.lengths.histogram.clone(),
        longest_row: manifest.max_seq_len as u64,
        tokens_lost: source.overlong.tokens_lost,
        licence: source.licence.clone().unwrap_or_else(|| "none stated".to_owned()),
        note: source
            .dropped
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
            .collect::<Vec<_>>()
            .join(", "),
    };
    manifest.sources.iter().map(summary).collect()
}

fn licences(plan: &SpecialistPlan, outcome: &SpecialistOutcome) -> Vec<Licence> {
    // A dataset that only its own card describes has its licence in the manifest.
    let found = |index: usize| outcome.manifest.as_ref()?.sources.get(index)?.licence.clone();
    let licence = |(index, source): (usize, &synapse_recipe::SourcePlan)| {
        let licence = source.licence.clone().or_else(|| found(index));
        let non_commercial = licence.as_deref().is_some_and(synapse_data::is_non_commercial);
        let note = if non_commercial {
            "not for commercial use, nor is what is trained on it"
        } else {
            ""
        };
        Licence {
            covers: source.dataset.clone(),
            licence: licence.unwrap_or_else(|| "none stated".to_owned()),
            note: note.to_owned(),
        }
    };
    plan.data.sources.iter().enumerate().map(licence).collect()
}

/// A few held-out prompts with the answers of base, specialist and merge, from the logs of a suite that generates.
fn samples(plan: &PipelinePlan, specialist: &SpecialistPlan) -> Result<Vec<Sample>, PipelineError> {
    let folder = plan.run_dir.join("evaluation");
    for suite in ["exact-match", "gsm8k", "expression", "code-tests", "routing-exact"] {
        let mut models: Vec<(&str, Vec<Map<String, Value>>)> = Vec::new();
        for subject in [BASE, specialist.name.as_str(), MERGE] {
            let records = log(&folder.join(format!("{}.{suite}.{subject}.jsonl", specialist.name)))?;
            if !records.is_empty() {
                models.push((subject, records));
            }
        }
        if !models.is_empty() {
            let models: Vec<(&str, &[Map<String, Value>])> = models
                .iter()
                .map(|(name, records)| (*name, records.as_slice()))
                .collect();
            return Ok(Sample::side_by_side(&specialist.name, &models, 3));
        }
    }
    Ok(Vec::new())
}

fn log(path: &Path) -> Result<Vec<Map<String, Value>>, PipelineError> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(PipelineError::io(path))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

fn resources() -> Vec<Fact> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .map(str::trim);
    let mut facts = vec![
        fact("instruction set", synapse_kernels::Isa::current().name()),
        fact("threads", synapse_kernels::threads().to_string()),
        fact("version", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(peak) = peak {
        facts.push(fact("peak memory of this invocation", peak));
    }
    facts
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.into(),
    }
}
