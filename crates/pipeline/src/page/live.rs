//! The page of a run in progress: a reporter that forwards every event and rewrites the page at intervals.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use synapse_recipe::{Plan, Stage};
use synapse_trainer::{HeldOutReport, StepReport};

use super::{State, usage::Usage, write};
use crate::{PipelineError, ProgressUnit, Reporter, Run};

/// The page is written at most this often.
const INTERVAL: Duration = Duration::from_secs(4);
/// After a write the page rests for this many times the write's duration, so that it takes 2 % of the run at most.
const SHARE: u32 = 50;

/// Does `work` with the run's page kept up to date, and writes it once more at the end, also after an error.
pub(crate) fn with_page<T>(
    run: &Run<'_>,
    plan: Plan,
    work: impl FnOnce(&Run<'_>) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    let page = LivePage::new(plan, &run.options.command, run.reporter);
    let result = work(&run.reporting_to(&page));
    let written = page.finish(&result);
    // the run's own error says more than its page's
    let done = result?;
    written?;
    Ok(done)
}

/// A reporter that keeps the page of a run up to date.
struct LivePage<'a> {
    plan: Plan,
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
    /// Whether the user was told that the page cannot be written.
    told: bool,
}

impl<'a> LivePage<'a> {
    fn new(plan: Plan, command: &str, inner: &'a dyn Reporter) -> Self {
        let now = Instant::now();
        Self {
            plan,
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

    /// Writes the last page, of a run that is done or ended early.
    fn finish<T>(&self, result: &Result<T, PipelineError>) -> Result<(), PipelineError> {
        let state = match result {
            Ok(_) => State::Done,
            Err(error) => State::Broken(error.to_string()),
        };
        self.write(&state)
    }

    fn write(&self, state: &State) -> Result<(), PipelineError> {
        Usage::now(&self.command, self.began).write(self.plan.run_dir())?;
        write(&self.plan, state).map(drop)
    }

    /// Notes the current work and writes the page: `at_once` for new work, else when it is due.
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
        // A page that cannot be written does not stop the run; the user is told once.
        if let Err(error) = self.write(&State::Running(written.doing.clone()))
            && !std::mem::replace(&mut written.told, true)
        {
            self.inner.note(&format!("report.html cannot be written: {error}"));
        }
        written.next = Instant::now() + INTERVAL.max(now.elapsed() * SHARE);
    }
}

impl Reporter for LivePage<'_> {
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

    fn progress(&self, what: &str, unit: ProgressUnit, done: u64, total: Option<u64>) {
        self.inner.progress(what, unit, done, total);
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
