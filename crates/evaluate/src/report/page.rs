//! The page: which sections it has and what each shows; `report.html.jinja` says how.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::data::{
    Curve, DataSummary, Fact, HeatMap, License, RecipeText, ReportData, Sample, SearchSummary, StageTime,
};
use super::histogram::{Histogram, histogram};
use super::results::{Results, results};
use super::trace::{Trace, trace};
use super::{escape, heat_map, training_plots};
use crate::table::TableRole;
use crate::{EvaluateError, Result};

const TEMPLATE: &str = include_str!("report.html.jinja");

/// The whole file. The same data give the same bytes.
///
/// # Errors
/// [`EvaluateError::Plot`] when a plot cannot be drawn.
pub fn render(data: &ReportData) -> Result<String> {
    let sections = sections(data)?;
    let context = context! {
        name => data.name.as_str(),
        subtitle => data.subtitle.as_str(),
        refresh => Value::from(Serde(&data.refresh)),
        broken => Value::from(Serde(&data.broken)),
        command => data.command.as_str(),
        style => include_str!("style.css"),
        sections => Value::from(Serde(&sections)),
    };
    let page = || {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_formatter(escape::format);
        environment.add_filter("duration", escape::duration);
        environment.add_filter("count", escape::count);
        environment.render_named_str("report.html.jinja", TEMPLATE, context)
    };
    page().map_err(|source| EvaluateError::Page {
        source: Box::new(source),
    })
}

/// One section; the template chooses its macro by `kind`.
#[derive(Serialize)]
struct Section<'a> {
    id: String,
    title: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", content = "content", rename_all = "snake_case")]
enum Content<'a> {
    Results(Results),
    Training(Training<'a>),
    Samples(&'a [Sample]),
    Traces(Vec<Trace<'a>>),
    Map(Map<'a>),
    Search(Search<'a>),
    Timeline(Timeline<'a>),
    Sources(Vec<Source<'a>>),
    Licenses(&'a [License]),
    Resources(&'a [Fact]),
    Recipes(&'a [RecipeText]),
}

#[derive(Serialize)]
struct Training<'a> {
    legend: Vec<LegendEntry<'a>>,
    plots: Vec<Plot>,
    runs: Vec<TrainingRun<'a>>,
}

#[derive(Serialize)]
struct LegendEntry<'a> {
    color: usize,
    name: &'a str,
}

#[derive(Serialize)]
struct Plot {
    title: &'static str,
    svg: String,
}

#[derive(Serialize)]
struct TrainingRun<'a> {
    name: &'a str,
    steps: u64,
    first_loss: String,
    last_loss: String,
    tokens_per_second: u64,
}

#[derive(Serialize)]
struct Map<'a> {
    explanation: &'a str,
    summary: String,
    svg: String,
}

#[derive(Serialize)]
struct Search<'a> {
    words: &'a str,
    /// Percent-encoded, for a `data:` address.
    plot: String,
}

#[derive(Serialize)]
struct Timeline<'a> {
    /// Seconds of all stages, and of the run.
    work: f64,
    end: f64,
    stages: Vec<TimelineStage<'a>>,
}

#[derive(Serialize)]
struct TimelineStage<'a> {
    name: &'a str,
    note: &'a str,
    seconds: f64,
    /// Of its bar, in percent.
    left: String,
    width: String,
}

#[derive(Serialize)]
struct Source<'a> {
    domain: &'a str,
    source: &'a str,
    revision: &'a str,
    numbers: [u64; 5],
    lengths: Option<Histogram>,
    license: &'a str,
    note: &'a str,
}

/// The sections that have content, in the order of the page.
fn sections<'a>(data: &'a ReportData) -> Result<Vec<Section<'a>>> {
    let mut found = Vec::new();
    let mut add = |id: &str, title: &'a str, content: Option<Content<'a>>| {
        let id = id.to_owned();
        found.extend(content.map(|content| Section { id, title, content }));
    };
    add(
        "results",
        if has_merge(data) {
            "What the merge kept and lost"
        } else {
            "What was measured"
        },
        results(data.table.as_ref(), data.gate.as_ref()).map(Content::Results),
    );
    add("training", "Training", training(&data.curves)?.map(Content::Training));
    add(
        "samples",
        "Answers side by side",
        nonempty(&data.samples).map(Content::Samples),
    );
    let traces: Vec<Trace<'_>> = data.traces.iter().filter_map(trace).collect();
    add(
        "tokens",
        "Modules token by token",
        (!traces.is_empty()).then_some(Content::Traces(traces)),
    );
    for (index, map) in data.router_maps.iter().enumerate() {
        add(&format!("modules-{index}"), &map.title, heat_map(map)?);
    }
    if let Some(map) = &data.merge_map {
        add("merge", &map.title, heat_map(map)?);
    }
    add("search", "Search", data.search.as_ref().map(search));
    add("timeline", "Stages", timeline(&data.stages));
    add("data", "Data", nonempty(&data.data).map(sources));
    add("licenses", "Licenses", nonempty(&data.licenses).map(Content::Licenses));
    add(
        "resources",
        "Machine and resources",
        nonempty(&data.resources).map(Content::Resources),
    );
    add("recipe", "Recipe", nonempty(&data.recipes).map(Content::Recipes));
    Ok(found)
}

fn nonempty<T>(items: &[T]) -> Option<&[T]> {
    (!items.is_empty()).then_some(items)
}

fn has_merge(data: &ReportData) -> bool {
    let models = data.table.iter().flat_map(|table| &table.models);
    models.into_iter().any(|model| model.role == TableRole::Merge)
}

fn heat_map(map: &HeatMap) -> Result<Option<Content<'_>>> {
    Ok(heat_map::draw(map)?.map(|(svg, summary)| {
        Content::Map(Map {
            explanation: &map.explanation,
            summary,
            svg,
        })
    }))
}

fn training(curves: &[Curve]) -> Result<Option<Training<'_>>> {
    let plots = training_plots::training(curves)?;
    if plots.is_empty() {
        return Ok(None);
    }
    let runs = curves.iter().filter_map(|curve| {
        let finite = || curve.points.iter().filter(|point| point.loss.is_finite());
        let (first, last) = (finite().next()?, finite().next_back()?);
        let speed = curve.points.iter().map(|point| point.tokens_per_second).sum::<f64>() / curve.points.len() as f64;
        Some(TrainingRun {
            name: &curve.name,
            steps: last.step,
            first_loss: format!("{:.3}", first.loss),
            last_loss: format!("{:.3}", last.loss),
            tokens_per_second: speed.max(0.0).round() as u64,
        })
    });
    let legend = curves.iter().enumerate().map(|(index, curve)| LegendEntry {
        color: index % training_plots::SERIES.len(),
        name: &curve.name,
    });
    Ok(Some(Training {
        legend: legend.collect(),
        plots: plots.into_iter().map(|(title, svg)| Plot { title, svg }).collect(),
        runs: runs.collect(),
    }))
}

/// The plot is shown as an image, so that nothing in it runs.
fn search(found: &SearchSummary) -> Content<'_> {
    let encoded = |character| match character {
        '%' | '#' | '"' | '<' | '>' | '&' | '\n' | '\'' => format!("%{:02X}", u32::from(character)),
        other => other.to_string(),
    };
    Content::Search(Search {
        words: &found.words,
        plot: found.plot.chars().map(encoded).collect(),
    })
}

fn timeline(stages: &[StageTime]) -> Option<Content<'_>> {
    nonempty(stages)?;
    let end = stages
        .iter()
        .map(|stage| stage.start + stage.seconds)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let bars = stages.iter().map(|stage| TimelineStage {
        name: &stage.name,
        note: &stage.note,
        seconds: stage.seconds,
        left: format!("{:.2}", 100.0 * stage.start / end),
        width: format!("{:.2}", 100.0 * stage.seconds / end),
    });
    Some(Content::Timeline(Timeline {
        work: stages.iter().map(|stage| stage.seconds).sum(),
        end,
        stages: bars.collect(),
    }))
}

fn sources(data: &[DataSummary]) -> Content<'_> {
    let sources = data.iter().map(|one| Source {
        domain: &one.domain,
        source: &one.source,
        revision: &one.revision,
        numbers: [one.read, one.kept, one.held_out, one.trained_tokens, one.tokens_lost],
        lengths: histogram(&one.lengths, one.longest_row),
        license: &one.license,
        note: &one.note,
    });
    Content::Sources(sources.collect())
}
