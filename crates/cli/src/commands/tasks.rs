//! `bench tasks`: trains a Synapse model and a transformer of the same size on the same synthetic tasks.

use std::fmt::Write;

use serde_json::json;
use synapse_bench::{SyntheticTask, SyntheticTaskResult, SyntheticTaskRun, synapse_config, transformer_config};
use synapse_checkpoint::{ModelConfig, write_atomic};
use synapse_evaluate::report::{Axes, line_plot};
use synapse_pipeline::{ProgressUnit, Reporter};

use crate::{
    Outcome,
    args::BenchTasksArguments,
    commands::{print, print_json},
    failure::Failure,
    terminal::Terminal,
};

/// The results of both models on one task.
struct TaskResults {
    task: SyntheticTask,
    results: [SyntheticTaskResult; 2],
}

/// Trains and evaluates, writes models, plots and results.json to `--out`, and prints text or JSON.
pub(crate) fn tasks(arguments: &BenchTasksArguments) -> Outcome {
    let named = if arguments.tasks.is_empty() {
        SyntheticTask::NAMED.map(|(_, task)| task).to_vec()
    } else {
        let parsed = arguments
            .tasks
            .iter()
            .map(|name| name.parse().map_err(Failure::request));
        parsed.collect::<Result<Vec<SyntheticTask>, Failure>>()?
    };
    check(arguments, &named)?;
    let mut all = Vec::with_capacity(named.len());
    for task in named {
        all.push(one(arguments, task)?);
    }
    let document = json!({
        "steps": arguments.steps,
        "batch": arguments.batch,
        "length": arguments.length,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        "tasks": all.iter().map(|found| json!({
            "task": found.task.to_string(),
            "chance": found.task.chance(),
            "models": found.results,
        })).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&document)?;
    write_atomic(&arguments.out.join("results.json"), format!("{text}\n").as_bytes())?;
    if arguments.json {
        return print_json(&document);
    }
    print(&table(&all))
}

fn check(arguments: &BenchTasksArguments, tasks: &[SyntheticTask]) -> Outcome {
    for (name, value) in [
        ("--steps", arguments.steps as usize),
        ("--batch", arguments.batch),
        ("--length", arguments.length),
        ("--documents", arguments.documents),
    ] {
        if value == 0 {
            return Err(Failure::request(format!("{name} is 0; it must be at least 1")));
        }
    }
    for task in tasks {
        let lengths = std::iter::once(&arguments.length).chain(&arguments.eval_lengths);
        if let Some(length) = lengths.into_iter().find(|length| **length < task.shortest()) {
            return Err(Failure::request(format!(
                "{length} tokens are too few for {task}; it needs at least {}",
                task.shortest()
            )));
        }
    }
    Ok(())
}

fn one(arguments: &BenchTasksArguments, task: SyntheticTask) -> Result<TaskResults, Failure> {
    let run = SyntheticTaskRun {
        task,
        steps: arguments.steps,
        batch: arguments.batch,
        length: arguments.length,
        learning_rate: arguments.learning_rate,
        seed: arguments.seed,
        eval_lengths: arguments.eval_lengths.clone(),
        eval_documents: arguments.documents,
    };
    let synapse = match &arguments.config {
        Some(path) => {
            let config = super::read_config(path)?;
            if config.synapse.is_none() {
                return Err(Failure::request(format!(
                    "--config {} is a {}; pass a model of `model_type: synapse` (the transformer of the same size is generated)",
                    path.display(),
                    config.architecture.class_name()
                )));
            }
            ModelConfig {
                vocab_size: task.vocabulary(),
                bos_token_id: None,
                eos_token_ids: Vec::new(),
                ..config
            }
        }
        None => synapse_config(task)?,
    };
    let transformer = transformer_config(&synapse)?;
    let train = |config: &ModelConfig, name: &str| -> Result<SyntheticTaskResult, Failure> {
        let out = arguments.out.join(task.to_string()).join(name);
        std::fs::create_dir_all(&out).map_err(|error| Failure::Work(anyhow::anyhow!("{}: {error}", out.display())))?;
        let terminal = Terminal::new();
        let mut on_progress = |step: u64, loss: f64| {
            terminal.progress(
                &format!("{task} {name}, loss {loss:.3}"),
                ProgressUnit::Items,
                step,
                Some(arguments.steps),
            );
        };
        Ok(run.run(config, &out, &mut on_progress)?)
    };
    let results = [train(&synapse, "synapse")?, train(&transformer, "transformer")?];
    let by = |of: fn(&SyntheticTaskResult) -> Vec<(f64, f64)>| {
        [("Synapse", of(&results[0])), ("transformer", of(&results[1]))]
    };
    let loss = line_plot(
        Axes {
            x_label: "optimizer steps",
            y_label: "loss, nats",
            log2_x: false,
            y_range: None,
        },
        &by(|result| result.losses.iter().map(|&(step, loss)| (step as f64, loss)).collect()),
    )?;
    let accuracy = line_plot(
        Axes {
            x_label: "document length, tokens",
            y_label: "accuracy",
            log2_x: true,
            y_range: Some((0.0, 1.0)),
        },
        &by(|result| {
            result
                .accuracy
                .iter()
                .map(|&(length, share)| (length as f64, share))
                .collect()
        }),
    )?;
    let folder = arguments.out.join(task.to_string());
    write_atomic(&folder.join("loss.svg"), loss.as_bytes())?;
    write_atomic(&folder.join("accuracy.svg"), accuracy.as_bytes())?;
    Ok(TaskResults { task, results })
}

fn table(all: &[TaskResults]) -> String {
    let mut text = String::new();
    for found in all {
        let _ = writeln!(text, "{} (guessing {:.1} %)", found.task, 100.0 * found.task.chance());
        let _ = write!(
            text,
            "  {:<12} {:>10} {:>8} {:>8}",
            "model", "parameters", "seconds", "loss"
        );
        for (length, _) in &found.results[0].accuracy {
            let _ = write!(text, " {length:>7}");
        }
        text.push('\n');
        for (name, result) in ["Synapse", "transformer"].iter().zip(&found.results) {
            let loss = result.losses.last().map_or(f64::NAN, |(_, loss)| *loss);
            let _ = write!(
                text,
                "  {name:<12} {:>10} {:>8.0} {loss:>8.3}",
                result.parameters, result.seconds
            );
            for (_, share) in &result.accuracy {
                let _ = write!(text, " {:>5.1} %", 100.0 * share);
            }
            text.push('\n');
        }
    }
    text
}
