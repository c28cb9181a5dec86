//! `serve --swarm`: finds the coordinator, the specialists and their base in a pipeline or a folder of adapters.

use std::path::{Path, PathBuf};

use synapse_checkpoint::AdapterFolder;
use synapse_data::routing::Router;
use synapse_hub::Hub;
use synapse_pipeline::{Downloads, missing_adapters};
use synapse_recipe::Plan;
use synapse_server::{MultiDomain, Swarm, SwarmLabel};

use crate::{failure::Failure, terminal::Terminal};

/// The model name of a swarm.
const NAME: &str = "synapse-swarm";
/// The file that marks an adapter as a coordinator.
const ROUTER: &str = "router.json";
/// The coordinator's label for requests that need more than one specialist.
const SEVERAL: &str = "several";

/// The adapters of a swarm and its routing.
pub(crate) struct Members {
    /// The base model that all of them were trained on.
    pub(crate) base: PathBuf,
    /// The base's display name, which is not the name of a folder in the hub's cache.
    pub(crate) base_name: String,
    /// Coordinator and specialists, by the names that requests use.
    pub(crate) adapters: Vec<(String, PathBuf)>,
    pub(crate) swarm: Swarm,
}

/// Finds the members of a swarm in `from`, a pipeline file or a folder of adapters.
///
/// # Errors
/// Missing adapters, no coordinator or more than one, or different bases.
pub(crate) fn find(from: &Path, threshold: f64, drafts: usize) -> Result<Members, Failure> {
    if drafts == 1 {
        return Err(Failure::request(
            "--swarm-drafts 1: a single draft cannot be combined with others; pass 2 or more, or 0 for no drafts",
        ));
    }
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Failure::request(format!(
            "--swarm-threshold {threshold}: the threshold is a probability between 0 and 1"
        )));
    }
    let adapters = if from.is_dir() {
        in_folder(from)?
    } else {
        of_pipeline(from)?
    };
    let routers: Vec<&(String, PathBuf)> = adapters
        .iter()
        .filter(|(_, folder)| folder.join(ROUTER).is_file())
        .collect();
    let (coordinator, folder) = match routers.as_slice() {
        [one] => *one,
        [] => {
            return Err(Failure::request(format!(
                "{}: none of the adapters is a coordinator; train one with a recipe that has `router:`",
                from.display()
            )));
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            let (from, names) = (from.display(), names.join(", "));
            return Err(Failure::request(format!(
                "{from}: {names} are coordinators; a swarm needs exactly one"
            )));
        }
    };
    let router = Router::read(&folder.join(ROUTER))?;
    let label = |label: &String| SwarmLabel {
        adapter: member_of(label, &adapters, coordinator),
        answer: router.answer(label),
        label: label.clone(),
    };
    let labels: Vec<SwarmLabel> = router.labels.iter().map(label).collect();
    let swarm = Swarm {
        name: NAME.to_owned(),
        coordinator: coordinator.clone(),
        multi_domain: multi_domain(&labels, drafts),
        labels,
        system_prompt: router.system_prompt.clone(),
        threshold,
    };
    if swarm.labels.iter().all(|label| label.adapter.is_none()) {
        return Err(Failure::request(format!(
            "{}: no adapter has the name of a label of {coordinator} ({})",
            from.display(),
            router.labels.join(", ")
        )));
    }
    let (base, base_name) = common_base(&adapters)?;
    Ok(Members {
        base,
        base_name,
        adapters,
        swarm,
    })
}

/// How requests that need several specialists are answered; `None` with fewer than two specialists or drafts.
fn multi_domain(labels: &[SwarmLabel], drafts: usize) -> Option<MultiDomain> {
    let mut specialists: Vec<&String> = labels.iter().filter_map(|label| label.adapter.as_ref()).collect();
    specialists.sort();
    specialists.dedup();
    let drafts = drafts.min(specialists.len());
    let is_asked = |label: &SwarmLabel| label.label == SEVERAL && label.adapter.is_none();
    (drafts >= 2 && labels.iter().any(is_asked)).then(|| MultiDomain {
        label: SEVERAL.to_owned(),
        drafts,
    })
}

/// The adapter of a label: the one with that name, or the only one whose name ends with it.
fn member_of(label: &str, adapters: &[(String, PathBuf)], coordinator: &str) -> Option<String> {
    let specialists = || {
        adapters
            .iter()
            .map(|(name, _)| name)
            .filter(|name| *name != coordinator)
    };
    let ends = |name: &&String| name.strip_suffix(label).is_some_and(|rest| rest.ends_with(['-', '_']));
    specialists().find(|name| *name == label).cloned().or_else(|| {
        let mut candidates = specialists().filter(ends);
        let first = candidates.next().cloned();
        if candidates.next().is_none() { first } else { None }
    })
}

/// The published adapters of a pipeline's recipes.
fn of_pipeline(file: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let plan = match synapse_recipe::load(file, &[])? {
        Plan::Pipeline(plan) => plan,
        Plan::Specialist(_) => {
            return Err(Failure::request(format!(
                "{}: this is a recipe; --swarm needs a pipeline or a folder of adapters",
                file.display()
            )));
        }
    };
    let missing = missing_adapters(&plan);
    if !missing.is_empty() {
        return Err(Failure::request(missing.join("\n")));
    }
    Ok(plan
        .specialists
        .into_iter()
        .map(|plan| (plan.name, plan.output))
        .collect())
}

/// The adapters directly inside a folder, named by their folders.
fn in_folder(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut adapters = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if is_adapter(&entry.path()) {
            adapters.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    adapters.sort();
    if adapters.is_empty() {
        return Err(Failure::request(format!(
            "{}: contains no adapter folders",
            folder.display()
        )));
    }
    Ok(adapters)
}

fn is_adapter(folder: &Path) -> bool {
    folder.join("adapter_config.json").is_file()
}

/// The common base of all adapters: a folder, or a model from the hub, which is downloaded if necessary.
fn common_base(adapters: &[(String, PathBuf)]) -> Result<(PathBuf, String), Failure> {
    let mut bases: Vec<(String, Option<String>, &str)> = Vec::new();
    for (name, folder) in adapters {
        let files = AdapterFolder::open(folder)?;
        let config = files.config();
        let base = config.base_model_name_or_path.clone().ok_or_else(|| {
            Failure::request(format!(
                "{}: adapter_config.json has no `base_model_name_or_path`",
                folder.display()
            ))
        })?;
        let base = (base, config.revision.clone(), name.as_str());
        if bases.iter().all(|(known, at, _)| (known, at) != (&base.0, &base.1)) {
            bases.push(base);
        }
    }
    let [(base, revision, _)] = bases.as_slice() else {
        let lines: Vec<String> = bases
            .iter()
            .map(|(base, revision, name)| {
                let at = revision
                    .as_ref()
                    .map_or_else(String::new, |revision| format!(" at {revision}"));
                format!("{name}: trained on {base}{at}")
            })
            .collect();
        return Err(Failure::request(format!(
            "the adapters of a swarm must have the same base, but these differ:\n{}",
            lines.join("\n")
        )));
    };
    let name = base.rsplit('/').next().unwrap_or(base).to_owned();
    if Path::new(base).join("config.json").is_file() {
        return Ok((PathBuf::from(base), name));
    }
    let terminal = Terminal::new();
    let folder = Hub::from_env(false)?.model(base, revision.as_deref(), &Downloads::new(&terminal, base))?;
    Ok((folder, name))
}
