//! Files of one source: local ones, or those of a hub dataset, whole or only as much of them as is wanted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use synapse_checkpoint::sha256_file;
use synapse_data::{RemoteFile, SourceFile, SourceFiles, fetch_first_rows};
use synapse_hub::{DatasetQuery, DatasetSelection, DownloadProgress, Hub};
use synapse_recipe::{Location, SourcePlan};

use crate::{PipelineError, ProgressUnit, Reporter, Run};

/// Files of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchedSource {
    revision: Option<String>,
    /// (name, local path, sha256)
    files: Vec<(String, PathBuf, String)>,
    /// Only so many rows from the beginning are there.
    #[serde(default)]
    first_rows: Option<u64>,
    /// So many files were to choose from.
    #[serde(default)]
    drawn_from: Option<usize>,
    /// License in the words of the dataset's card.
    #[serde(default)]
    #[serde(rename(serialize = "licence"), alias = "licence")]
    license: Option<String>,
}

impl FetchedSource {
    /// One file of this disk.
    pub(crate) fn local(path: &Path) -> Result<Self, PipelineError> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            files: vec![(name.to_string_lossy().into_owned(), path.to_owned(), sha256_file(path)?)],
            ..Self::default()
        })
    }

    pub(crate) fn files(&self) -> SourceFiles {
        let file = |(name, local, sha256): &(String, PathBuf, String)| SourceFile {
            name: name.clone(),
            local: local.clone(),
            sha256: sha256.clone(),
        };
        SourceFiles {
            revision: self.revision.clone(),
            files: self.files.iter().map(file).collect(),
            first_rows: self.first_rows,
            drawn_from: self.drawn_from,
            license: self.license.clone(),
        }
    }

    /// The commit of a hub dataset.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Name, place and sha256 of every file; of files fetched in part, over that part.
    #[must_use]
    pub fn listed(&self) -> &[(String, PathBuf, String)] {
        &self.files
    }

    /// What identifies the rows, wherever they lie.
    pub(crate) fn identity(&self) -> Vec<(&str, &str)> {
        self.files
            .iter()
            .map(|(name, _, sha256)| (name.as_str(), sha256.as_str()))
            .collect()
    }
}

/// One display for all files of a repository, however many arrive at once.
pub struct Downloads<'a> {
    reporter: &'a dyn Reporter,
    id: &'a str,
    /// File → bytes there, bytes in all.
    files: Mutex<BTreeMap<String, (u64, Option<u64>)>>,
}

impl<'a> Downloads<'a> {
    /// Nothing has arrived yet.
    pub fn new(reporter: &'a dyn Reporter, id: &'a str) -> Self {
        Self {
            reporter,
            id,
            files: Mutex::default(),
        }
    }
}

impl DownloadProgress for Downloads<'_> {
    fn file(&self, name: &str, done: u64, total: Option<u64>) {
        let Ok(mut files) = self.files.lock() else { return };
        files.insert(name.to_owned(), (done, total));
        let done = files.values().map(|(done, _)| done).sum();
        let total = files.values().map(|(_, total)| *total).sum();
        self.reporter.progress(self.id, ProgressUnit::Bytes, done, total);
    }
}

/// A source's files: whole, or as much of them as the plan wants.
pub(crate) fn fetch_source(run: &Run<'_>, source: &SourcePlan, seed: u64) -> Result<FetchedSource, PipelineError> {
    match &source.location {
        Location::Routing => Ok(FetchedSource::default()),
        Location::File(path) => FetchedSource::local(path),
        Location::Hub {
            id,
            revision,
            files,
            config,
            portion,
        } => {
            let wanted = DatasetQuery {
                patterns: files.clone(),
                config: config.clone(),
                split: source.split.clone(),
                shards: portion.shards,
                seed,
            };
            let hub = Hub::from_env(run.options.offline)?;
            let progress = Downloads::new(run.reporter, id);
            let selection = hub.select(id, revision.as_deref(), &wanted, &progress)?;
            let fetched = match portion.first_rows {
                Some(rows) => fetch_first(&hub, id, &selection, (source, rows), &progress)?,
                None => fetch_whole(&hub, id, &selection, &progress)?,
            };
            let drawn = portion.shards.is_some() && selection.files.len() < selection.candidates;
            Ok(FetchedSource {
                drawn_from: drawn.then_some(selection.candidates),
                license: selection.license,
                ..fetched
            })
        }
    }
}

/// Every selected file.
pub(crate) fn fetch_whole(
    hub: &Hub,
    id: &str,
    selection: &DatasetSelection,
    progress: &dyn DownloadProgress,
) -> Result<FetchedSource, PipelineError> {
    let dataset = hub.dataset_files(id, Some(&selection.revision), &selection.files, progress)?;
    let files = dataset.files.into_iter();
    Ok(FetchedSource {
        revision: Some(dataset.revision),
        files: files.map(|file| (file.path, file.local, file.sha256)).collect(),
        ..FetchedSource::default()
    })
}

/// The files' first rows, one file after the other until there are enough.
fn fetch_first(
    hub: &Hub,
    id: &str,
    selection: &DatasetSelection,
    (source, rows): (&SourcePlan, u64),
    progress: &dyn DownloadProgress,
) -> Result<FetchedSource, PipelineError> {
    let mut files = Vec::new();
    let mut left = rows;
    for name in &selection.files {
        if left == 0 {
            break;
        }
        let mut file = hub.partial_file(id, &selection.revision, name)?;
        let (local, size) = (file.local().to_owned(), file.size());
        let part = RemoteFile {
            name,
            local: &local,
            size,
            rows: left,
        };
        let first_rows = fetch_first_rows(&part, source, &mut |range| {
            file.ensure(range, progress).map_err(PipelineError::from)
        })?;
        left -= first_rows.rows.min(left);
        files.push((name.clone(), local, first_rows.sha256));
    }
    Ok(FetchedSource {
        revision: Some(selection.revision.clone()),
        files,
        first_rows: Some(rows),
        ..FetchedSource::default()
    })
}
