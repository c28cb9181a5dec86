//! The export stage: the merged weights, a model card whose numbers come from the run, GGUF files;
//! all in one folder that appears whole.

use std::path::Path;

use synapse_checkpoint::{ModelFolder, Staged, write_atomic};
use synapse_evaluate::gate::GateDecision;
use synapse_evaluate::outcome::Unit;
use synapse_evaluate::table::{Cell, ComparisonTable, TableColumn};
use synapse_export::{
    CardComparison, CardData, CardDataset, CardGate, CardInput, CardKind, CardMerge, CardScore, CardSpecialist,
    GgufExport, Measured, export_gguf, model_card,
};
use synapse_merge::MergeReport;
use synapse_recipe::{
    Base, GgufQuantization, MergeMethod, MergePlan, QuantizationPlan, SpecialistPlan, Stage, TrainingMethod,
};

use crate::{
    PipelineError, ProgressUnit, RecipeOutcome,
    comparison::{BASE, MERGE},
    record::{StageRun, fingerprint},
    trained_pipeline::TrainedPipeline,
    translate,
};

/// What is published.
pub(crate) struct Publication<'a> {
    pub(crate) trained: &'a TrainedPipeline<'a>,
    pub(crate) merged: &'a Path,
    pub(crate) report: &'a MergeReport,
    pub(crate) table: &'a ComparisonTable,
    pub(crate) decision: &'a GateDecision,
}

/// Publishes the pipeline's output folder.
pub(crate) fn publish(publication: &Publication<'_>) -> Result<(), PipelineError> {
    let (run, plan) = (publication.trained.run, publication.trained.plan);
    let hash = ModelFolder::open(publication.merged)?.content_hash()?;
    let card = card(publication)?;
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Export,
        fingerprint: fingerprint(Stage::Export, &(&plan.export, &hash, &card))?,
    };
    stage.execute(
        |_: &u64| plan.output.join("config.json").is_file(),
        || {
            let staged = Staged::beside(&plan.output)?;
            let mut bytes = 0;
            for entry in std::fs::read_dir(publication.merged).map_err(PipelineError::io(publication.merged))? {
                let entry = entry.map_err(PipelineError::io(publication.merged))?;
                let target = staged.path().join(entry.file_name());
                // the run's own copy stays for the next merge; a link costs no space
                if std::fs::hard_link(entry.path(), &target).is_err() {
                    std::fs::copy(entry.path(), &target).map_err(PipelineError::io(&target))?;
                }
                bytes += target.metadata().map_err(PipelineError::io(&target))?.len();
            }
            let model = ModelFolder::open(staged.path())?;
            for &kind in &plan.export.gguf {
                let gguf_type = translate::gguf_quantization(kind);
                let file = gguf_name(&plan.name, kind);
                run.reporter.progress(&file, ProgressUnit::Bytes, 0, None);
                export_gguf(
                    &GgufExport {
                        model: &model,
                        config: model.config(),
                        gguf_type,
                        name: &plan.name,
                        license: None,
                    },
                    &staged.path().join(file),
                )?;
            }
            write_atomic(&staged.path().join("README.md"), model_card(&card)?.as_bytes())?;
            staged.publish()?;
            Ok(bytes)
        },
        |bytes| format!("{:.1} MB → {}", *bytes as f64 / 1e6, plan.output.display()),
    )?;
    Ok(())
}

fn gguf_name(name: &str, kind: GgufQuantization) -> String {
    format!("{name}-{kind}.gguf")
}

fn card(publication: &Publication<'_>) -> Result<CardData, PipelineError> {
    let trained = publication.trained;
    let plan = trained.plan;
    let config = ModelFolder::open(publication.merged)?.config().clone();
    let (losses, scores): (Vec<_>, Vec<_>) = publication
        .table
        .columns
        .iter()
        .partition(|column| column.unit == Unit::NatsPerToken);
    let mut notes = publication.table.notes();
    notes.push(format!(
        "The merge changed {} tensors and copied {}; merge_report.json has each one's conflicts, merge_report.svg draws them.",
        publication.report.tensors.len(),
        publication.report.copied
    ));
    let first = trained.specialists.first();
    Ok(CardData {
        kind: CardKind::Merge,
        name: plan.name.clone(),
        location: plan.output.display().to_string(),
        summary: format!(
            "{} specialists, each trained on its own domain and merged into one model.",
            trained.specialists.len()
        ),
        base: first
            .map(|(specialist, outcome)| base(specialist, outcome))
            .unwrap_or_default(),
        parameters: Some(config.parameters()),
        context_length: Some(config.max_position_embeddings as u64),
        dtype: Some(plan.export.dtype.to_string()),
        specialists: trained
            .specialists
            .iter()
            .map(|(specialist, outcome)| card_specialist(specialist, outcome))
            .collect(),
        datasets: trained
            .specialists
            .iter()
            .flat_map(|(specialist, outcome)| datasets(specialist, outcome))
            .collect(),
        merge: Some(card_merge(&plan.merge, publication.report)),
        gate: Some(CardGate {
            max_regress: plan.gate.max_regress,
            on: plan.gate.on.to_string(),
            passed: matches!(publication.decision, GateDecision::Pass { .. }),
            failures: match publication.decision {
                GateDecision::Pass { .. } => Vec::new(),
                GateDecision::Stamp { message, .. } | GateDecision::Refuse { message, .. } => vec![message.clone()],
            },
        }),
        held_out_loss: losses.iter().map(|column| comparison(column)).collect(),
        scores: scores
            .iter()
            .map(|column| CardScore {
                suite: column.suite.clone(),
                metric: if column.suite == "routing" {
                    "accuracy".into()
                } else {
                    "share of items right".into()
                },
                comparison: comparison(column),
                note: None,
            })
            .collect(),
        gguf_files: plan
            .export
            .gguf
            .iter()
            .map(|&kind| gguf_name(&plan.name, kind))
            .collect(),
        notes,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn comparison(column: &TableColumn) -> CardComparison {
    let measured = |wanted: &dyn Fn(&Cell) -> bool| {
        let cell = column.cells.iter().find(|cell| wanted(cell))?;
        let (value, interval) = (cell.value?, cell.interval?);
        Some(Measured {
            value,
            low: interval.low,
            high: interval.high,
        })
    };
    CardComparison {
        domain: column.domain.clone(),
        count: column.n as u64,
        base: measured(&|cell| cell.model == BASE),
        specialist: measured(&|cell| cell.own_domain),
        merge: measured(&|cell| cell.model == MERGE),
    }
}

fn base(specialist: &SpecialistPlan, outcome: &RecipeOutcome) -> CardInput {
    let id = match &specialist.base {
        Base::Hub { id, .. } => id.clone(),
        Base::Folder(path) | Base::Gguf(path) | Base::FromScratch(path) => path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    };
    CardInput {
        id,
        revision: outcome.fetched.base.revision.clone(),
        license: license_of(&outcome.fetched.base.folder),
        local: !matches!(specialist.base, Base::Hub { .. }),
    }
}

/// The license that a model folder's own card states.
pub(crate) fn license_of(folder: &Path) -> Option<String> {
    let card = std::fs::read_to_string(folder.join("README.md")).ok()?;
    let front = card.strip_prefix("---")?.split("\n---").next()?;
    let line = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(line.trim().trim_matches('"').to_owned())
}

fn card_specialist(plan: &SpecialistPlan, outcome: &RecipeOutcome) -> CardSpecialist {
    let storage = match plan.quantization {
        QuantizationPlan::None => String::new(),
        QuantizationPlan::Nf4 { double_quant, .. } => {
            format!(", NF4{}", if double_quant { " double-quantized" } else { "" })
        }
    };
    let method = match &plan.method {
        TrainingMethod::Lora(lora) => format!(
            "{}LoRA, rank {}, alpha {}{storage}",
            if storage.is_empty() { "" } else { "Q" },
            lora.rank,
            lora.alpha
        ),
        TrainingMethod::Full => "every weight".to_owned(),
    };
    CardSpecialist {
        name: plan.name.clone(),
        method,
        rows: outcome.manifest.as_ref().map_or(0, |manifest| manifest.train.documents),
        steps: outcome.trained.as_ref().map_or(0, |trained| trained.steps),
        learning_rate: plan.train.learning_rate,
        hash: outcome.trained.as_ref().map(|trained| trained.hash.clone()),
    }
}

fn datasets(plan: &SpecialistPlan, outcome: &RecipeOutcome) -> Vec<CardDataset> {
    let Some(manifest) = &outcome.manifest else {
        return Vec::new();
    };
    let dataset = |source: &synapse_data::SourceManifest| CardDataset {
        source: CardInput {
            id: if source.origin == "local" || source.origin.starts_with("routing generator") {
                source.dataset.clone()
            } else {
                source.origin.clone()
            },
            revision: source.revision.clone(),
            license: source.license.clone(),
            local: source.revision.is_none(),
        },
        specialist: plan.name.clone(),
        rows: source.documents,
    };
    manifest.sources.iter().map(dataset).collect()
}

/// The merge's parameters; weights and trim as the merge resolved them.
fn card_merge(plan: &MergePlan, report: &MergeReport) -> CardMerge {
    let ties = plan.method == MergeMethod::Ties;
    let trim = report
        .inputs
        .first()
        .and_then(|input| input.trim.as_ref()?.parse().ok());
    let weights = report.inputs.iter().map(|input| (input.name.clone(), input.weight));
    CardMerge {
        method: plan.method.to_string(),
        trim: trim.filter(|_| ties),
        sign: ties.then(|| plan.sign.to_string()),
        // A parameter by mergekit's name stands above the section's own field, as it does in the merge.
        lambda: plan.parameters.get("lambda").copied().unwrap_or(plan.lambda),
        weights: weights.collect(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_card_says_what_was_merged() {
        let plan = json!({"method": "ties", "trim": 0.8, "sign": "total", "lambda": 1.0, "weights": {"math": 1.0},
                          "parameters": {"density": 1.5, "weight": 0.5, "lambda": 0.7}});
        let report = json!({"format": 1, "method": "ties", "sign": "total", "tensors": [], "copied": 0,
                            "totals": synapse_merge::Totals::default(),
                            "inputs": [{"name": "math", "weight": 0.5, "trim": "0"}]});
        let plan: MergePlan = serde_json::from_value(plan).unwrap();
        let card = card_merge(&plan, &serde_json::from_value(report).unwrap());
        assert_eq!(
            (card.trim, card.lambda, card.sign.as_deref()),
            (Some(0.0), 0.7, Some("total"))
        );
        assert_eq!(card.weights, [("math".to_owned(), 0.5)]);
    }
}
