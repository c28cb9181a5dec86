//! Downloads one file into the cache: locked against other processes, resumed where an earlier attempt broke off,
//! verified, and only then renamed to its final name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::client::{Client, Metadata};
use crate::error::{HubError, Result, io};
use crate::progress::DownloadProgress;
use crate::repository::Repository;
use crate::retry::{Attempt, Transient};

/// Ensures that a file of a commit is in the cache; returns its path.
pub(crate) fn fetch(
    client: &Client,
    repository: &Repository,
    commit: &str,
    file: &str,
    progress: &dyn DownloadProgress,
) -> Result<PathBuf> {
    if let Some(path) = repository.cached_file(commit, file) {
        let bytes = fs::metadata(&path).map_err(io(&path, "reading"))?.len();
        progress.file(file, bytes, Some(bytes));
        return Ok(path);
    }
    let metadata = client.metadata(repository, commit, file)?;
    let blob = repository.blob(&metadata.etag);
    let _lock = lock(&repository.lock_file(&metadata.etag))?;
    // Another process may have fetched it while this one waited.
    if !blob.is_file() {
        let download = Download {
            client,
            repository,
            file,
            metadata: &metadata,
            progress,
        };
        download.run(&client.url(&repository.file_path(commit, file)), &blob)?;
    }
    if let Some(size) = metadata.size {
        progress.file(file, size, Some(size));
    }
    repository.publish(commit, file, &metadata.etag)
}

/// Takes a lock that lasts until the returned file is dropped; waits for its current holder.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io(folder, "making this folder"))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(io(path, "opening"))?;
    file.lock().map_err(io(path, "locking"))?;
    Ok(file)
}

struct Download<'a> {
    client: &'a Client,
    repository: &'a Repository,
    file: &'a str,
    metadata: &'a Metadata,
    progress: &'a dyn DownloadProgress,
}

impl Download<'_> {
    fn run(&self, url: &str, blob: &Path) -> Result<()> {
        let folder = blob.parent().unwrap_or(blob);
        fs::create_dir_all(folder).map_err(io(folder, "making this folder"))?;
        // Other tools use the same name, so each resumes the other's downloads.
        let partial = blob.with_file_name(format!("{}.incomplete", self.metadata.etag));
        let resumed = fs::metadata(&partial).is_ok_and(|found| found.len() > 0);
        self.receive(url, &partial)?;
        match self.verify(&partial) {
            // The first bytes may stem from another version of the file: start over once.
            Err(HubError::Damaged { .. }) if resumed => {
                discard(&partial)?;
                self.receive(url, &partial)?;
                self.verify(&partial)
            }
            outcome => outcome,
        }
        .or_else(|error| discard(&partial).and(Err(error)))?;
        fs::rename(&partial, blob).map_err(io(blob, "renaming"))?;
        sync_folder(folder);
        Ok(())
    }

    /// Appends to the partial file until it is as long as announced.
    fn receive(&self, url: &str, partial: &Path) -> Result<()> {
        let mut out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(partial)
            .map_err(io(partial, "opening"))?;
        let mut have = out.seek(SeekFrom::End(0)).map_err(io(partial, "reading"))?;
        if self.metadata.size.is_some_and(|size| have > size) {
            truncate(&out, partial)?;
            have = 0;
        }
        self.client.retry_policy.retry(url, || {
            if have > 0 && self.metadata.size == Some(have) {
                return Ok(Attempt::Done(()));
            }
            let mut response = match self.client.open(self.repository, url, have, None)? {
                Ok(response) => response,
                Err(transient) => return Ok(Attempt::Failed(transient)),
            };
            match response.status().as_u16() {
                206 if starts_at(&response, have) => {}
                // The server does not resume, or not from this byte: start over.
                status => {
                    if have > 0 {
                        truncate(&out, partial)?;
                        have = 0;
                    }
                    if status != 200 {
                        let reason = format!("the hub answered {status} to a request from byte {have}");
                        return Ok(Attempt::Failed(Transient::new(reason)));
                    }
                }
            }
            let before = have;
            let ended = self.copy(&mut response.body_mut().as_reader(), &mut out, partial, &mut have)?;
            let complete = match (self.metadata.size, &ended) {
                (Some(size), _) => have >= size,
                (None, ended) => ended.is_ok(),
            };
            if complete {
                return Ok(Attempt::Done(()));
            }
            let reason = match ended {
                Ok(()) => "the connection was closed early".to_owned(),
                Err(error) => format!("the connection broke: {error}"),
            };
            let transient = Transient::new(reason);
            Ok(if have > before {
                Attempt::Advanced(transient)
            } else {
                Attempt::Failed(transient)
            })
        })?;
        out.sync_all().map_err(io(partial, "writing"))
    }

    /// Copies the body to the file. The inner result is the connection's, the outer one the disk's.
    fn copy(&self, from: &mut dyn Read, out: &mut File, partial: &Path, have: &mut u64) -> Result<std::io::Result<()>> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            out.write_all(&buffer[..count]).map_err(io(partial, "writing"))?;
            *have += count as u64;
            self.progress.file(self.file, *have, self.metadata.size);
        }
    }

    /// Compares length and hash with what the hub announced.
    fn verify(&self, partial: &Path) -> Result<()> {
        let damaged = |kind, expected: &str, found: &str| HubError::Damaged {
            file: self.file.to_owned(),
            repo: self.repository.describe(),
            kind,
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let length = fs::metadata(partial).map_err(io(partial, "reading"))?.len();
        if let Some(size) = self.metadata.size.filter(|size| *size != length) {
            return Err(damaged("bytes", &size.to_string(), &length.to_string()));
        }
        let etag = self.metadata.etag.to_lowercase();
        let hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (kind, found) = match etag.len() {
            64 if hex => ("sha256", sha256(partial)?),
            40 if hex => ("git sha1", git_sha1(partial, length)?),
            _ => return Ok(()),
        };
        if found == etag {
            Ok(())
        } else {
            Err(damaged(kind, &etag, &found))
        }
    }
}

/// Whether a partial answer begins at byte `from`.
pub(crate) fn starts_at(response: &ureq::http::Response<ureq::Body>, from: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn truncate(out: &File, partial: &Path) -> Result<()> {
    out.set_len(0).map_err(io(partial, "emptying"))
}

pub(crate) fn discard(partial: &Path) -> Result<()> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(partial, "removing")(error)),
        _ => Ok(()),
    }
}

/// SHA-256 of a file, lower-case hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    digest(path, Sha256::new())
}

/// The SHA-1 that git gives a blob of these bytes.
fn git_sha1(path: &Path, length: u64) -> Result<String> {
    digest(path, Sha1::new_with_prefix(format!("blob {length}\0")))
}

fn digest<D: Digest>(path: &Path, mut digest: D) -> Result<String> {
    let mut file = File::open(path).map_err(io(path, "opening"))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io(path, "reading"))? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a rename survive a power cut, where the file system can sync folders.
fn sync_folder(folder: &Path) {
    if let Ok(handle) = File::open(folder) {
        let _ = handle.sync_all();
    }
}
