//! What the last run of a recipe left in its folder, and whether that still belongs to the recipe as it is now.
//!
//! What this is not: the fingerprints by which a run decides what to do again (`record`).

use synapse_data::Manifest;
use synapse_recipe::SpecialistPlan;

use crate::{PipelineError, run_dir::RunDir};

/// How the recipe compares with the one that last ran.
#[derive(Clone, Copy)]
pub(crate) struct LastRun {
    /// All that training depends on is the same.
    pub(crate) same: bool,
    /// What the data is made of is the same.
    pub(crate) same_data: bool,
}

impl LastRun {
    /// `None` where nothing ran.
    pub(crate) fn read(plan: &SpecialistPlan) -> Result<Option<Self>, PipelineError> {
        let path = RunDir::new(&plan.run_dir).plan();
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(PipelineError::io(&path))?;
        let broken = |error: serde_json::Error| PipelineError::Unusable {
            what: format!("{}: {error}", path.display()),
            hint: "remove the run's folder, or run the recipe again".into(),
        };
        let then: serde_json::Value = serde_json::from_slice(&text).map_err(broken)?;
        // by way of text as well: a number's shortest text is not the number itself
        let now = serde_json::to_vec(plan).and_then(|text| serde_json::from_slice::<serde_json::Value>(&text));
        let now = now.map_err(broken)?;
        let same = |pointers: &[&str]| pointers.iter().all(|at| then.pointer(at) == now.pointer(at));
        let same_data = same(&[
            "/data",
            "/system_prompt",
            "/router",
            "/train/max_seq_len",
            "/train/packing",
            "/train/overlong",
            "/train/loss_on",
        ]);
        Ok(Some(Self {
            same: same_data && same(&["/base", "/train", "/method", "/quantization", "/evaluate"]),
            same_data,
        }))
    }
}

/// The manifest of data that was prepared for the recipe as it is now.
pub(crate) fn prepared_manifest(
    plan: &SpecialistPlan,
    last_run: Option<LastRun>,
) -> Result<Option<Manifest>, PipelineError> {
    let path = RunDir::new(&plan.run_dir).manifest();
    let current = path.is_file() && last_run.is_none_or(|ran| ran.same_data);
    Ok(if current { Some(Manifest::read(&path)?) } else { None })
}
