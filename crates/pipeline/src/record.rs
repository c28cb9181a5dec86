//! Stage records: `stages/<stage>.json` in a run's folder holds a fingerprint of the stage's inputs, its duration and
//! its result. A stage runs again only if its fingerprint has changed or its files are gone.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use synapse_checkpoint::{sha256_bytes, write_atomic};
use synapse_evaluate::{EvaluateError, Outcome};
use synapse_recipe::Stage;

use crate::{PipelineError, Run, run_dir::RunDir};

/// Incremented when stages write other bytes for the same plan.
const FORMAT: u32 = 1;

/// What a stage leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record<T> {
    fingerprint: String,
    /// Wall seconds that the stage took.
    pub(crate) seconds: f64,
    /// The stage's result.
    pub(crate) result: T,
}

/// The fingerprint of a list of serializable things.
pub(crate) fn fingerprint(stage: Stage, parts: &impl Serialize) -> Result<String, PipelineError> {
    let text = serde_json::to_vec(&(FORMAT, stage.id(), parts)).map_err(|error| PipelineError::Unusable {
        what: format!("the plan of {} cannot be written as JSON: {error}", stage.id()),
        hint: "this is a bug; please report it".into(),
    })?;
    Ok(sha256_bytes(&text))
}

/// The fingerprint of a stage whose prompts the chat template writes: itself where the template has no arguments, as
/// before there were any.
pub(crate) fn under_template_arguments(arguments: &Map<String, Value>, fingerprint: String) -> String {
    if arguments.is_empty() {
        return fingerprint;
    }
    let arguments = serde_json::to_string(arguments).unwrap_or_default();
    sha256_bytes(format!("{fingerprint}{arguments}").as_bytes())
}

/// One stage of one run: where its record lies and what it depends on.
pub(crate) struct StageRun<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) name: &'a str,
    pub(crate) folder: &'a Path,
    pub(crate) stage: Stage,
    pub(crate) fingerprint: String,
}

impl StageRun<'_> {
    /// Returns the recorded result if it still holds and `intact` agrees, else runs `work` and records it.
    pub(crate) fn execute<T: Serialize + DeserializeOwned>(
        &self,
        intact: impl Fn(&T) -> bool,
        work: impl FnOnce() -> Result<T, PipelineError>,
        summary: impl Fn(&T) -> String,
    ) -> Result<T, PipelineError> {
        if !self.run.repeats(self.stage)
            && let Some(record) = read::<T>(self.folder, self.stage)?
            && record.fingerprint == self.fingerprint
            && intact(&record.result)
        {
            self.run.reporter.skipped(self.name, self.stage);
            return Ok(record.result);
        }
        self.check_stop()?;
        self.run.reporter.started(self.name, self.stage);
        let start = Instant::now();
        let result = work().map_err(|error| match error {
            // suites do not know the run's name or stage
            PipelineError::Stopped { .. } | PipelineError::Evaluate(EvaluateError::Stopped) => self.stopped(),
            other => other,
        })?;
        let record = Record {
            fingerprint: self.fingerprint.clone(),
            seconds: start.elapsed().as_secs_f64(),
            result,
        };
        write_json(&RunDir::new(self.folder).record(self.stage), &record)?;
        self.run
            .reporter
            .finished(self.name, self.stage, record.seconds, &summary(&record.result));
        Ok(record.result)
    }
}

impl StageRun<'_> {
    fn stopped(&self) -> PipelineError {
        PipelineError::Stopped {
            name: self.name.to_owned(),
            stage: self.stage,
        }
    }

    fn check_stop(&self) -> Result<(), PipelineError> {
        if self.run.stops() { Err(self.stopped()) } else { Ok(()) }
    }
}

/// A stage's record. `None` if there is none, or one that this version cannot read.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, stage: Stage) -> Result<Option<Record<T>>, PipelineError> {
    let path = RunDir::new(folder).record(stage);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(PipelineError::io(&path))?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Everything that a run's folder has measured: of its evaluate stage, and of the merge.
///
/// # Errors
/// A record that cannot be read.
pub fn outcomes(run: &Path) -> Result<Vec<Outcome>, PipelineError> {
    let mut found = Vec::new();
    for stage in [Stage::Evaluate, Stage::Gate] {
        if let Some(record) = read::<Vec<Outcome>>(run, stage)? {
            found.extend(record.result);
        }
    }
    Ok(found)
}

/// Writes a JSON file of the run, creating its folder.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PipelineError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(PipelineError::io(parent))?;
    }
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| PipelineError::Io {
        path: path.to_owned(),
        source: error.into(),
    })?;
    text.push(b'\n');
    Ok(write_atomic(path, &text)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{NullReporter, RunOptions};

    #[test]
    fn a_requested_stop_keeps_what_is_recorded_and_begins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let run = Run::new(RunOptions::default(), &NullReporter, &stop);
        let stage = |fingerprint: &str| StageRun {
            run: &run,
            name: "math",
            folder: folder.path(),
            stage: Stage::Evaluate,
            fingerprint: fingerprint.to_owned(),
        };
        let execute = |fingerprint: &str| stage(fingerprint).execute(|_: &u32| true, || Ok(7), u32::to_string);
        assert_eq!(execute("one").unwrap(), 7);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(execute("one").unwrap(), 7, "a finished stage needs no work");
        let error = execute("two").unwrap_err().to_string();
        assert_eq!(error, "stopped in evaluate of `math`; run the same command to resume");
        stop.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            read::<u32>(folder.path(), Stage::Evaluate)
                .unwrap()
                .unwrap()
                .fingerprint,
            "one"
        );
    }
}
