//! The variables of the card's template: the data with numbers as text, with links, and lists computed from it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::data::{CardComparison, CardData, CardInput, CardKind, Measured};
use super::license::{is_known, is_non_commercial};

/// Shown where nothing was measured or nothing is known.
const NOTHING: &str = "–";

/// The variables of `card.md.jinja`.
#[derive(Serialize)]
pub(super) struct CardContext<'a> {
    kind: CardKind,
    name: &'a str,
    location: &'a str,
    served_name: &'a str,
    summary: Option<&'a str>,
    facts: Option<String>,
    base: Input<'a>,
    license: Option<&'a str>,
    license_is_known: bool,
    tags: Vec<&'a str>,
    dataset_ids: BTreeSet<&'a str>,
    specialist_names: Vec<&'a str>,
    losses: Vec<Row<'a>>,
    scores: Vec<Score<'a>>,
    specialists: Vec<Specialist<'a>>,
    datasets: Vec<Dataset<'a>>,
    hashes: Vec<Hash<'a>>,
    merge: Option<Merge<'a>>,
    gate: Option<Gate<'a>>,
    inputs: Vec<Input<'a>>,
    non_commercial: Vec<&'a str>,
    unlicensed: Vec<&'a str>,
    gguf_file: Option<&'a str>,
    notes: &'a [String],
    tool_version: &'a str,
}

impl<'a> CardContext<'a> {
    pub(super) fn new(card: &'a CardData) -> Self {
        let inputs = inputs(card);
        let names = |chosen: &dyn Fn(&CardInput) -> bool| {
            let chosen = inputs.iter().filter(|input| chosen(input));
            chosen.map(|input| input.id.as_str()).collect()
        };
        let license = card.base.license.as_deref();
        let hub_datasets = card.datasets.iter().filter(|dataset| !dataset.source.local);
        Self {
            kind: card.kind,
            name: &card.name,
            location: &card.location,
            served_name: served_name(card),
            summary: (!card.summary.is_empty()).then(|| card.summary.trim_end()),
            facts: facts(card),
            base: Input::new(&card.base),
            license,
            license_is_known: license.is_some_and(is_known),
            tags: tags(card),
            dataset_ids: hub_datasets.map(|dataset| dataset.source.id.as_str()).collect(),
            specialist_names: card.specialists.iter().map(|specialist| &*specialist.name).collect(),
            losses: card.held_out_loss.iter().map(|row| Row::new(row, 1.0, 3, "")).collect(),
            scores: scores(card),
            specialists: specialists(card),
            datasets: datasets(card),
            hashes: hashes(card),
            merge: merge(card),
            gate: card.gate.as_ref().map(|gate| Gate {
                passed: gate.passed,
                max_regress: gate.max_regress.to_string(),
                on: &gate.on,
                failures: &gate.failures,
            }),
            non_commercial: names(&|input| input.license.as_deref().is_some_and(is_non_commercial)),
            unlicensed: names(&|input| input.license.is_none()),
            inputs: inputs.iter().map(|input| Input::new(input)).collect(),
            gguf_file: card.gguf_files.first().map(String::as_str),
            notes: &card.notes,
            tool_version: &card.tool_version,
        }
    }
}

/// A model or dataset that went in.
#[derive(Serialize)]
struct Input<'a> {
    id: &'a str,
    local: bool,
    /// A link to the hub, or the plain name if it is not there.
    link: String,
    revision: Option<&'a str>,
    license: Option<&'a str>,
}

impl<'a> Input<'a> {
    fn new(input: &'a CardInput) -> Self {
        Self {
            id: &input.id,
            local: input.local,
            link: link(input),
            revision: input.revision.as_deref(),
            license: input.license.as_deref(),
        }
    }
}

/// A domain's measurements as text.
#[derive(Serialize)]
struct Row<'a> {
    domain: &'a str,
    count: String,
    base: String,
    specialist: String,
    merge: String,
    gain_kept: String,
}

impl<'a> Row<'a> {
    /// Values are shown times `factor`.
    fn new(row: &'a CardComparison, factor: f64, decimals: usize, unit: &str) -> Self {
        let show = |measured: Option<Measured>| {
            measured.map_or(NOTHING.to_owned(), |measured| {
                // of an interval that is not symmetric, the wider half
                let half = (measured.value - measured.low).max(measured.high - measured.value) * factor;
                format!("{:.decimals$} ± {half:.decimals$}{unit}", measured.value * factor)
            })
        };
        let gain_kept = row.gain_kept().map(|kept| percent((kept * 100.0).round() / 100.0));
        Self {
            domain: &row.domain,
            count: with_separators(row.count),
            base: show(row.base),
            specialist: show(row.specialist),
            merge: show(row.merge),
            gain_kept: gain_kept.unwrap_or(NOTHING.to_owned()),
        }
    }
}

#[derive(Serialize)]
struct Score<'a> {
    suite: &'a str,
    metric: &'a str,
    row: Row<'a>,
    note: Option<&'a str>,
}

#[derive(Serialize)]
struct Specialist<'a> {
    name: &'a str,
    method: &'a str,
    rows: String,
    steps: String,
    learning_rate: String,
}

#[derive(Serialize)]
struct Dataset<'a> {
    link: String,
    specialist: &'a str,
    rows: String,
    revision: String,
}

#[derive(Serialize)]
struct Hash<'a> {
    name: &'a str,
    sha256: &'a str,
}

#[derive(Serialize)]
struct Merge<'a> {
    method: &'a str,
    trim: Option<String>,
    density: Option<String>,
    sign: Option<&'a str>,
    lambda: String,
    weights: Vec<String>,
}

#[derive(Serialize)]
struct Gate<'a> {
    passed: bool,
    max_regress: String,
    on: &'a str,
    failures: &'a [String],
}

/// The base and the datasets, each once.
fn inputs(card: &CardData) -> Vec<&CardInput> {
    let mut inputs = vec![&card.base];
    for dataset in &card.datasets {
        if !inputs.contains(&&dataset.source) {
            inputs.push(&dataset.source);
        }
    }
    inputs
}

fn tags(card: &CardData) -> Vec<&str> {
    let mut tags = vec!["synapse"];
    if card.kind == CardKind::Merge {
        tags.push("merge");
        tags.extend(card.merge.as_ref().map(|merge| merge.method.as_str()));
    }
    let mut methods = card.specialists.iter().map(|specialist| &specialist.method);
    if methods.any(|method| method.contains("LoRA")) {
        tags.push("lora");
    }
    tags
}

fn facts(card: &CardData) -> Option<String> {
    let parameters = card.parameters.map(with_separators);
    let context_length = card.context_length.map(with_separators);
    let facts = [
        parameters.map(|parameters| format!("{parameters} parameters")),
        context_length.map(|tokens| format!("context of {tokens} tokens")),
        card.dtype.as_ref().map(|dtype| format!("stored as {dtype}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    (!facts.is_empty()).then(|| capitalized(&facts.join(", ")))
}

fn scores(card: &CardData) -> Vec<Score<'_>> {
    let scores = card.scores.iter().map(|score| Score {
        suite: &score.suite,
        metric: &score.metric,
        row: Row::new(&score.comparison, 100.0, 1, " %"),
        note: score.note.as_deref(),
    });
    scores.collect()
}

fn specialists(card: &CardData) -> Vec<Specialist<'_>> {
    let specialists = card.specialists.iter().map(|specialist| Specialist {
        name: &specialist.name,
        method: &specialist.method,
        rows: with_separators(specialist.rows),
        steps: with_separators(specialist.steps),
        learning_rate: format!("{:e}", specialist.learning_rate),
    });
    specialists.collect()
}

fn datasets(card: &CardData) -> Vec<Dataset<'_>> {
    // a commit as git shortens it
    let short = |revision: &String| format!("`{}`", revision.get(..12).unwrap_or(revision));
    let datasets = card.datasets.iter().map(|dataset| Dataset {
        link: link(&dataset.source),
        specialist: &dataset.specialist,
        rows: with_separators(dataset.rows),
        revision: dataset.source.revision.as_ref().map_or(NOTHING.to_owned(), short),
    });
    datasets.collect()
}

fn hashes(card: &CardData) -> Vec<Hash<'_>> {
    let hashes = card.specialists.iter().filter_map(|specialist| {
        Some(Hash {
            name: &specialist.name,
            sha256: specialist.hash.as_ref()?,
        })
    });
    hashes.collect()
}

fn merge(card: &CardData) -> Option<Merge<'_>> {
    let merge = card.merge.as_ref()?;
    let weights = merge.weights.iter().map(|(name, weight)| format!("{name} {weight}"));
    Some(Merge {
        method: &merge.method,
        trim: merge.trim.map(|trim| trim.to_string()),
        density: merge.trim.map(|trim| percent(1.0 - trim)),
        sign: merge.sign.as_deref(),
        lambda: merge.lambda.to_string(),
        weights: weights.collect(),
    })
}

/// The name a server gives the model: its folder's, or the adapter's own.
fn served_name(card: &CardData) -> &str {
    match card.kind {
        CardKind::Adapter => &card.name,
        CardKind::Merge | CardKind::Tuned => {
            let folder = card.location.trim_end_matches('/').rsplit('/').next();
            folder.unwrap_or(&card.name)
        }
    }
}

fn link(input: &CardInput) -> String {
    let id = &input.id;
    if input.local {
        format!("`{id}`")
    } else {
        format!("[{id}](https://huggingface.co/{id})")
    }
}

/// A share as a percentage, rounded to a thousandth of a percent: 0.2 is "20 %", 0.125 is "12.5 %".
fn percent(share: f64) -> String {
    let rounded = (share * 100_000.0).round() / 1_000.0;
    format!("{rounded} %")
}

fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
