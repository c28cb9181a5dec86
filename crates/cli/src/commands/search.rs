//! `search`: searches for a pipeline's best merge settings and prints the result as a table.

use std::fmt::Write as _;

use synapse_pipeline::{Finalist, Run, RunOptions, SearchOptions, SearchOutcome, Trial};
use synapse_recipe::Plan;

use crate::{
    Outcome,
    args::SearchArguments,
    commands::{
        print, print_json,
        run::{STOP, choice, devices, stop_on_signal},
    },
    console::print_message,
    failure::Failure,
    terminal::Terminal,
};

/// Searches and prints what it found.
pub(crate) fn search(arguments: &SearchArguments) -> Outcome {
    let document = synapse_recipe::load(&arguments.file, &arguments.set)?;
    devices(&document, choice(arguments.device))?;
    let Plan::Pipeline(plan) = document else {
        return Err(Failure::request(format!(
            "{} is a recipe; `search` needs a pipeline with a merge",
            arguments.file.display()
        )));
    };
    let options = SearchOptions {
        trims: arguments.trims.clone(),
        lambdas: arguments.lambdas.clone(),
        weights: arguments.weight_factors.clone(),
        rounds: arguments.rounds,
        rows: arguments.rows,
        finalists: arguments.finalists,
        seed: arguments.seed,
    };
    options.check(&plan).map_err(Failure::request)?;
    stop_on_signal()?;
    let terminal = Terminal::new();
    let run = Run::new(
        RunOptions {
            offline: arguments.offline,
            device: choice(arguments.device),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            ..RunOptions::default()
        },
        &terminal,
        &STOP,
    );
    let found = synapse_pipeline::search(&run, &plan, &options)?;
    drop(terminal);
    print_message(format!(
        "the merge section is in {}, the plot in {}",
        found.yaml.display(),
        found.plot.display()
    ));
    if arguments.json {
        return print_json(&found);
    }
    print(&table(&found))
}

/// The finalists, the baselines, and the command that adopts the chosen point.
fn table(found: &SearchOutcome) -> String {
    let domains: Vec<&String> = found.own.loss.keys().collect();
    let mut rows = vec![[String::new(), "gain kept".into(), "worst".into()].to_vec()];
    rows[0].extend(domains.iter().map(|domain| (*domain).clone()));
    rows[0].push("gate".into());
    let row = |name: String, trial: &Trial, gate: &str| {
        let share =
            |share: Option<&f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}%", 100.0 * share));
        let mut cells = vec![
            name,
            share(Some(&trial.mean_gain_kept)),
            share(Some(&trial.worst_gain_kept)),
        ];
        cells.extend(domains.iter().map(|domain| share(trial.gain_kept.get(*domain))));
        cells.push(gate.to_owned());
        cells
    };
    for (index, Finalist { trial, gate, .. }) in found.finalists.iter().enumerate() {
        let mark = if index == found.chosen { "* " } else { "  " };
        let gate = match gate {
            synapse_evaluate::gate::GateDecision::Pass { .. } => "passes",
            synapse_evaluate::gate::GateDecision::Stamp { .. } => "stamped",
            synapse_evaluate::gate::GateDecision::Refuse { .. } => "refused",
        };
        rows.push(row(format!("{mark}{}", trial.point), trial, gate));
    }
    let best = &found.best_at_own_trim;
    rows.push(row(format!("  at the pipeline's trim: {}", best.point), best, ""));
    rows.push(row(
        format!("  the pipeline's own: {}", found.own.point),
        &found.own,
        "",
    ));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = format!(
        "{} merges tried; share of the specialists' gains that each keeps, on {} held-out rows\n",
        found.tried, found.rows
    );
    for row in &rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row[1..].iter().zip(&widths[1..]) {
            // Writing to a String cannot fail.
            let _ = write!(line, "  {cell:>width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for Finalist { trial, scores, .. } in &found.finalists {
        let scores: Vec<String> = scores
            .iter()
            .filter_map(|score| Some(format!("{} {} {:.1}%", score.domain, score.suite, 100.0 * score.value?)))
            .collect();
        if !scores.is_empty() {
            let _ = writeln!(text, "{}: {}", trial.point, scores.join(", "));
        }
    }
    text + "to adopt it:  " + &found.command + "\n"
}
