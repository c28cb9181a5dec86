//! Time, memory and machine of a run: run.json in its folder, written with the page.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use synapse_evaluate::report::Fact;

use crate::{PipelineError, record::write_json, run_dir::RunDir};

/// Command and resources of a run's latest invocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// The command as typed.
    pub(crate) command: String,
    /// Seconds since 1970 when it began.
    started: u64,
    /// Seconds it has taken so far.
    seconds: f64,
    /// Processor seconds of all its threads so far, where the system tells.
    processor_seconds: Option<f64>,
    /// Most memory it had resident, where the system tells.
    peak_bytes: Option<u64>,
    instruction_set: String,
    threads: usize,
    version: String,
}

impl Usage {
    /// Of this process, begun at `began`.
    pub(crate) fn now(command: &str, began: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            command: command.to_owned(),
            started: since.saturating_sub(began.elapsed()).as_secs(),
            seconds: began.elapsed().as_secs_f64(),
            processor_seconds: processor_seconds(),
            peak_bytes: synapse_trainer::peak_resident_bytes(),
            instruction_set: synapse_kernels::Isa::current().name().to_owned(),
            threads: synapse_kernels::threads(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The usage that a run recorded; `None` if there is none that can be read.
    pub(crate) fn read(run: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(RunDir::new(run).usage()).ok()?).ok()
    }

    pub(crate) fn write(&self, run: &Path) -> Result<(), PipelineError> {
        write_json(&RunDir::new(run).usage(), self)
    }

    /// Named for people.
    pub(crate) fn facts(&self, run: &Path) -> Vec<Fact> {
        let fact = |name: &str, value: String| Fact {
            name: name.to_owned(),
            value,
        };
        let mut facts = vec![
            fact("started", utc(self.started)),
            fact("took", format!("{:.0} s", self.seconds)),
        ];
        if let Some(seconds) = self.processor_seconds {
            let busy = 100.0 * seconds / (self.seconds * self.threads as f64).max(1e-9);
            facts.push(fact(
                "processor time",
                format!("{seconds:.0} s ({busy:.0} % of {} threads)", self.threads),
            ));
        }
        if let Some(bytes) = self.peak_bytes {
            facts.push(fact("peak memory", size(bytes)));
        }
        facts.push(fact("disk used by the run", size(folder_bytes(run))));
        facts.push(fact("instruction set", self.instruction_set.clone()));
        facts.push(fact("threads", self.threads.to_string()));
        facts.push(fact("version", self.version.clone()));
        facts
    }
}

/// User and system time of the process, from Linux's /proc in its fixed unit of 1/100 s.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // the name in brackets may hold spaces; fields are counted behind it
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some((user.parse::<f64>().ok()? + system.parse::<f64>().ok()?) / 100.0)
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else {
        format!("{mib:.0} MiB")
    }
}

/// `2026-11-25 17:40 UTC` of seconds since 1970 (Howard Hinnant's civil_from_days).
fn utc(seconds: u64) -> String {
    let (days, of_day) = ((seconds / 86_400).cast_signed(), seconds % 86_400);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        of_day / 3600,
        of_day % 3600 / 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_sizes_as_people_write_them() {
        // `date -u -d @N`
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(
            (size(5 << 20), size(5 << 29)),
            ("5 MiB".to_owned(), "2.5 GiB".to_owned())
        );
    }
}
