//! README.md of a merge that has not been evaluated: inputs, method, what was lost, and the heat map. The text is in
//! card.md.jinja.
//!
//! What this is not: the card of a pipeline's model, which the crate export writes, with scores and licenses.

use minijinja::{Environment, context};

use crate::heat_map::HEAT_MAP_FILE;
use crate::{MERGE_FILE, MergeReport, MergeRequest, REPORT_FILE, Result};

const TEMPLATE: &str = include_str!("card.md.jinja");

/// The card's text. `with_heat_map` says whether the folder has one.
pub(crate) fn card(request: &MergeRequest, report: &MergeReport, with_heat_map: bool) -> Result<String> {
    let base = request.reference_of(&request.base);
    let models = request.models.iter().map(|input| request.reference_of(&input.path));
    // Only ids of the hub mean something to a reader elsewhere.
    let base_models: Vec<String> = std::iter::once(base.clone())
        .chain(models)
        .filter(|model| request.aliases.values().any(|id| id == model))
        .collect();
    let inputs = report.inputs.iter().map(|input| {
        let kept = match request.method.sparsity() {
            Some(_) => request.kept(&input.name).describe(),
            None => "everything".to_owned(),
        };
        context! { name => &input.name, weight => request.weight_text(&input.name), kept }
    });
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let totals = &report.totals;
    // The same bytes wherever the folder is, so its name is not in here.
    let values = context! {
        base_models,
        base,
        inputs => inputs.collect::<Vec<_>>(),
        method => &report.method,
        sign => &report.sign,
        tie_break => request.ties.tie_break.to_string(),
        merged => report.tensors.len(),
        copied => report.copied,
        untouched => percent(totals.voters.none),
        one => percent(totals.voters.one),
        several => percent(totals.voters.several),
        disagreement => percent(totals.disagreement),
        trim => percent(totals.energy_lost.trim),
        vote => percent(totals.energy_lost.vote),
        rounding => percent(totals.energy_lost.rounding),
        heat_map => with_heat_map.then_some(HEAT_MAP_FILE),
        report_file => REPORT_FILE,
        merge_file => MERGE_FILE,
    };
    // Rendering drops the template's last newline.
    Ok(Environment::new().render_str(TEMPLATE, values)? + "\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;
    use crate::{Input, InputReport, Method, Setting, Settings, Totals};

    #[test]
    fn cards_are_these_bytes() {
        let mut request = MergeRequest::new(Method::Ties, "cache/base", "out");
        request.adapters = vec![Input::new("math", "math"), Input::new("a<b", "code").with_weight(0.5)];
        let inputs = request
            .adapters
            .iter()
            .map(|input| InputReport::new(&request, input, true));
        let mut report = MergeReport {
            format: 1,
            method: "ties".to_owned(),
            sign: Some("frequency".to_owned()),
            inputs: inputs.collect(),
            totals: Totals::default(),
            tensors: Vec::new(),
            copied: 3,
        };
        request.aliases.insert("cache/base".into(), "org/base".to_owned());
        let text = card(&request, &report, true).unwrap();
        let (head, tail) = text.split_once("0 tensors merged").unwrap();
        assert_eq!(
            head,
            "---\nlibrary_name: transformers\ntags: [merge, synapse]\nbase_model:\n  - org/base\n---\n\
             # A merge of 2 models by ties\n\nMerged onto `org/base`:\n\n| input | weight | kept |\n|---|---|---|\n\
             | math | 1 | trim 0.8: zero the smallest 80 %, keep 20 % |\n\
             | a<b | 0.5 | trim 0.8: zero the smallest 80 %, keep 20 % |\n\n\
             Signs are elected by `frequency`; a draw: `drop`.\n\n## What was lost\n\n"
        );
        assert_eq!(
            tail,
            ", 3 copied.\n\n| | share |\n|---|---|\n| entries no input changes | 0.0 % |\n\
             | entries one input changes | 0.0 % |\n| entries several change | 0.0 % |\n| entries in disagreement | 0.0 % |\n\
             | energy lost to trimming | 0.0 % |\n| energy lost to the vote | 0.0 % |\n\
             | rounding error of the merged change | 0.0 % |\n\n\
             ![What the merge lost, by layer and module](merge_report.svg)\n\n`merge_report.json` has every tensor's numbers. \
             `merge.yaml` holds the whole recipe: `synapse-merge merge.yaml` makes the same bytes, and \
             `synapse-merge verify .` checks these.\n\nNothing here was evaluated.\n"
        );
        request.aliases.clear();
        report.sign = None;
        let mut own = Settings::default();
        own.set("density", Setting::parse(&serde_json::json!([0.3, 0.9])).unwrap());
        own.set("weight", Setting::parse(&serde_json::json!([0.5, 1])).unwrap());
        request.input_parameters.insert("math".to_owned(), own);
        let text = card(&request, &report, false).unwrap();
        assert!(text.starts_with("---\nlibrary_name: transformers\ntags: [merge, synapse]\n---\n# A merge"));
        let row = "| math | 0.5 → 1 over the layers | keep 0.3 → 0.9 over the layers |\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("keep 20 % |\n\n## What was lost\n\n"), "{text}");
        assert!(
            text.contains("merged change | 0.0 % |\n\n`merge_report.json`"),
            "{text}"
        );
        request.method = Method::TaskArithmetic;
        let text = card(&request, &report, false).unwrap();
        assert!(text.contains("| a<b | 0.5 | everything |\n"), "{text}");
    }
}
