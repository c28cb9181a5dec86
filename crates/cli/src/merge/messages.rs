//! The lines on stderr: what was found, progress, what the merge lost, and errors.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::ProgressBar;
use synapse_checkpoint::ModelConfig;
use synapse_hub::DownloadProgress;
use synapse_merge::{DivideBy, Extraction, MergeError, MergeReport, MergeRequest, Rescale, TieBreak};

use crate::console::{print_error, print_message, progress_bar};
use crate::prepared::PreparedMerge;

/// A merge that continues an interrupted one.
pub(crate) fn resumed(tensors: usize) {
    print_message(format_args!(
        "resuming an interrupted merge: {tensors} tensors are finished"
    ));
}

/// An adapter extracted from a merge.
pub(crate) fn extracted(extraction: &Extraction, rank: usize) {
    print_message(format_args!(
        "{} modules at rank {rank}; the adapter has {:.2} % of the merged change's energy",
        extraction.modules,
        extraction.energy * 100.0
    ));
}

/// A folder that equals the merge of its merge.yaml.
pub(crate) fn verified(report: &MergeReport) {
    let tensors = report.tensors.len() + report.copied;
    print_message(format_args!(
        "all values of {tensors} tensors equal the merge of merge.yaml"
    ));
}

/// The upcycled model.
pub(crate) fn upcycled(config: &ModelConfig, specialists: usize) {
    let experts = config.synapse.as_ref().map_or(0, |modules| modules.num_experts);
    print_message(format_args!(
        "{experts} experts per layer from {specialists} specialists, {} parameters; train the model before serving it",
        config.parameters()
    ));
}

/// An error, one line per problem.
pub(crate) fn error(error: &MergeError) {
    match error {
        MergeError::Request(problems) => problems.iter().for_each(print_error),
        other => print_error(other),
    }
}

/// The inputs and the merge that is about to run.
pub(crate) fn describe(prepared: &PreparedMerge) {
    let request = &prepared.request;
    prepared.notes.iter().for_each(print_message);
    synapse_merge::tokenizer_notes(request).iter().for_each(print_message);
    print_message(format_args!("base: {}", request.base.display()));
    print_message(method(request));
    if request.out.exists() {
        print_message(format_args!("replacing {}", request.out.display()));
    }
}

/// The method with all options that change its result.
fn method(request: &MergeRequest) -> String {
    let method = request.method;
    let mut text = format!("{method}: {} inputs", request.inputs().count());
    if method.parameters().contains(&"density") {
        let kept: Vec<(&str, String)> = request
            .inputs()
            .map(|input| (input.name.as_str(), request.kept(&input.name).describe()))
            .collect();
        let trim = match kept.as_slice() {
            [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => first.clone(),
            each => {
                let each = each.iter().map(|(name, kept)| format!("{name}: {kept}"));
                each.collect::<Vec<_>>().join("; ")
            }
        };
        text += &format!("; {trim}");
    }
    if method.elects_signs() {
        let tie = match request.ties.tie_break {
            TieBreak::Drop => "a tie merges nothing",
            TieBreak::Positive => "a tie goes to the positive side",
            TieBreak::Majority => "a tie goes to the sign that wins most of the model",
        };
        text += &format!("\n      sign {}, {tie}", request.ties.sign);
    }
    if method.parameters().contains(&"lambda") {
        text += &format!("; lambda {}", request.lambda_text());
    }
    if method.parameters().contains(&"normalize") {
        text += match (request.normalize, request.ties.divide_by) {
            (false, _) => ", not divided by the weights",
            (true, DivideBy::Count) => ", divided by the number that agrees",
            (true, DivideBy::Weights) => ", divided by the weights",
        };
    }
    if method
        .parameters()
        .iter()
        .any(|name| ["gamma", "epsilon"].contains(name))
        || request.rescaling() != Rescale::None
    {
        text += &format!("; rescale {}, seed {}", request.rescaling(), request.seed);
    }
    if request.ties.factors {
        text += "\n      as PEFT does: the factors are merged, not the updates, so the result has cross terms";
    }
    for (name, value) in request.parameters.iter() {
        text += &format!("\n      {name}: {}", value.yaml());
    }
    text
}

/// What the merge kept and lost, in a few lines.
pub(crate) fn summary(report: &MergeReport) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let totals = &report.totals;
    print_message(format_args!(
        "{} tensors merged, {} copied",
        report.tensors.len(),
        report.copied
    ));
    if report.sign.is_some() {
        print_message(format_args!(
            "entries with no voter {}, one {}, several {}; in disagreement {}",
            percent(totals.voters.none),
            percent(totals.voters.one),
            percent(totals.voters.several),
            percent(totals.disagreement)
        ));
        print_message(format_args!(
            "energy lost to trimming {}, to the vote {}; rounding error {} of the merged change",
            percent(totals.energy_lost.trim),
            percent(totals.energy_lost.vote),
            percent(totals.energy_lost.rounding)
        ));
    }
}

/// The merge's progress in bytes written.
pub(crate) fn merge_bar() -> ProgressBar {
    progress_bar(Some(0), "merging [{bar:32}] {bytes} of {total_bytes}, {eta} left")
}

/// Downloads of a base named by its hub id.
pub(crate) struct Downloads {
    bar: ProgressBar,
    current: Mutex<String>,
}

impl Downloads {
    pub(crate) fn new() -> Self {
        Self {
            bar: progress_bar(Some(0), "{msg} [{bar:32}] {bytes} of {total_bytes}, {eta} left"),
            current: Mutex::new(String::new()),
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl DownloadProgress for Downloads {
    fn file(&self, name: &str, done: u64, total: Option<u64>) {
        if let Ok(mut current) = self.current.lock()
            && *current != name
        {
            name.clone_into(&mut current);
            self.bar.reset_eta();
            self.bar.set_message(name.to_owned());
            self.bar.enable_steady_tick(Duration::from_millis(250));
        }
        self.bar.set_length(total.unwrap_or(done));
        self.bar.set_position(done);
    }
}
