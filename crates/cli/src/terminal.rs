//! Progress on stderr: a line per finished stage, and one progress bar if stderr is a terminal.

use std::sync::Mutex;
use std::time::Instant;

use indicatif::ProgressBar;
use synapse_pipeline::{ProgressUnit, Reporter};
use synapse_recipe::Stage;
use synapse_trainer::{HeldOutReport, StepReport};

use crate::console::{print_message, progress_bar};

/// Reports progress on stderr.
pub(crate) struct Terminal {
    bar: Mutex<Option<Bar>>,
    interactive: bool,
}

struct Bar {
    bar: ProgressBar,
    what: String,
    last_line: Instant,
    held_out: Option<f64>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self {
            bar: Mutex::new(None),
            interactive: std::io::IsTerminal::is_terminal(&std::io::stderr()),
        }
    }

    fn clear(&self) {
        if let Ok(mut bar) = self.bar.lock()
            && let Some(bar) = bar.take()
        {
            bar.bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        self.clear();
        print_message(text);
    }

    /// Without a terminal, prints a progress line every 15 seconds.
    fn periodic_line(&self, bar: &mut Bar, line: &str) {
        if !self.interactive && bar.last_line.elapsed().as_secs() >= 15 {
            bar.last_line = Instant::now();
            print_message(format_args!("  {line}"));
        }
    }

    /// Updates the bar of `what`, and replaces the bar of other work.
    fn with_bar(&self, what: &str, total: Option<u64>, template: &str, update: impl FnOnce(&mut Bar)) {
        let Ok(mut slot) = self.bar.lock() else { return };
        if slot.as_ref().is_none_or(|bar| bar.what != what) {
            if let Some(old) = slot.take() {
                old.bar.finish_and_clear();
            }
            *slot = Some(Bar {
                bar: progress_bar(total, template),
                what: what.to_owned(),
                last_line: Instant::now(),
                held_out: None,
            });
        }
        if let Some(bar) = slot.as_mut() {
            update(bar);
        }
    }
}

const TRAINING: &str = "  {prefix:12} [{bar:20}] {pos}/{len} {msg} ETA {eta}";
const COUNTING: &str = "  [{bar:20}] {pos}/{len} {msg}";
const BYTES: &str = "  [{bar:20}] {bytes}/{total_bytes} {msg}";

impl Reporter for Terminal {
    fn started(&self, name: &str, stage: Stage) {
        if stage != Stage::Train {
            self.with_bar(&format!("{name} {}", stage.id()), None, "  {msg}", |bar| {
                bar.bar.set_message(format!("{name}: {}", stage.id()));
            });
        }
    }

    fn skipped(&self, name: &str, stage: Stage) {
        self.line(&format!("  {name:12} {:9} unchanged", stage.id()));
    }

    fn finished(&self, name: &str, stage: Stage, seconds: f64, summary: &str) {
        self.line(&format!(
            "  {name:12} {:9} {:>7}  {summary}",
            stage.id(),
            duration(seconds)
        ));
    }

    fn progress(&self, what: &str, unit: ProgressUnit, done: u64, total: Option<u64>) {
        let template = match unit {
            ProgressUnit::Items => COUNTING,
            ProgressUnit::Bytes => BYTES,
        };
        self.with_bar(what, total, template, |bar| {
            if let Some(total) = total {
                bar.bar.set_length(total);
            }
            bar.bar.set_position(done);
            bar.bar.set_message(what.to_owned());
            let of = total.map_or_else(String::new, |total| format!(" of {total}"));
            self.periodic_line(bar, &format!("{what}, {done}{of}"));
        });
    }

    fn training(&self, name: &str, done: u64, total: u64) {
        if done > 0 {
            self.line(&format!("  {name:12} train     resuming after step {done} of {total}"));
        }
        self.with_bar(&format!("{name} train"), Some(total), TRAINING, |bar| {
            bar.bar.set_prefix(name.to_owned());
            bar.bar.set_position(done);
            bar.bar.reset_eta();
        });
    }

    fn step(&self, report: &StepReport) {
        let Ok(mut slot) = self.bar.lock() else { return };
        let Some(bar) = slot.as_mut() else { return };
        let rate = report.tokens as f64 / report.seconds.max(1e-9);
        let held_out = bar
            .held_out
            .map_or_else(String::new, |loss| format!(" held-out {loss:.3}"));
        bar.bar.set_position(report.step);
        bar.bar
            .set_message(format!("loss {:.3}{held_out} {rate:.0} tok/s", report.loss));
        let (name, total) = (bar.bar.prefix(), bar.bar.length().unwrap_or(0));
        let (step, loss) = (report.step, report.loss);
        let line = format!("{name:12} step {step}/{total} loss {loss:.3}{held_out} {rate:.0} tok/s");
        self.periodic_line(bar, &line);
    }

    fn measuring(&self, done: u64, total: u64) {
        let Ok(mut slot) = self.bar.lock() else { return };
        let Some(bar) = slot.as_mut() else { return };
        let what = format!("measuring held-out loss, row {done}/{total}");
        let line = format!("{:12} {what}", bar.bar.prefix());
        self.periodic_line(bar, &line);
        bar.bar.set_message(what);
    }

    fn held_out(&self, loss: &HeldOutReport) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.as_mut()
        {
            bar.held_out = Some(loss.held_out_loss);
        }
    }

    fn note(&self, text: &str) {
        self.line(&format!("  warning: {text}"));
    }
}

/// A duration in at most seven characters.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else if seconds < 6000.0 {
        format!("{}m {:02}s", seconds as u64 / 60, seconds as u64 % 60)
    } else {
        format!("{}h {:02}m", seconds as u64 / 3600, seconds as u64 / 60 % 60)
    }
}
