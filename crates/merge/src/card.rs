//! README.md of a merge that nobody has measured yet: what was merged and how, what was lost on the way, and the heat
//! map. A pipeline replaces it with the export crate's card, which has scores and licenses.

use std::fmt::Write as _;

use crate::heat_map::HEAT_MAP_FILE;
use crate::{MERGE_FILE, MergeReport, MergeRequest, REPORT_FILE};

/// The card's text. `pictured` says whether there is a heat map.
pub(crate) fn card(request: &MergeRequest, report: &MergeReport, pictured: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, so the result says nothing.
    let _ = sections(&mut text, request, report, pictured);
    text
}

fn sections(text: &mut String, request: &MergeRequest, report: &MergeReport, pictured: bool) -> std::fmt::Result {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    writeln!(
        text,
        "---\nlibrary_name: transformers\ntags: [merge, synapse]\nbase_model:"
    )?;
    let base = request.reference_of(&request.base);
    for model in
        std::iter::once(base.clone()).chain(request.models.iter().map(|input| request.reference_of(&input.path)))
    {
        // Only ids of the hub mean something to a reader elsewhere.
        if request.aliases.values().any(|id| *id == model) {
            writeln!(text, "  - {model}")?;
        }
    }
    if text.ends_with("base_model:\n") {
        text.truncate(text.len() - "base_model:\n".len());
    }
    // The same bytes wherever the folder is, so its name is not in here.
    let count = report.inputs.len();
    writeln!(
        text,
        "---\n# A merge of {count} models by {}\n\nMerged onto `{base}`:\n",
        report.method
    )?;
    writeln!(text, "| input | weight | kept |\n|---|---|---|")?;
    for input in &report.inputs {
        let kept = match &input.trim {
            Some(_) => request.trim_of(&input.name).describe(),
            None => "everything".to_owned(),
        };
        writeln!(text, "| {} | {} | {kept} |", input.name, input.weight)?;
    }
    if let Some(sign) = &report.sign {
        writeln!(
            text,
            "\nSigns are elected by `{sign}`; a draw: `{}`.",
            request.ties.tie_break
        )?;
    }
    let totals = &report.totals;
    writeln!(
        text,
        "\n## What was lost\n\n{} tensors merged, {} copied.\n\n| | share |\n|---|---|\n| entries no input changes | {} |\n\
         | entries one input changes | {} |\n| entries several change | {} |\n| entries in disagreement | {} |\n\
         | energy lost to trimming | {} |\n| energy lost to the vote | {} |\n| rounding error of the merged change | {} |",
        report.tensors.len(),
        report.copied,
        percent(totals.voters.none),
        percent(totals.voters.one),
        percent(totals.voters.several),
        percent(totals.disagreement),
        percent(totals.energy_lost.trim),
        percent(totals.energy_lost.vote),
        percent(totals.energy_lost.rounding),
    )?;
    if pictured {
        writeln!(text, "\n![What the merge lost, by layer and module]({HEAT_MAP_FILE})")?;
    }
    writeln!(
        text,
        "\n`{REPORT_FILE}` has every tensor's numbers. `{MERGE_FILE}` holds the whole recipe: `synapse-merge {MERGE_FILE}` \
         makes the same bytes, and `synapse-merge verify .` checks these.\n\nNothing here was evaluated."
    )
}
