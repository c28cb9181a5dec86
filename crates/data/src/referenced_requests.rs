//! Requests of other recipes, of which the coordinator's prompts are made. Those recipes' rows are selected and split as
//! the recipes do, so a row that one of them holds out is not trained on here either.

use std::collections::BTreeSet;

use synapse_recipe::{Location, RequestsPlan, SourcePlan};

use crate::manifest::{FileManifest, RequestsManifest, RequestsSource};
use crate::mix::Preparation;
use crate::provenance::SampledRow;
use crate::request::{PrepareEvent, PrepareRequest, SourceFiles};
use crate::source::ReferencedRequests;
use crate::{DataError, Result};

/// Prepares the recipes that the sources of a request reference: one entry for each source.
pub(crate) fn referenced_requests(
    request: &PrepareRequest<'_>,
    progress: &dyn Fn(PrepareEvent),
) -> Result<Vec<ReferencedRequests>> {
    let mut files = request.request_files.iter();
    let of_source = |source: &SourcePlan| {
        if source.location != Location::Routing {
            return Ok(ReferencedRequests::default());
        }
        let files: Vec<&[SourceFiles]> = files.by_ref().take(source.requests.len()).map(Vec::as_slice).collect();
        read(&source.requests, &files, request, progress)
    };
    request.plan.sources.iter().map(of_source).collect()
}

/// Reads the requests of the recipes in `plans`; `files` has the files of each.
fn read(
    plans: &[RequestsPlan],
    files: &[&[SourceFiles]],
    request: &PrepareRequest<'_>,
    progress: &dyn Fn(PrepareEvent),
) -> Result<ReferencedRequests> {
    if plans.len() != files.len() {
        return Err(DataError::Request(format!(
            "the plan takes requests of {} recipes and files were given for {}",
            plans.len(),
            files.len()
        )));
    }
    let mut found = ReferencedRequests::default();
    for (plan, files) in plans.iter().zip(files) {
        let of_that_recipe = PrepareRequest {
            plan: &plan.data,
            files: files.to_vec(),
            request_files: Vec::new(),
            system_prompt: None,
            ..*request
        };
        // Warnings about that recipe belong to its own run.
        let reading = |event| match event {
            PrepareEvent::Warning(_) => {}
            event => progress(event),
        };
        let nested = referenced_requests(&of_that_recipe, &reading)?;
        let mut preparation = Preparation::new(&of_that_recipe, nested, &reading)?;
        preparation.select()?;
        let (mut held_in, mut held_out) = (Vec::new(), Vec::new());
        for source in &preparation.sources {
            held_in.extend(source.train.iter().filter_map(first_prompt));
            held_out.extend(source.held_out.iter().filter_map(first_prompt));
        }
        let sorted = found.requests.add(&plan.label, held_in, held_out);
        if sorted.held_in == 0 {
            return Err(DataError::Request(format!(
                "no row of the recipe `{}` asks something that is plainly `{}`; take it out of `requests`",
                plan.recipe, plan.label
            )));
        }
        found.manifests.push(RequestsManifest {
            label: plan.label.clone(),
            recipe: plan.recipe.clone(),
            sources: sources(plan, files),
            held_in: sorted.held_in,
            held_out: sorted.held_out,
            dropped: sorted.dropped,
        });
    }
    Ok(found)
}

/// The first user turn of a row.
fn first_prompt(sampled: &SampledRow) -> Option<String> {
    sampled.row.prompts().next().map(str::to_owned)
}

fn sources(plan: &RequestsPlan, files: &[SourceFiles]) -> Vec<RequestsSource> {
    let source = |(plan, files): (&SourcePlan, &SourceFiles)| RequestsSource {
        dataset: plan.dataset.clone(),
        origin: match &plan.location {
            Location::Hub { id, .. } => id.clone(),
            Location::File(_) | Location::Routing => "local".to_owned(),
        },
        revision: files.revision.clone(),
        license: plan.license.clone().or_else(|| files.license.clone()),
        files: files.files.iter().map(FileManifest::of).collect(),
    };
    plan.data.sources.iter().zip(files).map(source).collect()
}

/// The license of the templates: this project's.
const TEMPLATES: &str = "Apache-2.0";

/// The licenses of generated rows: that of the templates and those of the requests they are made of.
pub(crate) fn license(requests: &[RequestsManifest]) -> String {
    let of = |source: &RequestsSource| source.license.clone().unwrap_or_else(|| "none stated".to_owned());
    let sources = requests.iter().flat_map(|requests| &requests.sources);
    // Sorted, each once.
    let licenses: BTreeSet<String> = sources.map(of).chain([TEMPLATES.to_owned()]).collect();
    licenses.into_iter().collect::<Vec<_>>().join(", ")
}
