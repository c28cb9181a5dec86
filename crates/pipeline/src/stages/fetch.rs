//! The fetch stage: base and datasets are downloaded, verified and hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{GgufModel, sha256_file, write_atomic};
use synapse_hub::{DatasetQuery, Hub};
use synapse_recipe::{Base, Location, RequestsPlan, SpecialistPlan, Stage, SuiteId};

mod sources;

pub use sources::{Downloads, FetchedSource};

use sources::{fetch_source, fetch_whole};

use crate::{
    PipelineError, Reporter, Run,
    record::{StageRun, fingerprint},
    run_dir::RunDir,
};

/// The files of a recipe, on this disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// The base.
    pub base: FetchedBase,
    /// The files of every source, in the plan's order.
    pub sources: Vec<FetchedSource>,
    /// The files of every recipe whose requests generated rows are made of.
    #[serde(default)]
    pub requests: Vec<Vec<FetchedSource>>,
    /// Suite → the files its questions are in.
    pub questions: BTreeMap<SuiteId, FetchedSource>,
    /// The files of questions that other recipes' requests are held against.
    #[serde(default)]
    pub kept_out: Vec<FetchedSource>,
}

/// A base on this disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FetchedBase {
    /// Its folder.
    pub folder: PathBuf,
    /// How adapters name it: the hub id, or the folder.
    pub name: String,
    /// Commit of a hub base.
    pub revision: Option<String>,
    /// sha256 over configuration and weights (over configuration and tokenizer for a base without weights).
    pub hash: String,
    /// Whether it has no weights yet.
    #[serde(rename = "fresh")]
    pub from_scratch: bool,
}

/// Fetches what a recipe needs.
pub(crate) fn fetch(run: &Run<'_>, plan: &SpecialistPlan) -> Result<Fetched, PipelineError> {
    // local inputs may change under the same name, so their contents belong to the fingerprint
    let local = local_hashes(run, plan)?;
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Fetch,
        fingerprint: fingerprint(
            Stage::Fetch,
            &(
                &plan.base,
                &plan.data.sources,
                plan.data.seed,
                local,
                plan.evaluate.questions().collect::<Vec<_>>(),
            ),
        )?,
    };
    stage.execute(
        |fetched: &Fetched| {
            fetched.base.folder.is_dir()
                && fetched
                    .all()
                    .chain(fetched.questions.values())
                    .chain(&fetched.kept_out)
                    .all(|source| source.listed().iter().all(|(_, local, _)| local.is_file()))
        },
        || {
            let base = fetch_base(run, plan)?;
            let sources = plan
                .data
                .sources
                .iter()
                .map(|source| fetch_source(run, source, plan.data.seed))
                .collect::<Result<_, _>>()?;
            let requests = requests(plan)
                .map(|requests| {
                    let sources = requests.data.sources.iter();
                    sources
                        .map(|source| fetch_source(run, source, requests.data.seed))
                        .collect()
                })
                .collect::<Result<_, _>>()?;
            Ok(Fetched {
                base,
                sources,
                requests,
                questions: fetch_questions(run, plan)?,
                kept_out: fetch_kept_out(run, plan)?,
            })
        },
        |fetched| {
            let files: usize = fetched.all().map(|source| source.listed().len()).sum();
            format!(
                "{}, {files} file{}",
                fetched.base.name,
                if files == 1 { "" } else { "s" }
            )
        },
    )
}

impl Fetched {
    /// Suite → name and sha256 of the files with its questions.
    pub(crate) fn question_identities(&self) -> QuestionIdentities<'_> {
        let suites = self.questions.iter();
        suites.map(|(suite, files)| (suite.id(), files.identity())).collect()
    }

    /// The files of every source: the plan's own, then those of other recipes' requests.
    fn all(&self) -> impl Iterator<Item = &FetchedSource> {
        self.sources.iter().chain(self.requests.iter().flatten())
    }
}

/// Suite → name and sha256 of the files with its questions.
pub(crate) type QuestionIdentities<'a> = Vec<(&'a str, Vec<(&'a str, &'a str)>)>;

/// Name and sha256 of the files of every source.
pub(crate) fn identities(sources: &[FetchedSource]) -> Vec<Vec<(&str, &str)>> {
    sources.iter().map(FetchedSource::identity).collect()
}

/// The recipes whose requests generated rows are made of.
fn requests(plan: &SpecialistPlan) -> impl Iterator<Item = &RequestsPlan> {
    plan.data.sources.iter().flat_map(|source| &source.requests)
}

fn local_hashes(run: &Run<'_>, plan: &SpecialistPlan) -> Result<Vec<String>, PipelineError> {
    let mut hashes = Vec::new();
    match &plan.base {
        Base::Hub { .. } => {}
        Base::Folder(folder) => hashes.push(run.model_hash(folder)?),
        Base::Gguf(file) => hashes.push(GgufModel::open(file)?.content_hash()?),
        Base::FromScratch(folder) => hashes.push(from_scratch_hash(folder)?),
    }
    let kept_out = requests(plan).flat_map(|requests| requests.questions.iter().filter_map(|(_, file)| file.as_ref()));
    for file in plan.evaluate.files.values().chain(kept_out) {
        hashes.push(sha256_file(file)?);
    }
    let asked = requests(plan).flat_map(|requests| &requests.data.sources);
    for source in plan.data.sources.iter().chain(asked) {
        if let Location::File(path) = &source.location {
            hashes.push(sha256_file(path)?);
        }
    }
    Ok(hashes)
}

/// A base without weights is its configuration and tokenizer.
fn from_scratch_hash(folder: &Path) -> Result<String, PipelineError> {
    let mut joined = String::new();
    for name in ["config.json", "tokenizer.json"] {
        joined.push_str(&sha256_file(&folder.join(name))?);
    }
    Ok(synapse_checkpoint::sha256_bytes(joined.as_bytes()))
}

fn fetch_base(run: &Run<'_>, plan: &SpecialistPlan) -> Result<FetchedBase, PipelineError> {
    let folder_base = |folder: &Path, name: String, revision: Option<String>| -> Result<FetchedBase, PipelineError> {
        Ok(FetchedBase {
            hash: run.model_hash(folder)?,
            folder: folder.to_owned(),
            name,
            revision,
            from_scratch: false,
        })
    };
    match &plan.base {
        Base::Hub { id, revision } => {
            let folder = {
                let progress = Downloads::new(run.reporter, id);
                Hub::from_env(run.options.offline)?.model(id, revision.as_deref(), &progress)?
            };
            // a snapshot folder is named after its commit
            let commit = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            folder_base(&folder, id.clone(), commit)
        }
        Base::Folder(folder) => folder_base(folder, folder.display().to_string(), None),
        Base::Gguf(file) => {
            let files = RunDir::new(&plan.run_dir);
            let folder = files.imported_base();
            let marker = files.imported_base_hash();
            let hash = GgufModel::open(file)?.content_hash()?;
            if !folder.is_dir() || std::fs::read_to_string(&marker).ok().as_deref() != Some(&hash) {
                std::fs::create_dir_all(&plan.run_dir).map_err(PipelineError::io(&plan.run_dir))?;
                synapse_checkpoint::import_gguf(file, &folder)?;
                write_atomic(&marker, hash.as_bytes())?;
            }
            folder_base(&folder, folder.display().to_string(), None)
        }
        Base::FromScratch(folder) => Ok(FetchedBase {
            folder: folder.clone(),
            name: folder.display().to_string(),
            revision: None,
            hash: from_scratch_hash(folder)?,
            from_scratch: true,
        }),
    }
}

fn fetch_questions(run: &Run<'_>, plan: &SpecialistPlan) -> Result<BTreeMap<SuiteId, FetchedSource>, PipelineError> {
    let folder = plan.file.parent().unwrap_or(Path::new(""));
    let fetched = plan.evaluate.questions().map(|(suite, file)| {
        let found = fetch_suite(suite, file, folder, run.options.offline, run.reporter)?;
        Ok((suite, found))
    });
    fetched.collect()
}

/// What other recipes' requests must not be taken from; a question that two recipes ask is fetched once.
fn fetch_kept_out(run: &Run<'_>, plan: &SpecialistPlan) -> Result<Vec<FetchedSource>, PipelineError> {
    let asked: BTreeSet<_> = requests(plan)
        .flat_map(|requests| {
            let folder = requests.file.parent().unwrap_or(Path::new(""));
            let questions = requests.questions.iter();
            questions.map(move |(suite, file)| (*suite, file.as_deref(), folder))
        })
        .collect();
    asked
        .into_iter()
        .map(|(suite, file, folder)| fetch_suite(suite, file, folder, run.options.offline, run.reporter))
        .collect()
}

/// The questions of one suite: a file of one's own, or the test files that the registry beside `folder` lists for its
/// dataset on the hub.
///
/// # Errors
/// No such file; a suite that needs a file of one's own; a registry without the dataset; whatever the hub says.
pub fn fetch_suite(
    suite: SuiteId,
    file: Option<&Path>,
    folder: &Path,
    offline: bool,
    reporter: &dyn Reporter,
) -> Result<FetchedSource, PipelineError> {
    if let Some(file) = file {
        return FetchedSource::local(file);
    }
    let id = suite.hub_dataset().ok_or_else(|| PipelineError::Unusable {
        what: format!("suite `{suite}` has no dataset on the hub"),
        hint: "name a file with its questions".into(),
    })?;
    let missing = || PipelineError::Unusable {
        what: format!("suite `{suite}` needs {id}'s test files"),
        hint: "list them under `benchmarks:` in data/registry.yaml, or name a file with its questions".into(),
    };
    let registry = synapse_recipe::find_registry(folder).map_err(|problems| PipelineError::Unusable {
        what: problems.to_string(),
        hint: "correct data/registry.yaml".into(),
    })?;
    let (id, revision, files) = registry
        .as_ref()
        .and_then(|registry| registry.benchmark(suite.id(), id))
        .ok_or_else(missing)?;
    let wanted = DatasetQuery {
        patterns: files.to_vec(),
        config: None,
        split: "test".to_owned(),
        shards: None,
        seed: 0,
    };
    let hub = Hub::from_env(offline)?;
    let progress = Downloads::new(reporter, id);
    let selection = hub.select(id, revision, &wanted, &progress)?;
    fetch_whole(&hub, id, &selection, &progress)
}
