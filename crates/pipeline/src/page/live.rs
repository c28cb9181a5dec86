//! The page while its run goes on: a reporter that passes everything on and writes the page now and then.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use synapse_recipe::{Plan, Stage};
use synapse_trainer::{HeldOutReport, StepReport};

use super::{State, Usage, write};
use crate::{PipelineError, Reporter};

/// The page is written no more often than this,
const INTERVAL: Duration = Duration::from_secs(4);
/// and takes no more than one part in so many of the run's time.
const SHARE: u32 = 50;

/// Watches a run for its page.
pub(crate) struct Live<'a> {
    document: Plan,
    command: String,
    inner: &'a dyn Reporter,
    began: Instant,
    state: Mutex<Written>,
}

struct Written {
    /// What the run is doing.
    doing: String,
    /// When the page may be written again.
    next: Instant,
    /// A page that could not be written was told of.
    told: bool,
}

impl<'a> Live<'a> {
    pub(crate) fn new(document: Plan, command: &str, inner: &'a dyn Reporter) -> Self {
        let now = Instant::now();
        Self {
            document,
            command: command.to_owned(),
            inner,
            began: now,
            state: Mutex::new(Written {
                doing: "beginning".into(),
                next: now,
                told: false,
            }),
        }
    }

    /// Writes the last page: of a run that is done, or that ended early.
    pub(crate) fn finish<T>(&self, result: &Result<T, PipelineError>) -> Result<(), PipelineError> {
        let state = match result {
            Ok(_) => State::Done,
            Err(error) => State::Broken(error.to_string()),
        };
        self.write(&state)
    }

    fn write(&self, state: &State) -> Result<(), PipelineError> {
        Usage::now(&self.command, self.began).write(self.document.run_dir())?;
        write(&self.document, state).map(drop)
    }

    /// The run does something new (`at_once`), or more of the same.
    fn does(&self, doing: Option<&str>, at_once: bool) {
        let Ok(mut written) = self.state.lock() else { return };
        if let Some(doing) = doing
            && written.doing != doing
        {
            doing.clone_into(&mut written.doing);
        }
        let now = Instant::now();
        if !at_once && now < written.next {
            return;
        }
        // A page that cannot be written does not stop the run, but it is said once.
        if let Err(error) = self.write(&State::Running(written.doing.clone()))
            && !std::mem::replace(&mut written.told, true)
        {
            self.inner.note(&format!("report.html cannot be written: {error}"));
        }
        written.next = Instant::now() + INTERVAL.max(now.elapsed() * SHARE);
    }
}

impl Reporter for Live<'_> {
    fn started(&self, name: &str, stage: Stage) {
        self.inner.started(name, stage);
        self.does(Some(&format!("{name}: {}", stage.id())), true);
    }

    fn skipped(&self, name: &str, stage: Stage) {
        self.inner.skipped(name, stage);
    }

    fn finished(&self, name: &str, stage: Stage, seconds: f64, summary: &str) {
        self.inner.finished(name, stage, seconds, summary);
    }

    fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        self.inner.progress(what, done, total);
        let so_far = total.map_or_else(
            || format!("{what}, {done}"),
            |total| format!("{what}, {done} of {total}"),
        );
        self.does(Some(&so_far), false);
    }

    fn training(&self, name: &str, done: u64, total: u64) {
        self.inner.training(name, done, total);
        self.does(Some(&format!("{name}: training, {done} of {total} steps done")), true);
    }

    fn step(&self, report: &StepReport) {
        self.inner.step(report);
        self.does(None, false);
    }

    fn measuring(&self, done: u64, total: u64) {
        self.inner.measuring(done, total);
        let so_far = format!("measuring held-out loss, {done} of {total} rows");
        self.does(Some(&so_far), false);
    }

    fn held_out(&self, loss: &HeldOutReport) {
        self.inner.held_out(loss);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }
}
