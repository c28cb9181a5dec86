//! Real requests for generated rows: the prompts of other recipes' rows, split as those recipes split them, so that what
//! one of them holds out is not trained on here either.

use std::collections::BTreeSet;

use synapse_recipe::{Location, RequestsPlan};

use crate::manifest::{FileManifest, RequestsManifest, RequestsSource};
use crate::mix::Preparation;
use crate::origin::Taken;
use crate::request::{PrepareEvent, PrepareRequest, SourceFiles};
use crate::routing::Requests;
use crate::{DataError, Result};

/// Reads the rows of every recipe that `plans` names; `files` has the files of each, in the same order.
pub(crate) fn read(
    plans: &[RequestsPlan],
    files: &[Vec<SourceFiles>],
    request: &PrepareRequest<'_>,
    progress: &dyn Fn(PrepareEvent),
) -> Result<(Requests, Vec<RequestsManifest>)> {
    if plans.len() != files.len() {
        return Err(DataError::Request(format!(
            "the plan takes requests of {} recipes and files were given for {}",
            plans.len(),
            files.len()
        )));
    }
    let (mut requests, mut manifests) = (Requests::default(), Vec::new());
    for (plan, files) in plans.iter().zip(files) {
        let of_that_recipe = PrepareRequest {
            plan: &plan.data,
            files: files.clone(),
            request_files: Vec::new(),
            system_prompt: None,
            ..*request
        };
        // Its own run tells of its shortages.
        let reading = |event| match event {
            PrepareEvent::Warning(_) => {}
            event => progress(event),
        };
        let mut rows = Preparation::new(&of_that_recipe, &reading)?;
        rows.collect()?;
        rows.clean()?;
        rows.split()?;
        let (mut held_in, mut held_out) = (Vec::new(), Vec::new());
        for source in &rows.sources {
            held_in.extend(source.train.iter().filter_map(first_prompt));
            held_out.extend(source.held_out.iter().filter_map(first_prompt));
        }
        let sorted = requests.add(&plan.label, held_in, held_out);
        if sorted.held_in == 0 {
            return Err(DataError::Request(format!(
                "no row of the recipe `{}` asks something that is plainly `{}`; take it out of `requests`",
                plan.recipe, plan.label
            )));
        }
        manifests.push(RequestsManifest {
            label: plan.label.clone(),
            recipe: plan.recipe.clone(),
            sources: sources(plan, files),
            held_in: sorted.held_in,
            held_out: sorted.held_out,
            dropped: sorted.dropped,
        });
    }
    Ok((requests, manifests))
}

/// What the first user turn of a row says.
fn first_prompt(taken: &Taken) -> Option<String> {
    taken.row.prompts().next().map(str::to_owned)
}

fn sources(plan: &RequestsPlan, files: &[SourceFiles]) -> Vec<RequestsSource> {
    let source = |(plan, files): (&synapse_recipe::SourcePlan, &SourceFiles)| RequestsSource {
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
