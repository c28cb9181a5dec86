//! A tiny tokenizer, plans and files to prepare, and what came of it.

use std::path::{Path, PathBuf};

use serde_json::json;
use synapse_data::{Benchmark, DataError, Manifest, PackedDataset, PrepareEvent, PrepareRequest, SourceFiles, prepare};
use synapse_recipe::{DataPlan, Location, Overlong, Samples, SourcePlan, TrainPlan};
use synapse_tokenizer::ChatTokenizer;

pub(crate) fn chat() -> ChatTokenizer {
    ChatTokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/fixtures/tiny")).unwrap()
}

pub(crate) fn train_plan() -> TrainPlan {
    TrainPlan {
        max_seq_len: 256,
        overlong: Overlong::Truncate,
        seed: 1,
        ..TrainPlan::default()
    }
}

pub(crate) fn data_plan(sources: Vec<SourcePlan>, held_out: u64) -> DataPlan {
    DataPlan {
        sources,
        seed: 7,
        held_out,
        min_chars: 0,
        ..DataPlan::default()
    }
}

pub(crate) fn source(path: &Path, samples: Samples) -> SourcePlan {
    SourcePlan {
        samples,
        license: Some("MIT".to_owned()),
        ..SourcePlan::new(
            path.file_stem().unwrap().to_string_lossy(),
            Location::File(path.to_owned()),
        )
    }
}

/// A JSON-lines file of sums.
pub(crate) fn sums(folder: &Path, name: &str, rows: usize) -> PathBuf {
    let path = folder.join(format!("{name}.jsonl"));
    let lines: Vec<String> = (0..rows)
        .map(|n| json!({"question": format!("{name}: {n} + {n}?"), "answer": format!("It is {}.", 2 * n)}).to_string())
        .collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

pub(crate) struct Prepared {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) manifest: Manifest,
    pub(crate) warnings: Vec<String>,
}

impl Prepared {
    pub(crate) fn rows(&self, file: &str) -> PackedDataset {
        PackedDataset::open(&self.folder.path().join(file)).unwrap()
    }

    /// The text of every document of a file.
    pub(crate) fn texts(&self, file: &str) -> Vec<String> {
        let (chat, rows) = (chat(), self.rows(file));
        let mut texts = Vec::new();
        for row in (0..rows.len()).map(|index| rows.row(index)) {
            let mut start = 0;
            for length in row.seq_lengths {
                texts.push(
                    chat.decode(&row.input_ids[start..start + length as usize], false)
                        .unwrap(),
                );
                start += length as usize;
            }
        }
        texts
    }
}

pub(crate) fn run(plan: &DataPlan, train: &TrainPlan) -> Result<Prepared, DataError> {
    run_against(plan, train, &[])
}

/// The same with benchmarks to keep out.
pub(crate) fn run_against(plan: &DataPlan, train: &TrainPlan, benchmarks: &[Benchmark]) -> Result<Prepared, DataError> {
    prepared(plan, train, benchmarks, Some("Be exact."))
}

/// The same with the system turns that the template gives.
pub(crate) fn run_without_system(plan: &DataPlan, train: &TrainPlan) -> Result<Prepared, DataError> {
    prepared(plan, train, &[], None)
}

fn prepared(
    plan: &DataPlan,
    train: &TrainPlan,
    benchmarks: &[Benchmark],
    system_prompt: Option<&str>,
) -> Result<Prepared, DataError> {
    let file = |source: &SourcePlan| match &source.location {
        Location::File(path) => SourceFiles::local(path).unwrap(),
        _ => SourceFiles::default(),
    };
    let files = plan.sources.iter().map(file);
    let requests = plan.sources.iter().flat_map(|source| &source.requests);
    let request_files = requests.map(|requests| requests.data.sources.iter().map(file).collect());
    let folder = tempfile::tempdir().unwrap();
    let request = PrepareRequest {
        plan,
        train,
        system_prompt,
        files: files.collect(),
        request_files: request_files.collect(),
        benchmarks,
        chat: &chat(),
        out: folder.path(),
    };
    let warnings = std::cell::RefCell::new(Vec::new());
    let manifest = prepare(&request, &|event| {
        if let PrepareEvent::Warning(warning) = event {
            warnings.borrow_mut().push(warning);
        }
    })?;
    Ok(Prepared {
        folder,
        manifest,
        warnings: warnings.into_inner(),
    })
}
