//! `eval`: evaluates a model, with or without an adapter, on suites. `compare` evaluates model folders with it too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use synapse_checkpoint::{AdapterFolder, ModelFiles, write_atomic};
use synapse_evaluate::journal::{Journal, JournaledModel};
use synapse_evaluate::suites::{FILE_SUITES, PromptFormat, PromptStyle, SAMPLED_SUITES, SUITE_IDS};
use synapse_evaluate::{EvalOptions, Evaluation, Suite};
use synapse_pipeline::{LoadedModel, ProgressUnit, Reporter, add_questions, fetch_suite, suite_data};
use synapse_recipe::SuiteId;

use crate::{
    Outcome,
    args::{EvalArguments, MeasureArguments},
    commands::{load_options, open_model, print, print_json, run::STOP, run::stop_on_signal},
    console::print_message,
    failure::Failure,
    terminal::Terminal,
};

/// Evaluates and prints a table or JSON.
pub(crate) fn eval(arguments: &EvalArguments) -> Outcome {
    let suites = suites(&arguments.suite, &arguments.measure)?;
    stop_on_signal()?;
    let measured = Measured {
        model: &arguments.model,
        adapter: arguments.adapter.as_deref(),
        out: arguments.out.as_deref(),
    };
    let evaluations = measured.measure(&suites, &arguments.measure)?;
    let outcomes: Vec<_> = evaluations.into_iter().map(|evaluation| evaluation.outcome).collect();
    let found = json!({ "model": arguments.model, "adapter": arguments.adapter, "outcomes": outcomes });
    if let Some(out) = &arguments.out {
        let mut text = serde_json::to_vec_pretty(&found)?;
        text.push(b'\n');
        write_atomic(&out.join("evaluation.json"), &text)?;
    }
    if arguments.json {
        return print_json(&found);
    }
    print(&synapse_pipeline::table(&outcomes))
}

/// The requested suites with their rows. A wrong request is refused before a model is loaded.
pub(crate) fn suites(names: &[String], arguments: &MeasureArguments) -> Result<Vec<Box<dyn Suite>>, Failure> {
    let given = questions(names, arguments)?;
    for suite in names {
        if !SUITE_IDS.contains(&suite.as_str()) {
            return Err(Failure::request(format!(
                "unknown suite `{suite}`; the suites are {}",
                SUITE_IDS.join(", ")
            )));
        }
        let held_out = suite != "code-tests" && !FILE_SUITES.contains(&suite.as_str());
        if held_out && arguments.data.is_none() {
            return Err(Failure::request(format!(
                "suite `{suite}` needs the rows of a prepared recipe; pass --data outputs/runs/NAME/data"
            )));
        }
        if ["choices", "custom"].contains(&suite.as_str()) && !given.iter().any(|(name, _)| name == suite) {
            return Err(Failure::request(format!(
                "suite `{suite}` needs a file; pass --questions {suite}=FILE.jsonl"
            )));
        }
    }
    let sampled = names.iter().any(|suite| SAMPLED_SUITES.contains(&suite.as_str()));
    if (arguments.samples > 1 || arguments.temperature != 0.0) && !sampled {
        return Err(Failure::request(format!(
            "--samples and --temperature apply only to {}",
            SAMPLED_SUITES.join(", ")
        )));
    }
    if arguments.samples > 1 && arguments.temperature == 0.0 {
        return Err(Failure::request(
            "at temperature 0 all samples are the same; pass a higher one, such as --temperature 0.8",
        ));
    }
    if !(0.0..=2.0).contains(&arguments.temperature) {
        return Err(Failure::request("--temperature must be between 0 and 2"));
    }
    if arguments.shots > 0 && !names.iter().any(|suite| suite == "gsm8k") {
        return Err(Failure::request("--shots applies only to gsm8k"));
    }
    let mut source = suite_data(arguments.data.as_deref())?;
    source.prompt_format = PromptFormat {
        style: if arguments.raw {
            PromptStyle::Raw
        } else {
            PromptStyle::Chat
        },
        shots: arguments.shots.into(),
        system_prompt: arguments.system_prompt.clone(),
    };
    let terminal = Terminal::new();
    for suite in names.iter().filter(|suite| FILE_SUITES.contains(&suite.as_str())) {
        let file = given
            .iter()
            .find(|(name, _)| name == suite)
            .map(|(_, file)| file.as_path());
        let suite: SuiteId = suite.parse().map_err(Failure::request)?;
        let fetched = fetch_suite(suite, file, Path::new(""), arguments.offline, &terminal)?;
        add_questions(&mut source, suite, &fetched)?;
    }
    Ok(names
        .iter()
        .map(|id| synapse_evaluate::suites::build(id, &source))
        .collect::<Result<_, _>>()?)
}

/// `--questions SUITE=FILE`, checked.
fn questions(names: &[String], arguments: &MeasureArguments) -> Result<Vec<(String, PathBuf)>, Failure> {
    let parse = |text: &String| {
        let (suite, file) = text
            .split_once('=')
            .ok_or_else(|| Failure::request(format!("--questions takes SUITE=FILE, found `{text}`")))?;
        if !FILE_SUITES.contains(&suite) {
            return Err(Failure::request(format!(
                "--questions {text}: suites that read a file are {}",
                FILE_SUITES.join(", ")
            )));
        }
        if !names.iter().any(|name| name == suite) {
            return Err(Failure::request(format!(
                "--questions {text}: `{suite}` is not among the suites of --suite"
            )));
        }
        if !Path::new(file).is_file() {
            return Err(Failure::request(format!("--questions {text}: no such file")));
        }
        Ok((suite.to_owned(), PathBuf::from(file)))
    };
    arguments.questions.iter().map(parse).collect()
}

/// How long it took, and how fast answers came.
fn spent(name: &str, evaluations: &[Evaluation], took: Duration) -> String {
    let items: usize = evaluations.iter().map(|evaluation| evaluation.outcome.n).sum();
    let records = evaluations.iter().flat_map(|evaluation| &evaluation.records);
    let tokens: u64 = records.filter_map(|record| record.get("tokens")?.as_u64()).sum();
    let seconds = took.as_secs_f64();
    let generated = if tokens > 0 {
        format!(", {tokens} tokens of answers ({:.0} a second)", tokens as f64 / seconds)
    } else {
        String::new()
    };
    format!("{name}: {items} items in {seconds:.1} s{generated}")
}

/// A model to evaluate and the folder of its results.
pub(crate) struct Measured<'a> {
    pub(crate) model: &'a Path,
    pub(crate) adapter: Option<&'a Path>,
    pub(crate) out: Option<&'a Path>,
}

impl Measured<'_> {
    /// The name of the model in tables: that of its folder.
    pub(crate) fn name(&self) -> String {
        let folder = self.adapter.unwrap_or(self.model);
        let name = folder.canonicalize().ok();
        let name = name.as_deref().unwrap_or(folder).file_name();
        name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Evaluates the model on every suite, with a log and a journal if there is an output folder.
    pub(crate) fn measure(
        &self,
        suites: &[Box<dyn Suite>],
        arguments: &MeasureArguments,
    ) -> Result<Vec<Evaluation>, Failure> {
        let adapters: Vec<_> = self.adapter.iter().map(|path| ("adapter", *path)).collect();
        let load = load_options(arguments.dtype);
        let model = LoadedModel::with_batch(
            &open_model(self.model, &load)?,
            &adapters,
            &load,
            arguments.max_batch.into(),
        )?
        .with_template_arguments(&arguments.template.chat_template_kwargs)?;
        let mut subject = model.under_test(&self.name(), adapters.first().map(|(name, _)| *name));
        let journal = self.out.map(|out| out.join("journal.jsonl"));
        let opened = match &journal {
            Some(path) => Some(Journal::open(path, &self.identity(arguments)?)?),
            None => None,
        };
        let mut subject = JournaledModel::new(&mut subject, opened, &STOP);
        let options = EvalOptions {
            limit: arguments.limit,
            max_new_tokens: arguments.max_tokens,
            samples: arguments.samples.into(),
            temperature: arguments.temperature,
            seed: arguments.seed,
        };
        let terminal = Terminal::new();
        let name = self.name();
        let report = |suite: &dyn Suite, done: usize, total: usize| {
            terminal.progress(
                &format!("{name}: {}", suite.id()),
                ProgressUnit::Items,
                done as u64,
                Some(total as u64),
            );
        };
        let began = Instant::now();
        let evaluations = match synapse_evaluate::evaluate(&mut subject, suites, &options, &report) {
            Err(synapse_evaluate::EvaluateError::Stopped) => {
                return Err(Failure::Work(anyhow::anyhow!(match self.out {
                    Some(out) => format!("stopped; run the same command again to resume from {}", out.display()),
                    None => "stopped; the results are lost without --out".to_owned(),
                })));
            }
            other => other?,
        };
        drop(terminal);
        print_message(spent(&name, &evaluations, began.elapsed()));
        if let Some(out) = self.out {
            for evaluation in &evaluations {
                evaluation.write_log(out)?;
            }
        }
        if let Some(path) = &journal {
            std::fs::remove_file(path)?;
        }
        Ok(evaluations)
    }

    /// Everything that an answer depends on besides the prompt.
    fn identity(&self, arguments: &MeasureArguments) -> Result<String, Failure> {
        let model = ModelFiles::open(self.model)?.content_hash()?;
        let adapter = match self.adapter {
            Some(folder) => Value::from(AdapterFolder::open(folder)?.content_hash()?),
            None => Value::Null,
        };
        let version = env!("CARGO_PKG_VERSION");
        let mut identity = json!({ "model": model, "adapter": adapter, "dtype": format!("{:?}", arguments.dtype), "version": version });
        let template = &arguments.template.chat_template_kwargs;
        if !template.is_empty() {
            identity["chat_template_kwargs"] = Value::Object(template.clone());
        }
        Ok(identity.to_string())
    }
}
