//! From a recipe as written to its plan: defaults, and the conditions between its sections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Diagnostics, Problem};
use crate::document::Source;
use crate::enums::{LINEAR_MODULES, SuiteId};
use crate::paths::{overlap, run_dir, tidy};
use crate::plan::{
    Base, EvaluatePlan, Location, LoraPlan, Method, Quantization, RouterPlan, SpecialistPlan, TrainPlan,
};
use crate::raw::{
    Evaluate, Lora, MethodWritten, QuantizationKind, QuantizationWritten, ROUTER_LABELS, Recipe, Targets, Train,
};
use crate::registry::Registry;
use crate::resolve::Resolver;
use crate::resolve::data::{data_plan, limits_plan};
use crate::schema::Kind;
use crate::suggest::alternatives;

/// Suites that a recipe without an `evaluate:` section runs.
const DEFAULT_SUITE: SuiteId = SuiteId::HeldOutLoss;
/// Rows set aside when a recipe does not say.
const DEFAULT_HELD_OUT: u64 = 100;
/// Checks and resolves one recipe.
///
/// # Errors
/// Every problem of it.
pub(crate) fn specialist(source: &mut Source, mut problems: Vec<Problem>) -> Result<SpecialistPlan, Diagnostics> {
    let (recipe, found) = source.deserialize::<Recipe>(Kind::Recipe);
    problems.extend(found);
    let Some(recipe) = recipe else {
        return Err(Diagnostics::new(problems));
    };
    let mut resolver = Resolver { source, problems };
    let registry = match Registry::find(resolver.source.folder()) {
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
        self.name(&recipe.name);
        let output = self.output(&recipe.output);
        let base = self.base(&recipe.base);
        if let Base::Folder(folder) | Base::Fresh(folder) = &base
            && !self.source.is_refused("base")
            && overlap(folder, &output)
        {
            let message = format!(
                "`output` and `base` get in each other's way: {} and {}",
                output.display(),
                folder.display()
            );
            self.value(
                "output",
                message,
                Some("publish into another folder; the base is never changed".to_owned()),
            );
        }
        let stages = self.stages(recipe.pipeline.as_deref());
        let mut evaluate = self.evaluate("evaluate", &recipe.evaluate, vec![DEFAULT_SUITE]);
        self.suite_inputs(&recipe.evaluate, &mut evaluate);
        let measured = !evaluate.suites.is_empty() || self.source.is_refused("evaluate");
        let data = data_plan(self, &recipe, registry, if measured { DEFAULT_HELD_OUT } else { 0 });
        if data.held_out == 0 && (evaluate.every > 0 || evaluate.suites.contains(&DEFAULT_SUITE)) {
            let message = "`held_out` is 0, but held-out loss is measured";
            self.value(
                "held_out",
                message,
                Some("set aside some rows, or take held-out-loss out of evaluate".to_owned()),
            );
        }
        let generated = data.sources.iter().any(|source| source.location == Location::Routing);
        let router = self.router(&recipe, generated);
        if evaluate.suites.contains(&SuiteId::Routing) && router.is_none() {
            let hint = "add `router: {}` when this recipe trains a coordinator";
            self.value(
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

    /// Names become folders, adapter names and keys.
    pub(crate) fn name(&mut self, name: &str) {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
        if !name.chars().all(plain) || name.starts_with('.') {
            let message = format!("`name` must consist of a-z, 0-9, `-`, `_` and `.`, found `{name}`");
            self.value("name", message, None);
        }
    }

    /// The published folder, relative to the working directory.
    pub(crate) fn output(&mut self, written: &Path) -> PathBuf {
        let output = tidy(written);
        match output.file_name().and_then(|name| name.to_str()) {
            None => {
                let message = format!("`output` must name a folder of its own, found `{}`", written.display());
                self.value(
                    "output",
                    message,
                    Some("it is replaced whole when the run ends".to_owned()),
                );
            }
            Some("runs") => {
                let message = "`output` must not be called `runs`: runs live there";
                self.value("output", message, None);
            }
            Some(_) if output.is_file() => {
                self.value(
                    "output",
                    format!("`output` is an existing file: {}", output.display()),
                    None,
                );
            }
            Some(_) => {}
        }
        output
    }

    pub(crate) fn evaluate(&mut self, key: &str, written: &Evaluate, default: Vec<SuiteId>) -> EvaluatePlan {
        let suites = match &written.suites {
            None => default,
            Some(suites) => {
                for (index, suite) in suites.iter().enumerate() {
                    if suites[..index].contains(suite) {
                        self.value(
                            &format!("{key}.suites.{index}"),
                            format!("the suite `{suite}` is listed twice"),
                            None,
                        );
                    }
                }
                suites.clone()
            }
        };
        EvaluatePlan {
            suites,
            every: written.every,
            limit: written.limit,
            max_new_tokens: written.max_new_tokens.unwrap_or(256),
            files: BTreeMap::new(),
            prompting: written.prompting,
            shots: written.shots,
            samples: written.samples.unwrap_or(1),
            temperature: written.temperature,
        }
    }

    /// The files that suites read, and what else only some suites heed.
    fn suite_inputs(&mut self, written: &Evaluate, plan: &mut EvaluatePlan) {
        for (suite, path) in &written.files {
            let key = format!("evaluate.files.{suite}");
            let reader = SuiteId::ALL
                .into_iter()
                .find(|known| known.id() == suite && known.reads_file());
            let Some(suite) = reader else {
                let known = SuiteId::ALL.into_iter().filter(|suite| suite.reads_file());
                let hint = format!("suites that read one are {}", alternatives(known.map(SuiteId::id)));
                self.value(&key, format!("the suite `{suite}` reads no file"), Some(hint));
                continue;
            };
            if !plan.suites.contains(&suite) {
                let hint = "add it to evaluate.suites, or leave its file out";
                self.value(&key, format!("the suite `{suite}` is not asked"), Some(hint.to_owned()));
            } else {
                let file = self.input(&key, path);
                if file.is_file() {
                    plan.files.insert(suite, file);
                } else {
                    self.value(&key, format!("no such file: {}", file.display()), None);
                }
            }
        }
        for suite in SuiteId::ALL.into_iter().filter(|suite| suite.needs_file()) {
            if plan.suites.contains(&suite) && !written.files.contains_key(suite.id()) {
                let hint = format!("name it under evaluate: files: {{ {suite}: FILE.jsonl }}");
                self.value(
                    "evaluate.suites",
                    format!("the suite `{suite}` needs a file"),
                    Some(hint),
                );
            }
        }
        if plan.shots > 0 && !plan.suites.contains(&SuiteId::Gsm8k) {
            let hint = "only gsm8k has worked examples".to_owned();
            self.value("evaluate.shots", "`evaluate.shots` has no suite to act on", Some(hint));
        }
        let sampled = plan.suites.iter().any(|suite| suite.is_sampled());
        if (plan.samples > 1 || plan.temperature > 0.0) && !sampled {
            let known = SuiteId::ALL.into_iter().filter(|suite| suite.is_sampled());
            let hint = format!(
                "suites that answer several times are {}",
                alternatives(known.map(SuiteId::id))
            );
            self.value(
                "evaluate.samples",
                "`evaluate.samples` has no suite to act on",
                Some(hint),
            );
        } else if plan.samples > 1 && plan.temperature == 0.0 {
            let hint = "such as evaluate.temperature: 0.8".to_owned();
            let message = format!("{} answers at temperature 0 are all the same", plan.samples);
            self.value("evaluate.samples", message, Some(hint));
        }
    }

    fn router(&mut self, recipe: &Recipe, generated: bool) -> Option<RouterPlan> {
        let labels = match &recipe.router {
            Some(router) => router.labels.clone(),
            None if generated => ROUTER_LABELS.map(str::to_owned).to_vec(),
            None => return None,
        };
        for (index, label) in labels.iter().enumerate() {
            let key = format!("router.labels.{index}");
            if label.is_empty()
                || !label
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
            {
                self.value(&key, format!("a label must be one plain word, found `{label}`"), None);
            } else if labels[..index].contains(label) {
                self.value(&key, format!("the label `{label}` is listed twice"), None);
            } else if generated && !ROUTER_LABELS.contains(&label.as_str()) {
                let message = format!("generated routing rows have no label `{label}`");
                self.value(
                    &key,
                    message,
                    Some(format!("their labels are {}", alternatives(ROUTER_LABELS))),
                );
            }
        }
        Some(RouterPlan { labels })
    }

    fn method(&mut self, recipe: &Recipe, base: &Base) -> Method {
        match recipe.train.method {
            MethodWritten::Full => {
                for (section, given) in [
                    ("lora", recipe.lora.is_some()),
                    ("quantization", recipe.quantization.is_some()),
                ] {
                    if given {
                        let message = format!("`{section}` has no meaning with `train.method: full`");
                        self.key(
                            section,
                            message,
                            Some(format!("remove `{section}`, or train adapters with `method: lora`")),
                        );
                    }
                }
                Method::Full
            }
            MethodWritten::Lora => {
                if matches!(base, Base::Fresh(_)) {
                    let message = "a fresh base has nothing to adapt";
                    self.value(
                        "base",
                        message,
                        Some("train every weight with `train.method: full`".to_owned()),
                    );
                }
                Method::Lora(self.lora(&recipe.lora.clone().unwrap_or_default()))
            }
        }
    }

    fn lora(&mut self, written: &Lora) -> LoraPlan {
        let mut targets: Vec<String> = match &written.targets {
            Targets::Word(_) => LINEAR_MODULES.map(str::to_owned).to_vec(),
            Targets::Modules(modules) => modules.iter().map(|module| module.name().to_owned()).collect(),
        };
        targets.sort();
        if let Some(pair) = targets.windows(2).find(|pair| pair[0] == pair[1]) {
            self.value("lora.targets", format!("`{}` is listed twice", pair[0]), None);
        }
        #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^52")]
        let alpha = written.alpha.unwrap_or(2.0 * written.rank as f64);
        LoraPlan {
            rank: written.rank,
            alpha,
            dropout: written.dropout,
            targets,
            rslora: written.rslora,
        }
    }
}

fn quantization(written: Option<&QuantizationWritten>) -> Quantization {
    match written {
        Some(QuantizationWritten {
            kind: QuantizationKind::Nf4,
            block_size,
            double_quant,
        }) => Quantization::Nf4 {
            block_size: *block_size,
            double_quant: *double_quant,
        },
        _ => Quantization::None,
    }
}

fn train(written: &Train) -> TrainPlan {
    TrainPlan {
        epochs: written.epochs,
        max_steps: written.max_steps,
        batch_size: written.batch_size,
        gradient_accumulation: written.gradient_accumulation,
        max_seq_len: written.max_seq_len,
        learning_rate: written.learning_rate,
        scheduler: written.scheduler,
        warmup_ratio: written.warmup_ratio,
        weight_decay: written.weight_decay,
        max_grad_norm: written.max_grad_norm,
        adam_beta1: written.adam_beta1,
        adam_beta2: written.adam_beta2,
        adam_epsilon: written.adam_epsilon,
        loss_on: written.loss_on,
        packing: written.packing,
        overlong: written.overlong,
        recompute: written.recompute,
        compute_dtype: written.compute_dtype,
        seed: written.seed,
        checkpoint_every: written.checkpoint_every,
    }
}
