//! The page and its sections.

use std::fmt::Write;

use super::bars::histogram;
use super::data::{Curve, ReportData, Sample, SearchSummary, StageTime};
use super::html::{count, duration, escaped, table};
use super::{heat_map, plots, results, token_trace};
use crate::Result;
use crate::table::Role;

/// The whole file. The same data give the same bytes.
///
/// # Errors
/// [`crate::EvaluateError::Plot`] when a plot cannot be drawn.
pub fn render(data: &ReportData) -> Result<String> {
    let mut sections = Sections::default();
    let mut verdict = data.table.as_ref().map(results::table).unwrap_or_default();
    if let Some(gate) = &data.gate {
        verdict.insert_str(0, &results::gate(gate));
    }
    let merged = data
        .table
        .iter()
        .flat_map(|table| &table.subjects)
        .any(|subject| subject.role == Role::Merge);
    let title = if merged {
        "What the merge kept and lost"
    } else {
        "What was measured"
    };
    sections.add("results", title, &verdict);
    sections.add("training", "Training", &training(&data.curves)?);
    sections.add(
        "samples",
        "Answers side by side",
        &data.samples.iter().map(sample).collect::<String>(),
    );
    let traces: String = data.traces.iter().map(token_trace::draw).collect();
    if !traces.is_empty() {
        let html = format!(
            "<p>Which modules fired for each token of an answer, over all layers; the fuller the color, the stronger. Of the \
             memory also how strongly it wrote, and how much it gave back.</p>\n{traces}"
        );
        sections.add("tokens", "Modules token by token", &html);
    }
    let routers = data.router_maps.iter().enumerate();
    let maps = routers.map(|(index, map)| (format!("modules-{index}"), map));
    for (id, map) in maps.chain(data.merge_map.iter().map(|map| ("merge".to_owned(), map))) {
        if let Some((svg, words)) = heat_map::draw(map)? {
            let explanation = escaped(&map.explanation);
            let html = format!(
                "<p>{explanation} {}</p>\n<figure class=\"map\">{svg}</figure>\n",
                escaped(&words)
            );
            sections.add(&id, &map.title, &html);
        }
    }
    sections.add(
        "search",
        "Search",
        &data.search.as_ref().map(search).unwrap_or_default(),
    );
    sections.add("timeline", "Stages", &timeline(&data.stages));
    sections.add("data", "Data", &sources(data));
    sections.add("licenses", "Licenses", &licenses(data));
    sections.add("resources", "Machine and resources", &resources(data));
    let recipes = data.recipes.iter().map(|recipe| {
        format!(
            "<h3>{}</h3>\n<pre class=\"recipe\">{}</pre>\n",
            escaped(&recipe.file),
            escaped(&recipe.text)
        )
    });
    sections.add("recipe", "Recipe", &recipes.collect::<String>());
    Ok(page(data, &sections))
}

/// A search's plot beside what it says.
fn search(found: &SearchSummary) -> String {
    let plot: String = found
        .plot
        .chars()
        .map(|character| match character {
            '%' | '#' | '"' | '<' | '>' | '&' | '\n' | '\'' => format!("%{:02X}", u32::from(character)),
            other => other.to_string(),
        })
        .collect();
    format!(
        "<p>{}</p>\n<figure><img alt=\"Merges by mean and worst share of the gains kept\" src=\"data:image/svg+xml,{plot}\"></figure>\n",
        escaped(&found.words)
    )
}

/// Sections that have something in them, with their entries in the list of contents.
#[derive(Default)]
struct Sections {
    contents: String,
    body: String,
}

impl Sections {
    fn add(&mut self, id: &str, title: &str, html: &str) {
        if html.is_empty() {
            return;
        }
        let title = escaped(title);
        // Writing to a string cannot fail.
        let _ = write!(self.contents, "<a href=\"#{id}\">{title}</a> ");
        let _ = write!(self.body, "<section id=\"{id}\">\n<h2>{title}</h2>\n{html}</section>\n");
    }
}

fn page(data: &ReportData, sections: &Sections) -> String {
    let name = escaped(&data.name);
    let (refresh, state) = match &data.refresh {
        Some((seconds, doing)) => (
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"),
            format!(
                "<p class=\"running\">Still running: {}. This page renews itself.</p>\n",
                escaped(doing)
            ),
        ),
        None => {
            let broken = data.broken.as_ref();
            let why = broken.map(|why| format!("<p class=\"broken\">Ended early: {}</p>\n", escaped(why)));
            (String::new(), why.unwrap_or_default())
        }
    };
    let command = if data.command.is_empty() {
        String::new()
    } else {
        format!("<pre class=\"command\">{}</pre>\n", escaped(&data.command))
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{refresh}<title>{name} · Synapse</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n<p>{subtitle}</p>\n{state}{command}\
         <nav aria-label=\"Contents\">{contents}</nav>\n</header>\n<main>\n{body}</main>\n</body>\n</html>\n",
        style = include_str!("style.css"),
        subtitle = escaped(&data.subtitle),
        contents = sections.contents,
        body = sections.body,
    )
}

fn training(curves: &[Curve]) -> Result<String> {
    let plots = plots::training(curves)?;
    if plots.is_empty() {
        return Ok(String::new());
    }
    let mut html = String::from("<p class=\"legend\">");
    for (index, curve) in curves.iter().enumerate() {
        let class = index % plots::SERIES.len();
        let _ = write!(
            html,
            "<span><i class=\"series-{class}\"></i>{}</span> ",
            escaped(&curve.name)
        );
    }
    html.push_str("</p>\n<div class=\"plots\">\n");
    for (title, svg) in plots {
        let _ = writeln!(html, "<figure><figcaption>{title}</figcaption>{svg}</figure>");
    }
    html.push_str("</div>\n");
    let rows: Vec<Vec<String>> = curves
        .iter()
        .filter_map(|curve| {
            let finite = || curve.points.iter().filter(|point| point.loss.is_finite());
            let (first, last) = (finite().next()?, finite().next_back()?);
            let speed =
                curve.points.iter().map(|point| point.tokens_per_second).sum::<f64>() / curve.points.len() as f64;
            Some(vec![
                escaped(&curve.name),
                count(last.step),
                format!("{:.3}", first.loss),
                format!("{:.3}", last.loss),
                count(speed.max(0.0).round() as u64),
            ])
        })
        .collect();
    html.push_str(&table(
        &["run", "steps", "first loss", "last loss", "mean tokens/s"],
        &rows,
        1..5,
    ));
    Ok(html)
}

fn sample(sample: &Sample) -> String {
    let mut html = format!(
        "<article class=\"sample\">\n<p class=\"prompt\"><small>{}</small>{}</p>\n<div class=\"answers\">\n",
        escaped(&sample.domain),
        escaped(&sample.prompt)
    );
    let mut card = |title: &str, mark: &str, text: &str| {
        let text = if text.is_empty() {
            "<em>(nothing)</em>".to_owned()
        } else {
            escaped(text)
        };
        let _ = writeln!(
            html,
            "<div><h4>{}{mark}</h4><div class=\"said\">{text}</div></div>",
            escaped(title)
        );
    };
    if let Some(reference) = &sample.reference {
        card("reference", "", reference);
    }
    for answer in &sample.answers {
        let mark = match answer.correct {
            Some(true) => " <span class=\"better\">✓ right</span>",
            Some(false) => " <span class=\"worse\">✗ wrong</span>",
            None => "",
        };
        card(&answer.subject, mark, &answer.text);
    }
    html.push_str("</div>\n</article>\n");
    html
}

fn timeline(stages: &[StageTime]) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let end = stages
        .iter()
        .map(|stage| stage.start + stage.seconds)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let rows: Vec<Vec<String>> = stages
        .iter()
        .map(|stage| {
            let (left, wide) = (100.0 * stage.start / end, 100.0 * stage.seconds / end);
            let note = if stage.note.is_empty() {
                String::new()
            } else {
                format!(" <small>{}</small>", escaped(&stage.note))
            };
            vec![
                format!("{}{note}", escaped(&stage.name)),
                duration(stage.seconds),
                format!("<div class=\"bar\"><i style=\"left:{left:.2}%;width:{wide:.2}%\"></i></div>"),
            ]
        })
        .collect();
    let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
    format!(
        "<p>{} of work in {}.</p>\n{}",
        duration(total),
        duration(end),
        table(&["stage", "time", ""], &rows, 1..2)
    )
}

fn sources(data: &ReportData) -> String {
    if data.data.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = data
        .data
        .iter()
        .map(|source| {
            let revision = if source.revision.is_empty() {
                String::new()
            } else {
                format!("<br><small>{}</small>", escaped(&source.revision))
            };
            vec![
                escaped(&source.domain),
                format!("{}{revision}", escaped(&source.source)),
                count(source.read),
                count(source.kept),
                count(source.held_out),
                count(source.trained_tokens),
                count(source.tokens_lost),
                histogram(&source.lengths, source.longest_row),
                escaped(&source.license),
                escaped(&source.note),
            ]
        })
        .collect();
    let heading = [
        "domain",
        "source",
        "rows read",
        "trained on",
        "held out",
        "trained tokens",
        "tokens lost",
        "lengths",
        "license",
        "remarks",
    ];
    table(&heading, &rows, 2..7)
}

fn licenses(data: &ReportData) -> String {
    if data.licenses.is_empty() {
        return String::new();
    }
    let row = |license: &super::License| {
        vec![
            escaped(&license.covers),
            escaped(&license.license),
            escaped(&license.note),
        ]
    };
    let rows: Vec<Vec<String>> = data.licenses.iter().map(row).collect();
    table(&["covers", "license", "remarks"], &rows, 0..0)
}

fn resources(data: &ReportData) -> String {
    if data.resources.is_empty() {
        return String::new();
    }
    let facts = data
        .resources
        .iter()
        .map(|fact| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(&fact.name), escaped(&fact.value)));
    format!("<dl>\n{}</dl>\n", facts.collect::<String>())
}
