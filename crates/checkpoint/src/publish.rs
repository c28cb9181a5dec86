//! How an artifact appears on disk: whole or not at all. Files and folders are made beside their final name under
//! `.<name>.partial`, brought to the disk and renamed, so a reader never meets a half-written one, whatever moment the
//! power fails at.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, Result};
use crate::positioned::{reserve, write_all_at};

/// Writes the whole content to a file next to `path`, then renames it to `path`.
///
/// # Errors
/// The folder does not exist or cannot be written to.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = StagedFile::beside(path)?;
    staged.write(bytes)?;
    staged.publish()
}

/// A file that is being written next to its final name. Fill it, then [`StagedFile::publish`]; dropped before that, it is removed
/// and an old file stays as it was.
#[derive(Debug)]
pub struct StagedFile {
    target: PathBuf,
    partial: PathBuf,
    file: File,
    published: bool,
}

impl StagedFile {
    /// Creates the empty file `.<name>.partial` next to `target`.
    ///
    /// # Errors
    /// `target` has no name of its own, or its folder does not exist or cannot be written to.
    pub fn beside(target: &Path) -> Result<Self> {
        let partial = hidden_beside(target, "partial")?;
        let file = File::create(&partial).map_err(CheckpointError::io("create", &partial))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            file,
            published: false,
        })
    }

    /// Appends bytes. There is no buffer, so pass large pieces.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(CheckpointError::io("write", &self.partial))
    }

    /// Gives the file its length, and its disk space where the system can promise it.
    ///
    /// # Errors
    /// The disk refuses, or is too small.
    pub fn reserve(&self, length: u64) -> Result<()> {
        reserve(&self.file, length).map_err(CheckpointError::io("reserve space for", &self.partial))
    }

    /// Writes bytes at a place of their own. Any thread may write any part.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&self.file, bytes, offset).map_err(CheckpointError::io("write", &self.partial))
    }

    /// Brings the file to the disk and gives it its name, replacing an old one.
    ///
    /// # Errors
    /// The disk refuses; the old file is then still there.
    pub fn publish(mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(CheckpointError::io("sync", &self.partial))?;
        fs::rename(&self.partial, &self.target).map_err(CheckpointError::io("rename into place", &self.target))?;
        self.published = true;
        sync_folder(parent(&self.target))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.published {
            drop(fs::remove_file(&self.partial));
        }
    }
}

/// `folder/.name.extension` for `folder/name`.
fn hidden_beside(path: &Path, extension: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(CheckpointError::folder(
            path,
            "has no name of its own to be published under; give a path that ends in a name",
        ));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(extension);
    Ok(path.with_file_name(hidden))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A folder that is being written next to its final name. Fill [`Staged::path`], then [`Staged::publish`]; dropped before that, it
/// is removed and the old folder stays as it was.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    partial: PathBuf,
    published: bool,
}

impl Staged {
    /// Creates the empty staging folder `.<name>.partial` next to `target`, and missing parents. A staging folder
    /// left by a process that died is removed first, and an old folder that it had moved aside is put back.
    ///
    /// # Errors
    /// `target` has no name of its own, is a file, or its parent cannot be written to.
    pub fn beside(target: &Path) -> Result<Self> {
        let partial = hidden_beside(target, "partial")?;
        if partial.exists() && (target.is_dir() || !target.exists()) {
            fs::remove_dir_all(&partial).map_err(CheckpointError::io("remove", &partial))?;
        }
        Self::resume(target)
    }

    /// The same, but a staging folder left by a process that died is kept with all that is in it, to be gone on with.
    ///
    /// # Errors
    /// Same as [`Staged::beside`].
    pub fn resume(target: &Path) -> Result<Self> {
        let partial = hidden_beside(target, "partial")?;
        let aside = hidden_beside(target, "old")?;
        if target.exists() && !target.is_dir() {
            return Err(CheckpointError::folder(
                target,
                "is a file, and a folder is to be written there; name another place",
            ));
        }
        fs::create_dir_all(parent(target)).map_err(CheckpointError::io("create", parent(target)))?;
        if aside.exists() {
            if target.exists() {
                fs::remove_dir_all(&aside).map_err(CheckpointError::io("remove", &aside))?;
            } else {
                fs::rename(&aside, target).map_err(CheckpointError::io("put back", target))?;
            }
        }
        fs::create_dir_all(&partial).map_err(CheckpointError::io("create", &partial))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            published: false,
        })
    }

    /// The staging folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Brings every file to the disk and swaps the folder in: an old one is moved aside and then removed. An old folder
    /// that shares no file name with the new one was not made by an earlier run, and is not replaced.
    ///
    /// # Errors
    /// The target holds other things, or the disk refuses; the old folder is then still there.
    pub fn publish(mut self) -> Result<()> {
        sync_tree(&self.partial)?;
        let aside = hidden_beside(&self.target, "old")?;
        let replaces = self.target.exists();
        if replaces {
            self.check_replaceable()?;
            fs::rename(&self.target, &aside).map_err(CheckpointError::io("move aside", &self.target))?;
        }
        if let Err(error) = fs::rename(&self.partial, &self.target) {
            if replaces {
                fs::rename(&aside, &self.target).map_err(CheckpointError::io("put back", &self.target))?;
            }
            return Err(CheckpointError::io("rename into place", &self.target)(error));
        }
        self.published = true;
        sync_folder(parent(&self.target))?;
        if replaces {
            fs::remove_dir_all(&aside).map_err(CheckpointError::io("remove", &aside))?;
        }
        Ok(())
    }

    fn check_replaceable(&self) -> Result<()> {
        let read = CheckpointError::io("list", &self.target);
        let names = fs::read_dir(&self.target)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.file_name()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(read)?;
        if names.is_empty() || names.iter().any(|name| self.partial.join(name).is_file()) {
            return Ok(());
        }
        Err(CheckpointError::folder(
            &self.target,
            "already holds other things, none of them a file that is to be written; remove it or name another place",
        ))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // A failure here is harmless: the next run removes the remains.
            drop(fs::remove_dir_all(&self.partial));
        }
    }
}

fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(CheckpointError::io("list", folder))? {
        let entry = entry.map_err(CheckpointError::io("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(CheckpointError::io("inspect", &path))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(CheckpointError::io("sync", &path))?;
        }
    }
    sync_folder(folder)
}

/// Makes a rename or a new name in the folder durable. Only Unix lets a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(CheckpointError::io("sync", folder))?;
    }
    Ok(())
}
