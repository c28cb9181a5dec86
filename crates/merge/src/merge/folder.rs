//! The weights of a merged folder: written in place and journaled, or only what changes in the base.
//!
//! The output's layout is known before the first tensor, so tiles are written where they belong, by the threads that
//! made them. A separate thread syncs finished tensors and records them in the journal. An interrupted run continues from
//! the journal and ends with the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use synapse_checkpoint::{DType, ShardedWriter, sha256_bytes};

use super::job::{MergeJob, OnProgress};
use super::report_builder::ReportBuilder;
use crate::delta::DeltaWriter;
use crate::inputs::Inputs;
use crate::journal::{FinishedTensor, Journal};
use crate::memory::MemorySink;
use crate::parallel::merge_all;
use crate::sink::FolderSink;
use crate::tensor_merger::{TensorMerger, TensorResult};
use crate::{MergeError, MergeReport, MergeRequest, Result, Rounding};

/// Writes every tensor, merged or copied, and returns the report.
pub(super) fn write_tensors(job: &MergeJob<'_>, folder: &Path, progress: OnProgress<'_>) -> Result<MergeReport> {
    let &MergeJob {
        request,
        inputs,
        plans,
        formats,
    } = job;
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
    // A tensor of the journal counts as finished if its checksum agrees.
    let mut resumed = found.unwrap_or_default();
    resumed.retain(|tensor, finished| checksum(&writer, tensor).is_ok_and(|found| found == Some(finished.checksum)));
    let mut journal = Journal::open(folder, &merge, &resumed)?;
    let report = {
        let writer = &writer;
        let resumed = &resumed;
        let sink = FolderSink { writer, formats };
        std::thread::scope(|scope| {
            let (finished, inbox) = mpsc::channel::<FinishedTensor>();
            let journal = &mut journal;
            let recorder = scope.spawn(move || sync_and_record(writer, journal, &inbox));
            let merged = merge_missing(job, resumed, &sink, &finished, progress);
            drop(finished);
            let recorded = recorder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let report = merged?;
            recorded?;
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

/// Writes what the merge changes in the base. An interrupted run starts from the beginning.
pub(super) fn write_delta<'a>(
    job: &MergeJob<'a>,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<(MergeReport, DeltaWriter<'a>)> {
    let plans = job.plans;
    let merger = TensorMerger::new(job.request, job.inputs, plans)?;
    let mut report = ReportBuilder::new(job);
    let mut delta = DeltaWriter::new(job.inputs, plans, folder)?;
    // Stochastic rounding may change tensors that no input changes.
    let changes_all = job.request.rounding == Rounding::Stochastic;
    let indices: Vec<usize> = (0..plans.len())
        .filter(|&index| changes_all || !merger.source.tensors[index].inputs.is_empty())
        .collect();
    let sink = MemorySink::new(job.formats, plans.iter().map(|plan| plan.name.as_str()));
    let mut failed = None;
    merge_all(&merger, &indices, &sink, |index, result| {
        if let Some((dtype, bytes)) = sink.take(&plans[index].name)
            && failed.is_none()
        {
            failed = delta.add(index, dtype, &bytes).err();
        }
        report.add(index, result, 0, progress);
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    delta.assemble()?;
    Ok((report.build(), delta))
}

/// Removes what another merge left in a staging folder.
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

/// Merges every tensor that an earlier run did not finish.
fn merge_missing(
    job: &MergeJob<'_>,
    resumed: &BTreeMap<String, FinishedTensor>,
    sink: &FolderSink<'_>,
    finished: &mpsc::Sender<FinishedTensor>,
    progress: OnProgress<'_>,
) -> Result<MergeReport> {
    let plans = job.plans;
    let merger = TensorMerger::new(job.request, job.inputs, plans)?;
    let mut report = ReportBuilder::new(job);
    let mut missing = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        match resumed.get(&plan.name) {
            Some(earlier) => {
                let result = TensorResult {
                    checksum: earlier.checksum,
                    merged: earlier.merged.clone(),
                };
                report.add(index, result, resumed.len(), progress);
            }
            None => missing.push(index),
        }
    }
    merge_all(&merger, &missing, sink, |index, result| {
        // Without a receiver, the recording thread has failed and reports its own error.
        let _ = finished.send(FinishedTensor {
            tensor: plans[index].name.clone(),
            checksum: result.checksum,
            merged: result.merged.clone(),
        });
        report.add(index, result, resumed.len(), progress);
    })?;
    Ok(report.build())
}

/// Time between two syncs: each makes every writer wait for the disk.
const SYNC_EVERY: Duration = Duration::from_secs(10);
/// As `SYNC_EVERY`, for tests that want to see a journal grow.
const SYNC_EVERY_VARIABLE: &str = "SYNAPSE_MERGE_SYNC_MS";

/// Syncs finished tensors to disk and records them in the journal.
fn sync_and_record(
    writer: &ShardedWriter,
    journal: &mut Journal,
    inbox: &mpsc::Receiver<FinishedTensor>,
) -> Result<()> {
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

/// What a resumed run must have in common with the interrupted one: the request, and inputs that have not changed.
fn fingerprint(request: &MergeRequest, inputs: &Inputs) -> String {
    sha256_bytes(format!("{request:?}\n{:?}", inputs.stamps()).as_bytes())
}
