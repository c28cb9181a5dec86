//! From a recipe as written to its plan: the conditions between its sections, and the other recipes it names.
//!
//! A recipe may name others whose requests it trains on. They are resolved first and their plans handed on, so this is
//! the only place where resolving recurses.

use std::path::Path;

use crate::diagnostics::{Diagnostics, Problem};
use crate::enums::SuiteId;
use crate::kind::Kind;
use crate::parsed_file::ParsedFile;
use crate::paths::{overlap, run_dir};
use crate::plan::{Base, Location, RequestsPlan, SpecialistPlan};
use crate::raw::{Recipe, Source};
use crate::registry::Registry;
use crate::registry_file::find_registry;
use crate::resolve::Resolver;
use crate::resolve::data::{data_plan, limits_plan};
use crate::resolve::location::ROUTING;
use crate::resolve::requests::requests_plan;
use crate::resolve::training::{quantization, train};
use crate::suggest::alternatives;

/// Labels whose requests specialists answer.
const DOMAINS: [&str; 3] = ["math", "code", "general"];
/// The suite of a recipe without an `evaluate:` section.
const DEFAULT_SUITE: SuiteId = SuiteId::HeldOutLoss;
/// Rows set aside for evaluation unless the recipe says otherwise.
const DEFAULT_HELD_OUT: u64 = 100;

/// Checks and resolves one recipe.
///
/// # Errors
/// Every problem of it.
pub(crate) fn specialist(source: &mut ParsedFile, mut problems: Vec<Problem>) -> Result<SpecialistPlan, Diagnostics> {
    let (recipe, found) = source.deserialize::<Recipe>(Kind::Recipe);
    problems.extend(found);
    let Some(recipe) = recipe else {
        return Err(Diagnostics::new(problems));
    };
    let mut resolver = Resolver { source, problems };
    let registry = match find_registry(resolver.source.folder()) {
        Ok(registry) => registry,
        Err(diagnostics) => {
            resolver.problems.extend(diagnostics.problems);
            None
        }
    };
    let plan = resolver.recipe(recipe, registry.as_ref());
    if resolver.problems.is_empty() {
        Ok(plan)
    } else {
        Err(Diagnostics::new(resolver.problems))
    }
}

impl Resolver<'_> {
    fn recipe(&mut self, recipe: Recipe, registry: Option<&Registry>) -> SpecialistPlan {
        self.check_name(&recipe.name);
        let output = self.output(&recipe.output);
        let base = self.base(&recipe.base);
        if let Base::Folder(folder) | Base::FromScratch(folder) = &base
            && !self.source.is_refused("base")
            && overlap(folder, &output)
        {
            let message = format!("`output` ({}) overlaps `base` ({})", output.display(), folder.display());
            self.refuse_value(
                "output",
                message,
                Some("publish to another folder; a run never changes its base".to_owned()),
            );
        }
        let stages = self.stages(recipe.pipeline.as_deref());
        let mut evaluate = self.evaluate("evaluate", &recipe.evaluate, vec![DEFAULT_SUITE]);
        self.resolve_suite_inputs(&recipe.evaluate, &mut evaluate);
        let measured = !evaluate.suites.is_empty() || self.source.is_refused("evaluate");
        let requests = recipe.data.iter().enumerate();
        let requests = requests
            .map(|(index, source)| self.requests(&format!("data.{index}"), source))
            .collect();
        let data = data_plan(
            self,
            &recipe,
            registry,
            requests,
            if measured { DEFAULT_HELD_OUT } else { 0 },
        );
        if data.held_out == 0 && (evaluate.every > 0 || evaluate.suites.contains(&DEFAULT_SUITE)) {
            let message = "`held_out` is 0, but held-out loss is measured";
            self.refuse_value(
                "held_out",
                message,
                Some("set aside some rows, or take held-out-loss out of evaluate".to_owned()),
            );
        }
        let generated = data.sources.iter().any(|source| source.location == Location::Routing);
        let router = self.router(&recipe, generated);
        if evaluate.suites.contains(&SuiteId::Routing) && router.is_none() {
            let hint = "add `router: {}` when this recipe trains a coordinator";
            self.refuse_value(
                "evaluate.suites",
                "the suite `routing` needs a router",
                Some(hint.to_owned()),
            );
        }
        let method = self.method(&recipe, &base);
        SpecialistPlan {
            name: recipe.name,
            file: self.source.file.clone(),
            stages,
            base,
            system_prompt: recipe.system_prompt,
            chat: recipe.chat,
            data,
            limits: limits_plan(&recipe.limits),
            quantization: quantization(recipe.quantization.as_ref()),
            method,
            train: train(&recipe.train),
            evaluate,
            run_dir: run_dir(&output),
            output,
            router,
        }
    }

    /// The recipes whose requests a source's generated rows are made of.
    fn requests(&mut self, key: &str, source: &Source) -> Vec<RequestsPlan> {
        if source.dataset != ROUTING && !source.requests.is_empty() {
            let message = "`requests` are for generated rows (`dataset: routing`)";
            self.refuse_key(&format!("{key}.requests"), message, None);
            return Vec::new();
        }
        let mut plans = Vec::new();
        for (label, written) in &source.requests {
            let key = format!("{key}.requests.{label}");
            if !DOMAINS.contains(&label.as_str()) {
                let hint = format!("the specialists' labels are {}", alternatives(DOMAINS));
                self.refuse_key(&key, format!("no specialist answers `{label}`"), Some(hint));
                continue;
            }
            let file = self.existing_file(&key, written);
            if file.is_file() {
                plans.extend(self.requests_of(&key, label, &file));
            }
        }
        plans
    }

    fn requests_of(&mut self, key: &str, label: &str, file: &Path) -> Option<RequestsPlan> {
        let mut recipe = match ParsedFile::read(file) {
            Ok(recipe) => recipe,
            Err(diagnostics) => {
                self.problems.extend(diagnostics.problems);
                return None;
            }
        };
        if recipe.kind() != Kind::Recipe {
            self.refuse_value(key, format!("{} is not a recipe", file.display()), None);
            return None;
        }
        // Also ends the recursion: a recipe that takes requests has this dataset.
        if recipe.names_dataset(ROUTING) {
            let message = format!(
                "{} generates its rows, so it has no requests to learn from",
                file.display()
            );
            self.refuse_value(key, message, None);
            return None;
        }
        let plan = match specialist(&mut recipe, Vec::new()) {
            Ok(plan) => plan,
            Err(diagnostics) => {
                self.problems.extend(diagnostics.problems);
                return None;
            }
        };
        requests_plan(label, &plan).or_else(|| {
            self.refuse_value(
                key,
                format!("{} has only plain text, which contains no requests", file.display()),
                None,
            );
            None
        })
    }
}
