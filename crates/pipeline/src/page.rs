//! report.html of a run, made from the files in its folder: during the run, at its end, and for `synapse-train report`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use synapse_checkpoint::write_atomic;
use synapse_data::Manifest;
use synapse_evaluate::report::{
    self, Curve, CurvePoint, DataSummary, HeatMap, License, RecipeText, ReportData, Sample, SearchSummary, StageTime,
    TokenTrace,
};
use synapse_evaluate::table::{ComparedModel, ComparisonTable, TableRole};
use synapse_evaluate::{Outcome, gate::GateDecision};
use synapse_merge::MergeReport;
use synapse_recipe::{PipelinePlan, Plan, SpecialistPlan, Stage};
use synapse_trainer::{Metric, RouterReport, read_metrics};

mod live;
mod usage;

pub(crate) use live::with_page;

use crate::{
    Fetched, PipelineError,
    comparison::{BASE, MERGE, compare},
    outcomes, record,
    run_dir::RunDir,
    stages::export::license_of,
    trace::{self, TracedLayer, TracedText, TracedToken},
};

/// Suites whose answers are worth reading, best first.
const READABLE: [&str; 9] = [
    "exact-match",
    "gsm8k",
    "expression",
    "code-tests",
    "humaneval",
    "mbpp",
    "custom",
    "routing-exact",
    "routing",
];

/// The state of a run, for the top of its page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Running; the current work.
    Running(String),
    /// Ended early; the reason.
    Broken(String),
    /// Done.
    Done,
}

/// Writes report.html from the files in a run's folder and returns its path.
///
/// # Errors
/// The folder is not a run's, or one of its files cannot be read.
pub fn report(run: &Path) -> Result<PathBuf, PipelineError> {
    write(&document(run)?, &State::Done)
}

/// The plan that a run left.
fn document(run: &Path) -> Result<Plan, PipelineError> {
    let path = RunDir::new(run).plan();
    let text = std::fs::read(&path).map_err(|_| PipelineError::Unusable {
        what: format!("{} is not a run's folder: it has no plan.json", run.display()),
        hint: "runs are in outputs/runs/NAME; `synapse-train status` lists them".into(),
    })?;
    let unreadable = |error: serde_json::Error| PipelineError::Unusable {
        what: format!("{} was written by another version: {error}", path.display()),
        hint: "run the recipe or pipeline again with this version; stages that are still valid are skipped".into(),
    };
    let value: Value = serde_json::from_slice(&text).map_err(unreadable)?;
    // the folder may have moved since the run
    Ok(if value.get("specialists").is_some() {
        let mut plan: PipelinePlan = serde_json::from_value(value).map_err(unreadable)?;
        run.clone_into(&mut plan.run_dir);
        Plan::Pipeline(plan)
    } else {
        let mut plan: SpecialistPlan = serde_json::from_value(value).map_err(unreadable)?;
        run.clone_into(&mut plan.run_dir);
        Plan::Specialist(plan)
    })
}

/// Writes the page of a run in this state.
pub(crate) fn write(document: &Plan, state: &State) -> Result<PathBuf, PipelineError> {
    let data = collect(document, state)?;
    let path = RunDir::new(document.run_dir()).report();
    write_atomic(&path, report::render(&data)?.as_bytes())?;
    Ok(path)
}

fn collect(document: &Plan, state: &State) -> Result<ReportData, PipelineError> {
    let run = document.run_dir();
    let usage = usage::Usage::read(run);
    let (specialists, subtitle) = match document {
        Plan::Specialist(plan) => (std::slice::from_ref(plan), format!("on {}", plan.base)),
        Plan::Pipeline(plan) => (
            plan.specialists.as_slice(),
            format!(
                "{} specialists on {}, merged by {}",
                plan.specialists.len(),
                plan.base().map_or_else(String::new, ToString::to_string),
                plan.merge.method
            ),
        ),
    };
    let measured = outcomes(run)?;
    let mut data = ReportData {
        name: document.name().to_owned(),
        subtitle,
        command: usage.as_ref().map(|usage| usage.command.clone()).unwrap_or_default(),
        recipes: recipes(document),
        stages: stages(document)?,
        table: table(&measured)?,
        merge_map: merge_map(run)?,
        search: searched(run)?,
        resources: usage.map(|usage| usage.facts(run)).unwrap_or_default(),
        ..ReportData::default()
    };
    match state {
        State::Running(doing) => data.refresh = Some((REFRESH_SECONDS, doing.clone())),
        State::Broken(why) => data.broken = Some(why.clone()),
        State::Done => {}
    }
    if let Ok(text) = std::fs::read(RunDir::new(run).gate()) {
        data.gate = serde_json::from_slice::<GateDecision>(&text).ok();
    }
    for specialist in specialists {
        let curve = curve(specialist)?;
        if !(curve.points.is_empty() && curve.held_out.is_empty()) {
            data.curves.push(curve);
        }
        data.router_maps.extend(router_map(specialist)?);
        for model in [specialist.name.as_str(), MERGE] {
            let sample = trace::read_sample(&RunDir::new(run).evaluation(), &specialist.name, model)?;
            data.traces
                .extend(sample.map(|sample| traced(&specialist.name, model, &sample)));
        }
        let manifest = Manifest::read(&RunDir::new(&specialist.run_dir).manifest()).ok();
        data.data
            .extend(manifest.iter().flat_map(|manifest| summaries(specialist, manifest)));
        data.licenses.extend(base_license(specialist)?);
        data.licenses.extend(licenses(specialist, manifest.as_ref()));
        data.samples.extend(samples(run, specialist, &measured)?);
    }
    let mut seen: Vec<License> = Vec::new();
    data.licenses.retain(|license| {
        let new = !seen.contains(license);
        if new {
            seen.push(license.clone());
        }
        new
    });
    Ok(data)
}

/// Seconds after which a running page loads itself again.
const REFRESH_SECONDS: u32 = 5;

/// Everything measured as one table; a lone model is compared with nothing.
fn table(measured: &[Outcome]) -> Result<Option<ComparisonTable>, PipelineError> {
    if measured.is_empty() {
        return Ok(None);
    }
    if measured.iter().any(|outcome| outcome.model == BASE) {
        return compare(measured).map(Some);
    }
    let alone: Vec<Outcome> = measured
        .iter()
        .filter(|outcome| outcome.model == measured[0].model)
        .cloned()
        .collect();
    let model = ComparedModel::new(alone[0].model.clone(), TableRole::Base);
    Ok(Some(ComparisonTable::new(vec![model], &alone)?))
}

/// What a search has left in the run's folder.
fn searched(run: &Path) -> Result<Option<SearchSummary>, PipelineError> {
    let folder = RunDir::new(run).search();
    let (Ok(found), Ok(plot)) = (
        std::fs::read(folder.join("search.json")),
        std::fs::read_to_string(folder.join("front.svg")),
    ) else {
        return Ok(None);
    };
    let unreadable = |error: serde_json::Error| PipelineError::Unusable {
        what: format!(
            "{} was written by another version: {error}",
            folder.join("search.json").display()
        ),
        hint: "search again with this version".into(),
    };
    let found: Value = serde_json::from_slice(&found).map_err(unreadable)?;
    let lacks = |what: &str| PipelineError::Unusable {
        what: format!("{} lacks {what}", folder.join("search.json").display()),
        hint: "search again with this version".into(),
    };
    let kept = |trial: &Value| {
        let mean = trial["mean_gain_kept"]
            .as_f64()
            .ok_or_else(|| lacks("a trial's mean_gain_kept"))?;
        Ok::<_, PipelineError>(format!("{:.1} %", 100.0 * mean))
    };
    let chosen = found["chosen"].as_u64().ok_or_else(|| lacks("chosen"))?;
    let chosen = &found["finalists"][chosen as usize];
    let words = format!(
        "{} merges were tried on held-out loss. The chosen one keeps {} of the specialists' gains on average (trim {}, lambda {}); \
         the pipeline's own merge at that time kept {}, and the best with its trim {}.",
        found["tried"],
        kept(chosen)?,
        chosen["trim"],
        chosen["lambda"],
        kept(&found["own"])?,
        kept(&found["best_at_own_trim"])?,
    );
    Ok(Some(SearchSummary { words, plot }))
}

fn merge_map(run: &Path) -> Result<Option<HeatMap>, PipelineError> {
    let merged = record::read::<MergeReport>(run, Stage::Merge)?;
    Ok(merged.map(|record| {
        let tensors = record.result.tensors;
        HeatMap::of_layers(
            "Sign conflicts",
            "Share of the voted entries where specialists disagree about the sign.",
            tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.disagreement)),
        )
    }))
}

/// Steps at the end of a run whose routing is shown.
const ROUTED_STEPS: usize = 20;

/// Where the routers of a trained model sent the tokens of its last steps.
fn router_map(plan: &SpecialistPlan) -> Result<Option<HeatMap>, PipelineError> {
    let metrics = read_metrics(&plan.run_dir)?;
    let reports: Vec<&RouterReport> = metrics
        .iter()
        .rev()
        .filter_map(|metric| match metric {
            Metric::Step(step) => step.router.as_ref(),
            Metric::HeldOut(_) => None,
        })
        .take(ROUTED_STEPS)
        .collect();
    let Some(last) = reports.first() else {
        return Ok(None);
    };
    let share = |layer: usize, module: usize| {
        let sum: f64 = reports.iter().map(|report| report.shares[layer][module]).sum();
        sum / reports.len() as f64
    };
    let values = (0..last.shares.len())
        .map(|layer| (0..last.modules.len()).map(|module| share(layer, module)).collect())
        .collect();
    Ok(Some(HeatMap {
        title: format!("Modules that fired, {}", plan.name),
        explanation: format!(
            "Share of the last {} steps' tokens that each layer sent to a module. At the end the experts' loads had {:.0} % of \
             an even load's entropy, and {} experts got nothing.",
            reports.len(),
            100.0 * last.load_entropy,
            last.dead_experts
        ),
        rows: (0..last.shares.len()).map(|layer| layer.to_string()).collect(),
        columns: last.modules.clone(),
        values,
    }))
}

/// A traced sample as the page draws it: the answer's tokens, with the layers' means.
fn traced(domain: &str, model: &str, sample: &TracedText) -> TokenTrace {
    let words = |tokens: &[TracedToken]| tokens.iter().map(|token| token.text.as_str()).collect::<String>();
    let from = sample.answer_from;
    let mean = |of: &dyn Fn(&TracedLayer) -> f32| {
        let sum: f64 = sample.layers.iter().map(|layer| f64::from(of(layer))).sum();
        sum / sample.layers.len().max(1) as f64
    };
    let answer = from..sample.tokens.len();
    TokenTrace {
        domain: domain.to_owned(),
        model: model.to_owned(),
        prompt: words(&sample.tokens[..from]),
        tokens: sample.tokens[from..].iter().map(|token| token.text.clone()).collect(),
        modules: sample.modules.clone(),
        weights: answer
            .clone()
            .map(|at| {
                (0..sample.modules.len())
                    .map(|module| mean(&|layer| layer.weights[at][module]))
                    .collect()
            })
            .collect(),
        memory_writes: answer.clone().map(|at| mean(&|layer| layer.memory_write[at])).collect(),
        memory_reads: answer.map(|at| mean(&|layer| layer.memory_read[at])).collect(),
    }
}

fn recipes(document: &Plan) -> Vec<RecipeText> {
    let files: Vec<&PathBuf> = match document {
        Plan::Specialist(plan) => vec![&plan.file],
        Plan::Pipeline(plan) => std::iter::once(&plan.file)
            .chain(plan.specialists.iter().map(|specialist| &specialist.file))
            .collect(),
    };
    files
        .into_iter()
        .filter_map(|file| {
            Some(RecipeText {
                file: file.display().to_string(),
                text: std::fs::read_to_string(file).ok()?,
            })
        })
        .collect()
}

/// Stages one after another with the seconds of the run that made each.
fn stages(document: &Plan) -> Result<Vec<StageTime>, PipelineError> {
    let runs: Vec<(&str, &Path)> = match document {
        Plan::Specialist(plan) => vec![(plan.name.as_str(), plan.run_dir.as_path())],
        Plan::Pipeline(plan) => plan
            .specialists
            .iter()
            .map(|specialist| (specialist.name.as_str(), specialist.run_dir.as_path()))
            .chain([(plan.name.as_str(), plan.run_dir.as_path())])
            .collect(),
    };
    let mut stages = Vec::new();
    let mut start = 0.0;
    for (name, folder) in runs {
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

fn summaries(plan: &SpecialistPlan, manifest: &Manifest) -> Vec<DataSummary> {
    let summary = |source: &synapse_data::SourceManifest| DataSummary {
        domain: plan.name.clone(),
        source: source.dataset.clone(),
        revision: source.revision.clone().unwrap_or_default(),
        read: source.rows_read,
        kept: source.documents,
        held_out: source.held_out_rows,
        trained_tokens: source.target_tokens,
        lengths: source.lengths.histogram.clone(),
        longest_row: manifest.max_seq_len as u64,
        tokens_lost: source.overlong.tokens_lost,
        license: source.license.clone().unwrap_or_else(|| "none stated".to_owned()),
        note: source
            .dropped
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
            .collect::<Vec<_>>()
            .join(", "),
    };
    manifest.sources.iter().map(summary).collect()
}

/// What a base's own card states.
fn base_license(plan: &SpecialistPlan) -> Result<Option<License>, PipelineError> {
    let fetched = record::read::<Fetched>(&plan.run_dir, Stage::Fetch)?;
    Ok(fetched.map(|record| License {
        covers: record.result.base.name.clone(),
        license: license_of(&record.result.base.folder).unwrap_or_else(|| "none stated".to_owned()),
        note: "the base".to_owned(),
    }))
}

fn licenses(plan: &SpecialistPlan, manifest: Option<&Manifest>) -> Vec<License> {
    // A dataset that only its own card describes has its license in the manifest.
    let found = |index: usize| manifest?.sources.get(index)?.license.clone();
    let license = |(index, source): (usize, &synapse_recipe::SourcePlan)| {
        let license = source.license.clone().or_else(|| found(index));
        let non_commercial = license.as_deref().is_some_and(synapse_data::is_non_commercial);
        let note = if non_commercial {
            "not for commercial use, nor is what is trained on it"
        } else {
            ""
        };
        License {
            covers: source.dataset.clone(),
            license: license.unwrap_or_else(|| "none stated".to_owned()),
            note: note.to_owned(),
        }
    };
    plan.data.sources.iter().enumerate().map(license).collect()
}

/// A few prompts with the answers of base, specialist and merge, from the logs of a suite whose answers can be read.
fn samples(run: &Path, specialist: &SpecialistPlan, measured: &[Outcome]) -> Result<Vec<Sample>, PipelineError> {
    let folder = RunDir::new(run).evaluation();
    let own: Vec<&Outcome> = measured
        .iter()
        .filter(|outcome| outcome.domain == specialist.name)
        .collect();
    for suite in READABLE {
        let mut models: Vec<(&str, Vec<Map<String, Value>>)> = Vec::new();
        for model in [BASE, specialist.name.as_str(), MERGE] {
            if own
                .iter()
                .any(|outcome| outcome.suite == suite && outcome.model == model)
            {
                let records = log(&folder.join(format!("{}.{suite}.{model}.jsonl", specialist.name)))?;
                models.push((model, records));
            }
        }
        models.retain(|(_, records)| !records.is_empty());
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
