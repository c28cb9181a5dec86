//! The weights of a merged folder: written in place and journaled, or only what changes in the base.
//!
//! The output's layout is known before the first tensor, so tiles are written where they belong, by the threads that
//! made them. A keeper thread syncs finished tensors and notes them in the journal; a run that was killed goes on from
//! there, and ends with the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use synapse_checkpoint::{DType, ShardedWriter, sha256_bytes};

use super::sums::Sums;
use super::{MergeProgress, formats};
use crate::crew::merge_all;
use crate::engine::{Engine, Outcome};
use crate::inputs::Inputs;
use crate::journal::{Finished, Journal};
use crate::memory::MemorySink;
use crate::plan::TensorPlan;
use crate::sink::{FolderSink, Format};
use crate::sparse::Changes;
use crate::{MergeError, MergeReport, MergeRequest, Result, Rounding};

/// Writes every tensor, merged or copied, and returns the report.
pub(super) fn write_tensors(
    request: &MergeRequest,
    inputs: &Inputs,
    plans: &[TensorPlan],
    folder: &Path,
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<MergeReport> {
    let formats = formats(request, inputs, plans);
    let layout: Vec<(String, DType, Vec<usize>)> = plans
        .iter()
        .map(|plan| (plan.name.clone(), formats[&plan.name].dtype, plan.shape.clone()))
        .collect();
    let merge = fingerprint(request, inputs);
    let found = Journal::read(folder, &merge);
    if found.is_none() {
        clear(folder)?;
    }
    let mut writer = match &found {
        Some(_) => ShardedWriter::resume(folder, &layout, request.max_shard_bytes)?,
        None => ShardedWriter::create(folder, &layout, request.max_shard_bytes)?,
    };
    // What the journal says is there is believed when its checksum agrees.
    let mut resumed = found.unwrap_or_default();
    resumed.retain(|tensor, finished| checksum(&writer, tensor).is_ok_and(|found| found == Some(finished.checksum)));
    let mut journal = Journal::open(folder, &merge, &resumed)?;
    let report = {
        let writer = &writer;
        let resumed = &resumed;
        let sink = FolderSink {
            writer,
            formats: &formats,
        };
        std::thread::scope(|scope| {
            let (finished, inbox) = mpsc::channel::<Finished>();
            let journal = &mut journal;
            let keeper = scope.spawn(move || keep(writer, journal, &inbox));
            let made = make(request, inputs, plans, (&formats, resumed), &sink, &finished, progress);
            drop(finished);
            let kept = keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let report = made?;
            kept?;
            Ok::<_, MergeError>(report)
        })?
    };
    for plan in plans {
        writer.complete(&plan.name);
    }
    writer.finish()?;
    journal.remove()?;
    Ok(report)
}

/// Writes what every tensor changes in the base. A run that is killed begins again.
pub(super) fn write_changes<'a>(
    request: &MergeRequest,
    inputs: &'a Inputs,
    plans: &'a [TensorPlan],
    folder: &Path,
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<(MergeReport, Changes<'a>)> {
    let formats = formats(request, inputs, plans);
    let engine = Engine::new(request, inputs, plans)?;
    let mut sums = Sums::new(request, plans, &formats);
    let mut changes = Changes::new(inputs, plans, folder)?;
    // Stochastic rounding may change what no input does.
    let changes_all = request.rounding == Rounding::Stochastic;
    let indices: Vec<usize> = (0..plans.len())
        .filter(|&index| changes_all || !engine.touching(&plans[index]).is_empty())
        .collect();
    let sink = MemorySink::new(&formats, plans.iter().map(|plan| plan.name.as_str()));
    let mut failed = None;
    merge_all(&engine, &indices, &sink, |index, outcome| {
        if let Some((dtype, bytes)) = sink.take(&plans[index].name)
            && failed.is_none()
        {
            failed = changes.add(index, dtype, &bytes).err();
        }
        sums.add(index, outcome, 0, progress);
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    changes.assemble()?;
    Ok((sums.report(), changes))
}

/// Empties a staging folder of what another merge left.
fn clear(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(MergeError::file("list", folder))?;
    for entry in entries {
        let path = entry.map_err(MergeError::file("list", folder))?.path();
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(MergeError::file("remove", &path))?;
    }
    Ok(())
}

/// Makes every tensor that is not there yet.
fn make(
    request: &MergeRequest,
    inputs: &Inputs,
    plans: &[TensorPlan],
    (formats, resumed): (&BTreeMap<String, Format>, &BTreeMap<String, Finished>),
    sink: &FolderSink<'_>,
    finished: &mpsc::Sender<Finished>,
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<MergeReport> {
    let engine = Engine::new(request, inputs, plans)?;
    let mut sums = Sums::new(request, plans, formats);
    let mut missing = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        match resumed.get(&plan.name) {
            Some(earlier) => {
                let outcome = Outcome {
                    checksum: earlier.checksum,
                    merged: earlier.merged.clone(),
                };
                sums.add(index, outcome, resumed.len(), progress);
            }
            None => missing.push(index),
        }
    }
    merge_all(&engine, &missing, sink, |index, outcome| {
        // A keeper that is gone has an error of its own to report.
        let _ = finished.send(Finished {
            tensor: plans[index].name.clone(),
            checksum: outcome.checksum,
            merged: outcome.merged.clone(),
        });
        sums.add(index, outcome, resumed.len(), progress);
    })?;
    Ok(sums.report())
}

/// Time between two syncs: each makes every writer wait for the disk.
const SYNC_EVERY: Duration = Duration::from_secs(10);
/// As `SYNC_EVERY`, for tests that want to see a journal grow.
const SYNC_EVERY_VARIABLE: &str = "SYNAPSE_MERGE_SYNC_MS";

/// Syncs what is finished and notes it.
fn keep(writer: &ShardedWriter, journal: &mut Journal, inbox: &mpsc::Receiver<Finished>) -> Result<()> {
    let every = match std::env::var(SYNC_EVERY_VARIABLE) {
        Err(_) => SYNC_EVERY,
        Ok(text) => match text.parse() {
            Ok(milliseconds) => Duration::from_millis(milliseconds),
            Err(_) => {
                return Err(MergeError::request(format!(
                    "{SYNC_EVERY_VARIABLE} is `{text}`; it takes a number of milliseconds"
                )));
            }
        },
    };
    let mut batch = Vec::new();
    let mut last = Instant::now();
    loop {
        match inbox.recv_timeout(every.saturating_sub(last.elapsed())) {
            Ok(finished) => {
                batch.push(finished);
                if last.elapsed() < every {
                    continue;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The last tensors need no note: the folder is about to be complete.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if !batch.is_empty() {
            writer.sync()?;
            journal.add(&batch)?;
            batch.clear();
        }
        last = Instant::now();
    }
}

/// Checksum of a tensor as it lies in the files.
fn checksum(writer: &ShardedWriter, tensor: &str) -> Result<Option<u32>> {
    let Some(bytes) = writer.bytes_of(tensor) else {
        return Ok(None);
    };
    let mut checksum = crc32fast::Hasher::new();
    let mut buffer = vec![0; (1 << 20).min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let part = buffer.len().min((bytes - at) as usize);
        writer.read_part(tensor, at, &mut buffer[..part])?;
        checksum.update(&buffer[..part]);
        at += part as u64;
    }
    Ok(Some(checksum.finalize()))
}

/// What a resumed run must share with the one it goes on with: the request, and inputs that have not changed.
fn fingerprint(request: &MergeRequest, inputs: &Inputs) -> String {
    sha256_bytes(format!("{request:?}\n{:?}", inputs.stamps()).as_bytes())
}
