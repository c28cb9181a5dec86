//! Files of which only parts are fetched: byte ranges land at their own places in a file of the full length, and a
//! list beside it says which are there. So a giant file's beginning, or the columns that are needed, can be read by
//! programs that know nothing of this.
//!
//! Parts cannot be held against the whole file's hash; a file whose parts add up to the whole is.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use crate::client::Metadata;
use crate::download::{discard, lock, sha256};
use crate::error::{HubError, Result, io};
use crate::hub::{Hub, Progress};
use crate::patience::{Attempt, Setback};
use crate::repository::{Repository, write_whole};

/// A file of a dataset, fetched range by range.
pub struct PartialFile<'h> {
    hub: &'h Hub,
    repository: Repository,
    commit: String,
    path: String,
    metadata: Metadata,
    size: u64,
    local: PathBuf,
    /// What is there: sorted, neither overlapping nor touching.
    have: Vec<Range<u64>>,
    /// The whole file is in the cache; nothing needs fetching.
    whole: bool,
    _lock: Option<File>,
}

impl Hub {
    /// A file of which nothing is fetched until [`PartialFile::ensure`] asks for it. What earlier runs fetched is there.
    ///
    /// # Errors
    /// When the hub cannot be asked about it, or does not tell its length; offline, when nothing of it is cached.
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
                have: Vec::new(),
                whole: true,
                _lock: None,
                repository,
            });
        }
        let note = repository.part_note(commit, path);
        let metadata = match fs::read(&note)
            .ok()
            .and_then(|text| serde_json::from_slice::<(String, u64)>(&text).ok())
        {
            Some((etag, size)) => Metadata { etag, size: Some(size) },
            None if self.settings().offline => return Err(self.offline(&repository, path)),
            None => self.client.metadata(&repository, commit, path)?,
        };
        let size = metadata.size.ok_or_else(|| HubError::BadAnswer {
            url: self.client.url(&repository.file_path(commit, path)),
            reason: "it does not tell the file's length, so no part of it can be fetched".to_owned(),
        })?;
        let text = serde_json::to_vec(&(&metadata.etag, size)).map_err(|error| io(&note, "writing")(error.into()))?;
        write_whole(&note, &text)?;
        // To other tools a repository without the snapshot that its ref names is a damaged one.
        let snapshot = repository.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(io(&snapshot, "making"))?;
        let local = repository.part(&metadata.etag);
        let held = lock(&repository.lock_file(&format!("{}.part", metadata.etag)))?;
        let mut have: Vec<Range<u64>> = fs::read(ranges_file(&local))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if fs::metadata(&local).map_or(0, |found| found.len()) != size {
            have.clear();
        }
        Ok(PartialFile {
            hub: self,
            commit: commit.to_owned(),
            path: path.to_owned(),
            metadata,
            size,
            local,
            have,
            whole: false,
            _lock: Some(held),
            repository,
        })
    }

    fn offline(&self, repository: &Repository, path: &str) -> HubError {
        HubError::Offline {
            what: format!("the part of {path} of {} that is needed", repository.describe()),
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

    /// Where it lies: a file of the full length in which only what was ensured is meaningful.
    #[must_use]
    pub fn local(&self) -> &Path {
        &self.local
    }

    /// Makes sure that these bytes are on disk.
    ///
    /// # Errors
    /// When they cannot be fetched, or the file is complete and not what the hub announced; then nothing is kept.
    pub fn ensure(&mut self, range: Range<u64>, progress: &dyn Progress) -> Result<()> {
        let wanted = range.start.min(self.size)..range.end.min(self.size);
        if self.whole {
            return Ok(());
        }
        let missing = missing(&self.have, &wanted);
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
        let text = serde_json::to_vec(&self.have).map_err(|error| io(&list, "writing")(error.into()))?;
        write_whole(&list, &text)?;
        self.verify_if_whole()
    }

    fn receive(&mut self, piece: Range<u64>, out: &mut File, progress: &dyn Progress) -> Result<()> {
        let url = self
            .hub
            .client
            .url(&self.repository.file_path(&self.commit, &self.path));
        let mut at = piece.start;
        let mut buffer = vec![0; 1 << 16];
        let hub = self.hub;
        hub.client.patience.wait_out(&url, || {
            let before = at;
            let mut response = match hub.client.open(&self.repository, &url, at, Some(piece.end - 1))? {
                Ok(response) => response,
                Err(setback) => return Ok(Attempt::Failed(setback)),
            };
            let failed = |reason: String| Ok(Attempt::Failed(Setback { reason, wait: None }));
            // Without ranges the bytes before must be read past.
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
                insert(&mut self.have, at - fresh..at);
                let done = self.have.iter().map(|range| range.end - range.start).sum();
                progress.file(&self.path, done, None);
            }
            if at >= piece.end {
                return Ok(Attempt::Done(()));
            }
            let reason = format!("the connection broke off at byte {at}");
            let setback = Setback { reason, wait: None };
            Ok(if at > before {
                Attempt::Advanced(setback)
            } else {
                Attempt::Failed(setback)
            })
        })
    }

    /// A file that is all there can be held against its hash.
    fn verify_if_whole(&self) -> Result<()> {
        let hex = self.metadata.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole = matches!(self.have.as_slice(), [all] if *all == (0..self.size));
        if !whole || self.metadata.etag.len() != 64 || !hex {
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

/// The gaps of `have` inside `wanted`.
fn missing(have: &[Range<u64>], wanted: &Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = wanted.start;
    for range in have
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

/// Adds a range, joining what touches.
fn insert(have: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    have.retain(|other| {
        let touches = other.start <= range.end && range.start <= other.end;
        if touches {
            range = other.start.min(range.start)..other.end.max(range.end);
        }
        !touches
    });
    let at = have.partition_point(|other| other.start < range.start);
    have.insert(at, range);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_gaps_are_found() {
        let mut have = Vec::new();
        for range in [10..20, 40..50, 20..30, 0..5] {
            insert(&mut have, range);
        }
        assert_eq!(have, [0..5, 10..30, 40..50]);
        assert_eq!(missing(&have, &(3..45)), [5..10, 30..40]);
        assert_eq!(missing(&have, &(12..20)), []);
        assert_eq!(missing(&[0..5, 7..9], &(3..12)), [5..7, 9..12]);
        insert(&mut have, 4..41);
        insert(&mut have, 60..70);
        assert_eq!(have, [0..50, 60..70]);
    }
}
