//! How a caller follows downloads.

/// Receives each file's progress while its bytes arrive.
pub trait DownloadProgress: Sync {
    /// `done` of `total` bytes of the file `name` are on disk.
    fn file(&self, name: &str, done: u64, total: Option<u64>);
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl DownloadProgress for NoProgress {
    fn file(&self, _name: &str, _done: u64, _total: Option<u64>) {}
}
