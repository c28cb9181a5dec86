//! A recipe's requests, from which another recipe's routing rows are made.

use std::path::Path;

use crate::enums::Format;
use crate::plan::{RequestsPlan, SpecialistPlan};

/// A recipe's requests for one label; `None` if it has none.
pub(crate) fn requests_plan(label: &str, recipe: &SpecialistPlan) -> Option<RequestsPlan> {
    let mut data = recipe.data.clone();
    data.sources.retain(|source| source.format != Some(Format::Text));
    let questions = recipe.evaluate.questions().filter(|_| data.decontaminate);
    let questions = questions
        .map(|(suite, file)| (suite, file.map(Path::to_owned)))
        .collect();
    (!data.sources.is_empty()).then(|| RequestsPlan {
        label: label.to_owned(),
        recipe: recipe.name.clone(),
        file: recipe.file.clone(),
        data,
        questions,
    })
}
