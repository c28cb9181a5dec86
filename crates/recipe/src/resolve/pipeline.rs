//! From a pipeline as written to its plan: its recipes are resolved one by one, then compared with each other.

use std::collections::BTreeMap;

use crate::check::Schema;
use crate::diagnostics::{Diagnostics, Problem};
use crate::enums::{Prompting, SuiteId};
use crate::kind::Kind;
use crate::overrides::Override;
use crate::parsed_file::ParsedFile;
use crate::paths::{overlap, run_dir};
use crate::plan::{ExportPlan, GatePlan, MergePlan, PipelinePlan, SpecialistPlan, TrainingMethod};
use crate::raw::{ByteSize, Evaluate, Merge, Pipeline};
use crate::resolve::requests::requests_plan;
use crate::resolve::{Resolver, specialist};
use crate::size::parse_bytes;
use crate::suggest::{alternatives, nearest};
use crate::yaml::Value;

/// Checks and resolves a pipeline. Overrides of its own keys apply to it; `math.train.epochs=1`
/// applies to the recipe called math; the rest applies to every recipe.
///
/// # Errors
/// Every problem of it and of its recipes.
pub(crate) fn pipeline(source: &mut ParsedFile, overrides: Vec<Override>) -> Result<PipelinePlan, Diagnostics> {
    let schema = Schema::of(Kind::Pipeline);
    let (own, others): (Vec<_>, Vec<_>) = overrides
        .into_iter()
        .partition(|change| schema.keys().any(|key| key == change.head()));
    let mut problems = source.apply(own);
    let (written, found) = source.deserialize::<Pipeline>(Kind::Pipeline);
    problems.extend(found);
    let Some(written) = written else {
        return Err(Diagnostics::new(problems));
    };
    let mut resolver = Resolver { source, problems };
    let (specialists, complete) = resolver.recipes(&written, &others);
    let plan = resolver.pipeline(written, specialists, complete);
    if resolver.problems.is_empty() {
        Ok(plan)
    } else {
        Err(Diagnostics::new(resolver.problems))
    }
}

/// The overrides of a pipeline that apply to the recipe in `source`.
fn overrides_for(source: &ParsedFile, names: &[String], all: &[Override]) -> Vec<Override> {
    let own = recipe_name(source);
    let concerns = |change: &Override| match names.iter().find(|name| *name == change.head()) {
        None => Some(change.clone()),
        Some(name) if Some(name) == own.as_ref() => change.without_head(),
        Some(_) => None,
    };
    all.iter().filter_map(concerns).collect()
}

fn recipe_name(source: &ParsedFile) -> Option<String> {
    match &source.tree.get("name")?.value {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    }
}

impl Resolver<'_> {
    /// The recipes that can be resolved, and whether that is all of them.
    fn recipes(&mut self, written: &Pipeline, overrides: &[Override]) -> (Vec<SpecialistPlan>, bool) {
        let mut sources = Vec::new();
        for (index, recipe) in written.recipes.iter().enumerate() {
            let key = format!("recipes.{index}");
            let file = self.input(&key, recipe);
            if !file.is_file() {
                self.refuse_value(&key, format!("no such file: {}", file.display()), None);
                continue;
            }
            match ParsedFile::read(&file) {
                Ok(source) if source.kind() == Kind::Recipe => sources.push(source),
                Ok(_) => self.refuse_value(
                    &key,
                    format!("{} is not a recipe", file.display()),
                    Some("a pipeline lists recipes only".to_owned()),
                ),
                Err(diagnostics) => self.problems.extend(diagnostics.problems),
            }
        }
        let names: Vec<String> = sources.iter().filter_map(recipe_name).collect();
        let mut plans = Vec::new();
        for mut source in sources {
            let changes = overrides_for(&source, &names, overrides);
            let problems = source.apply(changes);
            match specialist(&mut source, problems) {
                Ok(plan) => plans.push(plan),
                Err(diagnostics) => self.problems.extend(diagnostics.problems),
            }
        }
        // A recipe that reads another recipe of this pipeline sees that one's overrides.
        let others = plans.clone();
        let sources = plans.iter_mut().flat_map(|plan| &mut plan.data.sources);
        for requests in sources.flat_map(|source| &mut source.requests) {
            let same = others.iter().find(|other| other.file == requests.file);
            if let Some(plan) = same.and_then(|other| requests_plan(&requests.label, other)) {
                *requests = plan;
            }
        }
        let complete = plans.len() == written.recipes.len();
        (plans, complete)
    }

    /// How a suite is run belongs in the recipes; a pipeline only chooses suites and limits their items.
    fn refuse_recipe_keys(&mut self, written: &Evaluate) {
        let said = [
            ("every", written.every > 0),
            ("max_new_tokens", written.max_new_tokens.is_some()),
            ("files", !written.files.is_empty()),
            ("prompting", written.prompting != Prompting::default()),
            ("shots", written.shots > 0),
            ("samples", written.samples.is_some()),
            ("temperature", written.temperature > 0.0),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let hint = "in a pipeline, `evaluate:` takes only `suites` and `limit`".to_owned();
            let message = format!("`evaluate.{key}` belongs in the recipes");
            self.refuse_value(&format!("evaluate.{key}"), message, Some(hint));
        }
    }

    fn pipeline(&mut self, written: Pipeline, specialists: Vec<SpecialistPlan>, complete: bool) -> PipelinePlan {
        self.check_name(&written.name);
        let output = self.output(&written.output);
        self.check_agreement(&specialists);
        for plan in specialists.iter().filter(|plan| overlap(&plan.output, &output)) {
            let message = format!(
                "`output` ({}) overlaps the output of {} ({})",
                output.display(),
                plan.name,
                plan.output.display()
            );
            self.refuse_value("output", message, None);
        }
        let mut suites: Vec<SuiteId> = Vec::new();
        for &suite in specialists.iter().flat_map(|plan| &plan.evaluate.suites) {
            if !suites.contains(&suite) {
                suites.push(suite);
            }
        }
        let evaluate = self.evaluate("evaluate", &written.evaluate, suites);
        self.refuse_recipe_keys(&written.evaluate);
        if complete && !evaluate.suites.contains(&written.gate.on) {
            let hint = match evaluate.suites.as_slice() {
                [] => "no suite is evaluated".to_owned(),
                suites => format!(
                    "the evaluated suites are {}",
                    alternatives(suites.iter().map(|suite| suite.id()))
                ),
            };
            self.refuse_value(
                "gate.on",
                format!("the gate compares `{}`, which is not evaluated", written.gate.on),
                Some(hint),
            );
        }
        let merge = self.merge(&written.merge, &specialists, complete);
        let shard_size = match &written.export.shard_size {
            ByteSize::Bytes(bytes) => *bytes,
            ByteSize::Text(text) => parse_bytes(text).unwrap_or_else(|| {
                let message = format!("`export.shard_size` must be a size, found `{text}`");
                self.refuse_value(
                    "export.shard_size",
                    message,
                    Some("such as 5GB, 512MiB or a number of bytes".to_owned()),
                );
                0
            }),
        };
        PipelinePlan {
            name: written.name,
            file: self.source.file.clone(),
            specialists,
            merge,
            evaluate,
            gate: GatePlan {
                max_regress: written.gate.max_regress,
                on: written.gate.on,
                action: written.gate.action,
            },
            export: ExportPlan {
                dtype: written.export.dtype,
                shard_size,
                gguf: written.export.gguf,
            },
            run_dir: run_dir(&output),
            output,
        }
    }

    /// Recipes of one pipeline train adapters on the same base, under different names and outputs.
    fn check_agreement(&mut self, specialists: &[SpecialistPlan]) {
        let Some(first) = specialists.first() else {
            return;
        };
        for (index, plan) in specialists.iter().enumerate() {
            if plan.base != first.base {
                let message = format!(
                    "the recipes disagree about the base: {} has {}, {} has {}",
                    first.name, first.base, plan.name, plan.base
                );
                self.refuse_value(
                    "recipes",
                    message,
                    Some("adapters can be merged only on the base they were trained on".to_owned()),
                );
            }
            if plan.chat != first.chat {
                let message = format!(
                    "the recipes disagree about the chat template's arguments: `chat` of {} and {} differ",
                    first.name, plan.name
                );
                let hint = "the merged model answers all of them in one way".to_owned();
                self.refuse_value("recipes", message, Some(hint));
            }
            if plan.method == TrainingMethod::Full {
                let message = format!("{} trains every weight, but only adapters can be merged", plan.name);
                self.refuse_value("recipes", message, None);
            }
            for earlier in &specialists[..index] {
                if earlier.name == plan.name {
                    let message = format!(
                        "two recipes are called `{}`: {} and {}",
                        plan.name,
                        earlier.file.display(),
                        plan.file.display()
                    );
                    self.refuse_value("recipes", message, None);
                } else if overlap(&earlier.output, &plan.output) {
                    let message = format!(
                        "the output of {} ({}) overlaps the output of {} ({})",
                        earlier.name,
                        earlier.output.display(),
                        plan.name,
                        plan.output.display()
                    );
                    self.refuse_value("recipes", message, None);
                }
            }
        }
    }

    fn merge(&mut self, written: &Merge, specialists: &[SpecialistPlan], complete: bool) -> MergePlan {
        let names: Vec<&str> = specialists.iter().map(|plan| plan.name.as_str()).collect();
        for name in written
            .weights
            .keys()
            .filter(|name| complete && !names.contains(&name.as_str()))
        {
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the recipes are {}", alternatives(names.iter().copied())),
            };
            self.refuse_key(
                &format!("merge.weights.{name}"),
                format!("no recipe is called `{name}`"),
                Some(hint),
            );
        }
        let weights: BTreeMap<String, f64> = names
            .iter()
            .map(|name| ((*name).to_owned(), written.weights.get(*name).copied().unwrap_or(1.0)))
            .collect();
        if complete && !weights.is_empty() && weights.values().all(|weight| *weight == 0.0) {
            self.refuse_value(
                "merge.weights",
                "all weights are 0, so the merge would be the base",
                None,
            );
        }
        MergePlan {
            method: written.method,
            trim: written.trim,
            sign: written.sign,
            lambda: written.lambda,
            weights,
            parameters: written.parameters.clone(),
            seed: written.seed,
        }
    }
}

/// Every problem that keeps a list of overrides from being read.
pub(crate) fn parse_overrides(texts: &[String]) -> Result<Vec<Override>, Vec<Problem>> {
    let (mut changes, mut problems) = (Vec::new(), Vec::new());
    for text in texts {
        match Override::parse(text) {
            Ok(change) => changes.push(change),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(changes)
    } else {
        Err(problems)
    }
}
