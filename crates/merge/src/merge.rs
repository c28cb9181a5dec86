//! The merge itself: tensors pass from the inputs into a staged folder, which is published whole.
//!
//! The output's layout is known before the first tensor, so tiles are written where they belong, by the threads that
//! made them. A keeper thread syncs finished tensors and notes them in the journal; a run that was killed goes on from
//! there, and ends with the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use synapse_checkpoint::{DType, ModelFolder, ShardedWriter, Staged, sha256_bytes, write_atomic};
use synapse_export::{GgufExport, GgufTarget, GgufType};

use crate::crew::merge_all;
use crate::engine::{Engine, Outcome};
use crate::heat_map::HEAT_MAP_FILE;
use crate::inputs::Inputs;
use crate::journal::{Finished, Journal};
use crate::memory::MemorySink;
use crate::plan::{TensorPlan, plan};
use crate::report::{FORMAT, InputReport, REPORT_FILE, Tally};
use crate::sink::{CompareSink, FolderSink, Format, GgufSink};
use crate::sparse::Changes;
use crate::{MergeError, MergeReport, MergeRequest, Method, Result, Rounding, card, companions, heat_map, merge_file};

/// How far a merge has come; reported after every tensor.
#[derive(Clone, Copy, Debug)]
pub struct MergeProgress<'a> {
    /// The tensor just written.
    pub tensor: &'a str,
    /// Tensors written so far.
    pub done: usize,
    /// Tensors of the output.
    pub total: usize,
    /// Bytes written so far.
    pub bytes: u64,
    /// Bytes of all output tensors.
    pub total_bytes: u64,
    /// Tensors found finished by an earlier run that was stopped.
    pub resumed: usize,
}

/// Merges as requested and publishes a model folder at `request.out`: weights, configuration, tokenizer, merge.yaml
/// (which makes the same bytes again) and merge_report.json. Memory holds as many tensors' changes at a time as
/// `request.tile_budget` allows.
///
/// # Errors
/// [`MergeError::Request`] lists everything wrong with the request and its folders before anything is written;
/// every other error leaves the output as it was.
pub fn merge(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, inputs.base.config());
    if let Some(gguf_type) = request.gguf {
        return merge_gguf(request, gguf_type, &inputs, &plans, progress);
    }
    let staged = if request.sparse {
        Staged::beside(&request.out)?
    } else {
        Staged::resume(&request.out)?
    };
    let (report, changes, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let (report, changes) = if request.sparse {
            let (report, changes) = write_changes(request, &inputs, &plans, staged.path(), progress)?;
            (report, Some(changes))
        } else {
            let report = write_tensors(request, &inputs, &plans, staged.path(), progress)?;
            (report, None)
        };
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((report, changes, hashes))
    })?;
    let hashes = pinned(request, hashes)?;
    if let Some(changes) = changes {
        changes.describe(request, &hashes, staged.path())?;
    }
    companions::copy(&inputs.base, request, staged.path())?;
    let stored = inputs.base.names().find_map(|name| Some(inputs.base.info(name)?.dtype));
    let text = merge_file::write(request, &hashes, stored.unwrap_or(DType::F32));
    write_atomic(&staged.path().join(merge_file::FILE), text.as_bytes())?;
    write_atomic(&staged.path().join(REPORT_FILE), &report.to_json())?;
    let picture = heat_map::draw(&report);
    if let Some(picture) = &picture {
        write_atomic(&staged.path().join(HEAT_MAP_FILE), picture.as_bytes())?;
    }
    let card = card::card(request, &report, picture.is_some());
    write_atomic(&staged.path().join("README.md"), card.as_bytes())?;
    staged.publish()?;
    Ok(report)
}

/// Streams a merge into one GGUF file. A run that is killed leaves nothing, and begins again.
fn merge_gguf(
    request: &MergeRequest,
    gguf_type: GgufType,
    inputs: &Inputs,
    plans: &[TensorPlan],
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<MergeReport> {
    let formats = formats(request, inputs, plans);
    let name = request
        .out
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if let Some(parent) = request.out.parent() {
        std::fs::create_dir_all(parent).map_err(MergeError::file("create", parent))?;
    }
    let export = GgufExport {
        model: &inputs.base,
        gguf_type,
        name: &name,
        licence: None,
    };
    let target = GgufTarget::create(&export, &request.out)?;
    let (report, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let engine = Engine::new(request, inputs, plans)?;
        let mut sums = Sums::new(request, plans, &formats);
        let all: Vec<usize> = (0..plans.len()).collect();
        merge_all(&engine, &all, &GgufSink(&target), |index, outcome| {
            sums.add(index, outcome, 0, progress);
        })?;
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((sums.report(), hashes))
    })?;
    let hashes = pinned(request, hashes)?;
    target.publish()?;
    let beside = |ending: &str| request.out.with_extension(ending);
    write_atomic(
        &beside(merge_file::FILE),
        merge_file::write(request, &hashes, DType::F32).as_bytes(),
    )?;
    write_atomic(&beside(REPORT_FILE), &report.to_json())?;
    Ok(report)
}

/// Merges again without writing anything, and compares every value with the folder at `request.out`.
///
/// # Errors
/// As [`merge`], and [`MergeError::Differs`] at the first tensor that is not what the merge makes.
pub fn verify(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, inputs.base.config());
    let folder = ModelFolder::open(&request.out)?;
    let formats = formats(request, &inputs, &plans);
    for plan in &plans {
        let found = folder.info(&plan.name).map(|info| (info.dtype, info.shape.clone()));
        let expected = (formats[&plan.name].dtype, plan.shape.clone());
        if found.as_ref() != Some(&expected) {
            return Err(MergeError::request(format!(
                "{}: {} should be {} {:?}, found {found:?}",
                request.out.display(),
                plan.name,
                expected.0,
                expected.1
            )));
        }
    }
    let (report, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let sink = CompareSink {
            folder: &folder,
            formats: &formats,
        };
        let engine = Engine::new(request, &inputs, &plans)?;
        let mut sums = Sums::new(request, &plans, &formats);
        let all: Vec<usize> = (0..plans.len()).collect();
        merge_all(&engine, &all, &sink, |index, outcome| {
            sums.add(index, outcome, 0, progress)
        })?;
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((sums.report(), hashes))
    })?;
    pinned(request, hashes)?;
    Ok(report)
}

/// Checks inputs' hashes against those a merge.yaml pins.
pub(crate) fn pinned(
    request: &MergeRequest,
    hashes: Vec<(std::path::PathBuf, String)>,
) -> Result<BTreeMap<std::path::PathBuf, String>> {
    let hashes: BTreeMap<_, _> = hashes.into_iter().collect();
    for (path, expected) in &request.pinned {
        match hashes.get(path) {
            Some(found) if found != expected => {
                let (path, expected, found) = (path.clone(), expected.clone(), found.clone());
                return Err(MergeError::InputChanged { path, expected, found });
            }
            _ => {}
        }
    }
    Ok(hashes)
}

/// How every output tensor is stored.
pub(crate) fn formats(request: &MergeRequest, inputs: &Inputs, plans: &[TensorPlan]) -> BTreeMap<String, Format> {
    let format = |plan: &TensorPlan| Format {
        dtype: request.dtype.unwrap_or_else(|| inputs.base_rows(plan).dtype()),
        rounding: request.rounding,
        seed: request.seed,
    };
    plans.iter().map(|plan| (plan.name.clone(), format(plan))).collect()
}

/// Writes every tensor, merged or copied, and returns the report.
fn write_tensors(
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
fn write_changes<'a>(
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

/// The sums so far, in the tensors' order whatever order they came in, and progress.
struct Sums<'a> {
    request: &'a MergeRequest,
    plans: &'a [TensorPlan],
    formats: &'a BTreeMap<String, Format>,
    merged: BTreeMap<usize, (Tally, crate::TensorReport)>,
    done: usize,
    bytes: u64,
    total_bytes: u64,
}

impl<'a> Sums<'a> {
    fn new(request: &'a MergeRequest, plans: &'a [TensorPlan], formats: &'a BTreeMap<String, Format>) -> Self {
        let mut sums = Self {
            request,
            plans,
            formats,
            merged: BTreeMap::new(),
            done: 0,
            bytes: 0,
            total_bytes: 0,
        };
        sums.total_bytes = (0..plans.len()).map(|index| sums.size(index)).sum();
        sums
    }

    fn size(&self, index: usize) -> u64 {
        let plan = &self.plans[index];
        (plan.shape.iter().product::<usize>() * self.formats[&plan.name].dtype.size()) as u64
    }

    fn add(&mut self, index: usize, outcome: Outcome, resumed: usize, progress: &dyn Fn(MergeProgress<'_>)) {
        if let Some(merged) = outcome.merged {
            self.merged.insert(index, merged);
        }
        self.done += 1;
        self.bytes += self.size(index);
        progress(MergeProgress {
            tensor: &self.plans[index].name,
            done: self.done,
            total: self.plans.len(),
            bytes: self.bytes,
            total_bytes: self.total_bytes,
            resumed,
        });
    }

    fn report(self) -> MergeReport {
        let request = self.request;
        let mut totals = Tally::default();
        self.merged.values().for_each(|(tally, _)| totals.add(tally));
        let trims = request.method.sparsity().is_some();
        MergeReport {
            format: FORMAT,
            method: request.method.to_string(),
            sign: (request.method.elects() || request.method == Method::Ties).then(|| request.sign.to_string()),
            inputs: request
                .inputs()
                .map(|input| InputReport {
                    name: input.name.clone(),
                    weight: input.weight,
                    trim: trims.then(|| request.trim_of(&input.name).to_string()),
                })
                .collect(),
            totals: totals.totals(),
            copied: self.plans.len() - self.merged.len(),
            tensors: self.merged.into_values().map(|(_, report)| report).collect(),
        }
    }
}
