//! Stage lists: files that say what a recipe goes through.

use std::path::Path;

use crate::diagnostics::Diagnostics;
use crate::enums::Stage;
use crate::kind::Kind;
use crate::parsed_file::ParsedFile;
use crate::raw::StageList;
use crate::resolve::Resolver;

/// Stages of a recipe that names no pipeline, and the only ones a recipe alone can go through.
const SPECIALIST_STAGES: [Stage; 4] = [Stage::Fetch, Stage::Prepare, Stage::Train, Stage::Evaluate];

impl Resolver<'_> {
    /// The stages of the list a recipe names.
    pub(super) fn stages(&mut self, pipeline: Option<&Path>) -> Vec<Stage> {
        let Some(written) = pipeline else {
            return SPECIALIST_STAGES.to_vec();
        };
        let file = self.input("pipeline", written);
        if !file.is_file() {
            self.refuse_value(
                "pipeline",
                format!("no such file: {}", file.display()),
                Some("it lists the stages, as pipelines/specialist.yaml does".to_owned()),
            );
            return SPECIALIST_STAGES.to_vec();
        }
        match stage_list(&file) {
            Ok(stages) => {
                if let Some(stage) = stages.iter().find(|stage| !SPECIALIST_STAGES.contains(stage)) {
                    let message = format!(
                        "{} lists the stage `{stage}`, which needs several recipes",
                        file.display()
                    );
                    self.refuse_value(
                        "pipeline",
                        message,
                        Some("merge, gate and export belong to a pipeline with `recipes:`".to_owned()),
                    );
                }
                stages
            }
            Err(diagnostics) => {
                self.problems.extend(diagnostics.problems);
                SPECIALIST_STAGES.to_vec()
            }
        }
    }
}

/// Reads a stage list.
///
/// # Errors
/// Every problem of the file, stages twice or out of order among them.
pub(crate) fn stage_list(file: &Path) -> Result<Vec<Stage>, Diagnostics> {
    let mut source = ParsedFile::read(file)?;
    let (list, problems) = source.deserialize::<StageList>(Kind::StageList);
    let Some(list) = list else {
        return Err(Diagnostics::new(problems));
    };
    let mut resolver = Resolver {
        source: &source,
        problems,
    };
    for (index, pair) in list.stages.windows(2).enumerate() {
        if pair[0] >= pair[1] {
            let message = format!("`{}` cannot come after `{}`", pair[1], pair[0]);
            let order = Stage::ALL.map(Stage::id).join(", ");
            resolver.refuse_value(
                &format!("stages.{}", index + 1),
                message,
                Some(format!("the order is {order}")),
            );
        }
    }
    if resolver.problems.is_empty() {
        Ok(list.stages)
    } else {
        Err(Diagnostics::new(resolver.problems))
    }
}
