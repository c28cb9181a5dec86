//! Byte ranges of a large file: they are written at their offsets into a sparse file of the full length, and a list
//! beside it records which are present. Ordinary readers can so read a file's first rows, or only some columns.
//!
//! Single ranges cannot be verified. Once the ranges cover the whole file, its hash is checked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use crate::client::Metadata;
use crate::download::{discard, lock, sha256};
use crate::error::{HubError, Result, io};
use crate::hub::Hub;
use crate::progress::DownloadProgress;
use crate::repository::{Repository, write_atomically};
use crate::retry::{Attempt, Transient};

/// A file of a dataset, fetched range by range.
pub struct PartialFile<'h> {
    hub: &'h Hub,
    repository: Repository,
    commit: String,
    path: String,
    metadata: Metadata,
    size: u64,
    local: PathBuf,
    /// The ranges present: sorted, neither overlapping nor touching.
    present: Vec<Range<u64>>,
    /// The whole file is in the cache; nothing needs fetching.
    complete: bool,
    _lock: Option<File>,
}

impl Hub {
    /// Opens a file of which [`PartialFile::ensure`] fetches ranges. Ranges fetched by earlier runs are present.
    ///
    /// # Errors
    /// If the hub cannot be reached or does not announce the length; offline, if no part of the file is cached.
    pub fn partial_file(&self, id: &str, commit: &str, path: &str) -> Result<PartialFile<'_>> {
        let repository = Repository::new(RepoType::Dataset, id, Some(commit), &self.settings().cache)?;
        if let Some(local) = repository.cached_file(commit, path) {
            let size = fs::metadata(&local).map_err(io(&local, "reading"))?.len();
            let etag = String::new();
            return Ok(PartialFile {
                hub: self,
                commit: commit.to_owned(),
                path: path.to_owned(),
                metadata: Metadata { etag, size: Some(size) },
                size,
                local,
                present: Vec::new(),
                complete: true,
                _lock: None,
                repository,
            });
        }
        let record = repository.partial_metadata(commit, path);
        let metadata = match fs::read(&record)
            .ok()
            .and_then(|text| serde_json::from_slice::<(String, u64)>(&text).ok())
        {
            Some((etag, size)) => Metadata { etag, size: Some(size) },
            None if self.settings().offline => return Err(self.offline(&repository, path)),
            None => self.client.metadata(&repository, commit, path)?,
        };
        let size = metadata.size.ok_or_else(|| HubError::BadAnswer {
            url: self.client.url(&repository.file_path(commit, path)),
            reason: "it does not announce the file's length, so no range of it can be fetched".to_owned(),
        })?;
        let text = serde_json::to_vec(&(&metadata.etag, size)).map_err(|error| io(&record, "writing")(error.into()))?;
        write_atomically(&record, &text)?;
        // Other tools take a repository whose ref has no snapshot for damaged.
        let snapshot = repository.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(io(&snapshot, "making"))?;
        let local = repository.partial(&metadata.etag);
        let lock = lock(&repository.lock_file(&format!("{}.part", metadata.etag)))?;
        let mut present: Vec<Range<u64>> = fs::read(ranges_file(&local))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if fs::metadata(&local).map_or(0, |found| found.len()) != size {
            present.clear();
        }
        Ok(PartialFile {
            hub: self,
            commit: commit.to_owned(),
            path: path.to_owned(),
            metadata,
            size,
            local,
            present,
            complete: false,
            _lock: Some(lock),
            repository,
        })
    }

    fn offline(&self, repository: &Repository, path: &str) -> HubError {
        HubError::Offline {
            what: format!("the needed range of {path} of {}", repository.describe()),
            cache: self.settings().cache.clone(),
        }
    }
}

impl PartialFile<'_> {
    /// Bytes of the whole file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its path: a file of the full length, of which only the ensured ranges are valid.
    #[must_use]
    pub fn local(&self) -> &Path {
        &self.local
    }

    /// Ensures that these bytes are on disk.
    ///
    /// # Errors
    /// If they cannot be fetched, or the file is now complete and its hash is wrong; then it is deleted.
    pub fn ensure(&mut self, range: Range<u64>, progress: &dyn DownloadProgress) -> Result<()> {
        let wanted = range.start.min(self.size)..range.end.min(self.size);
        if self.complete {
            return Ok(());
        }
        let missing = missing(&self.present, &wanted);
        if missing.is_empty() {
            return Ok(());
        }
        if self.hub.settings().offline {
            return Err(self.hub.offline(&self.repository, &self.path));
        }
        let folder = self.local.parent().unwrap_or(&self.local);
        fs::create_dir_all(folder).map_err(io(folder, "making this folder"))?;
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.local)
            .map_err(io(&self.local, "opening"))?;
        out.set_len(self.size).map_err(io(&self.local, "reserving"))?;
        for piece in missing {
            self.receive(piece, &mut out, progress)?;
        }
        out.sync_data().map_err(io(&self.local, "syncing"))?;
        let list = ranges_file(&self.local);
        let text = serde_json::to_vec(&self.present).map_err(|error| io(&list, "writing")(error.into()))?;
        write_atomically(&list, &text)?;
        self.verify_if_complete()
    }

    fn receive(&mut self, piece: Range<u64>, out: &mut File, progress: &dyn DownloadProgress) -> Result<()> {
        let url = self
            .hub
            .client
            .url(&self.repository.file_path(&self.commit, &self.path));
        let mut at = piece.start;
        let mut buffer = vec![0; 1 << 16];
        let hub = self.hub;
        hub.client.retry_policy.retry(&url, || {
            let before = at;
            let mut response = match hub.client.open(&self.repository, &url, at, Some(piece.end - 1))? {
                Ok(response) => response,
                Err(transient) => return Ok(Attempt::Failed(transient)),
            };
            let failed = |reason: String| Ok(Attempt::Failed(Transient::new(reason)));
            // A server without ranges sends the bytes before `at` too; skip them.
            let mut skip = match response.status().as_u16() {
                206 if crate::download::starts_at(&response, at) => 0,
                200 => at,
                status => return failed(format!("the hub answered {status} to a request for a range")),
            };
            let mut body = response.body_mut().as_reader();
            out.seek(SeekFrom::Start(at)).map_err(io(&self.local, "writing"))?;
            while at < piece.end {
                let count = match body.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count as u64,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                let skipped = skip.min(count);
                skip -= skipped;
                let fresh = (count - skipped).min(piece.end - at);
                let bytes = &buffer[skipped as usize..(skipped + fresh) as usize];
                out.write_all(bytes).map_err(io(&self.local, "writing"))?;
                at += fresh;
                insert(&mut self.present, at - fresh..at);
                let done = self.present.iter().map(|range| range.end - range.start).sum();
                progress.file(&self.path, done, None);
            }
            if at >= piece.end {
                return Ok(Attempt::Done(()));
            }
            let reason = format!("the connection broke off at byte {at}");
            let transient = Transient::new(reason);
            Ok(if at > before {
                Attempt::Advanced(transient)
            } else {
                Attempt::Failed(transient)
            })
        })
    }

    /// Checks the hash once all bytes are present.
    fn verify_if_complete(&self) -> Result<()> {
        let hex = self.metadata.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let complete = matches!(self.present.as_slice(), [all] if *all == (0..self.size));
        if !complete || self.metadata.etag.len() != 64 || !hex {
            return Ok(());
        }
        let found = sha256(&self.local)?;
        if found == self.metadata.etag.to_lowercase() {
            return Ok(());
        }
        discard(&ranges_file(&self.local))?;
        discard(&self.local)?;
        Err(HubError::Damaged {
            file: self.path.clone(),
            repo: self.repository.describe(),
            kind: "sha256",
            expected: self.metadata.etag.clone(),
            found,
        })
    }
}

fn ranges_file(local: &Path) -> PathBuf {
    local.with_extension("ranges.json")
}

/// The gaps of `present` inside `wanted`.
fn missing(present: &[Range<u64>], wanted: &Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = wanted.start;
    for range in present
        .iter()
        .filter(|range| range.end > wanted.start && range.start < wanted.end)
    {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < wanted.end {
        gaps.push(at..wanted.end);
    }
    gaps
}

/// Adds a range, merging those that touch.
fn insert(present: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    present.retain(|other| {
        let touches = other.start <= range.end && range.start <= other.end;
        if touches {
            range = other.start.min(range.start)..other.end.max(range.end);
        }
        !touches
    });
    let at = present.partition_point(|other| other.start < range.start);
    present.insert(at, range);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_gaps_are_found() {
        let mut present = Vec::new();
        for range in [10..20, 40..50, 20..30, 0..5] {
            insert(&mut present, range);
        }
        assert_eq!(present, [0..5, 10..30, 40..50]);
        assert_eq!(missing(&present, &(3..45)), [5..10, 30..40]);
        assert_eq!(missing(&present, &(12..20)), []);
        assert_eq!(missing(&[0..5, 7..9], &(3..12)), [5..7, 9..12]);
        insert(&mut present, 4..41);
        insert(&mut present, 60..70);
        assert_eq!(present, [0..50, 60..70]);
    }
}
