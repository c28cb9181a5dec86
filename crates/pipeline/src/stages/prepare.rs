//! The prepare stage of a recipe: rows are normalized, cleaned, tokenized and packed.

use std::collections::BTreeSet;

use synapse_checkpoint::Staged;
use synapse_data::{Benchmark, Manifest, PrepareEvent, PrepareRequest};
use synapse_recipe::{SpecialistPlan, Stage};
use synapse_tokenizer::ChatTokenizer;

use crate::{
    Fetched, FetchedSource, PipelineError, ProgressUnit, Run,
    record::{StageRun, fingerprint},
    run_dir::RunDir,
    stages::fetch::identities,
};

/// Prepares a recipe's data.
pub(crate) fn prepare(run: &Run<'_>, plan: &SpecialistPlan, fetched: &Fetched) -> Result<Manifest, PipelineError> {
    let chat = ChatTokenizer::open(&fetched.base.folder)?.with_template_arguments(&plan.chat)?;
    let files = RunDir::new(&plan.run_dir);
    let sources = identities(&fetched.sources);
    let requests: Vec<_> = fetched.requests.iter().map(|sources| identities(sources)).collect();
    let held_out_files = plan
        .data
        .sources
        .iter()
        .filter_map(|source| source.held_out_file.as_deref());
    let held_out_files = held_out_files
        .map(synapse_checkpoint::sha256_file)
        .collect::<Result<Vec<_>, _>>()?;
    let mut asked_for = plan.data.sources.iter().flat_map(|source| &source.requests);
    let decontaminates = plan.data.decontaminate || asked_for.any(|requests| requests.data.decontaminate);
    let kept_out = plan
        .data
        .benchmarks
        .iter()
        .map(|path| synapse_checkpoint::sha256_file(path));
    let kept_out = kept_out.collect::<Result<Vec<_>, _>>()?;
    let asked = decontaminates.then(|| (fetched.question_identities(), identities(&fetched.kept_out)));
    let shape = (
        plan.train.max_seq_len,
        plan.train.packing,
        plan.train.overlong,
        plan.train.loss_on,
        &plan.system_prompt,
    );
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Prepare,
        fingerprint: fingerprint(
            Stage::Prepare,
            &(
                &plan.data,
                shape,
                (synapse_data::FORMAT_VERSION, sources, requests),
                (held_out_files, kept_out, asked),
                chat.template_hash(),
                chat.tokenizer_hash(),
                &plan.router,
            ),
        )?,
    };
    stage.execute(
        |_: &Manifest| {
            let needed = [files.manifest(), files.train_rows(), files.row_origins()];
            needed.iter().all(|file| file.is_file())
        },
        || {
            std::fs::create_dir_all(&plan.run_dir).map_err(PipelineError::io(&plan.run_dir))?;
            let staged = Staged::beside(&files.data())?;
            let benchmarks = if decontaminates {
                benchmarks(fetched)?
            } else {
                Vec::new()
            };
            let request = PrepareRequest {
                plan: &plan.data,
                train: &plan.train,
                system_prompt: plan.system_prompt.as_deref(),
                files: fetched.sources.iter().map(|source| source.files()).collect(),
                request_files: fetched
                    .requests
                    .iter()
                    .map(|sources| sources.iter().map(FetchedSource::files).collect())
                    .collect(),
                benchmarks: &benchmarks,
                chat: &chat,
                out: staged.path(),
            };
            let manifest = synapse_data::prepare(&request, &|event| match event {
                PrepareEvent::Tokenized { done, total } => {
                    run.reporter
                        .progress("rows tokenized", ProgressUnit::Items, done as u64, Some(total as u64));
                }
                PrepareEvent::Warning(text) => run.reporter.note(&text),
                PrepareEvent::Reading { .. } | PrepareEvent::Read { .. } => {}
            })?;
            staged.publish()?;
            Ok(manifest)
        },
        |manifest| {
            format!(
                "{} rows, {} trained tokens, {} held out",
                manifest.train.rows, manifest.train.target_tokens, manifest.held_out.rows
            )
        },
    )
}

/// The questions of suites that read files: texts that must not be trained on.
fn benchmarks(fetched: &Fetched) -> Result<Vec<Benchmark>, PipelineError> {
    let mut benchmarks = Vec::new();
    // this recipe and the recipes of its requests may name the same file
    let mut read = BTreeSet::new();
    let sources = fetched.questions.values().chain(&fetched.kept_out);
    for file in sources.flat_map(|source| source.files().files) {
        if !read.insert(file.local.clone()) {
            continue;
        }
        benchmarks.push(Benchmark {
            name: file.name.clone(),
            texts: synapse_data::read_texts(&file)?,
        });
    }
    Ok(benchmarks)
}

/// The manifest of data that an earlier run has prepared, for a stage list that does not prepare it.
pub(crate) fn read_prepared(plan: &SpecialistPlan) -> Result<Manifest, PipelineError> {
    Manifest::read(&RunDir::new(&plan.run_dir).manifest()).map_err(|_| PipelineError::Missing {
        name: plan.name.clone(),
        stage: Stage::Prepare,
    })
}

/// Checks the prepared data against the recipe's limits.
///
/// # Errors
/// Every limit that the data breaks.
pub fn check_data_limits(plan: &SpecialistPlan, manifest: &Manifest) -> Result<(), PipelineError> {
    let broken = manifest.broken_limits(&plan.limits);
    if broken.is_empty() {
        return Ok(());
    }
    Err(PipelineError::Unusable {
        what: format!("the data of `{}` breaks its limits: {}", plan.name, broken.join("; ")),
        hint: "`synapse-train data report` shows why; change the data, or raise the limits in the recipe".into(),
    })
}
