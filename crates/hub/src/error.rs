//! Everything that can go wrong between a hub and the cache.

use std::path::PathBuf;

/// Why a file of a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Neither HF_HOME nor a home folder.
    #[error("there is no home folder to keep a cache in; set HF_HOME to a folder")]
    NoCacheFolder,

    /// An environment variable that cannot be used.
    #[error("{name} is set to {value:?}, which is not {expected}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },

    /// An id that is not `organization/name`.
    #[error("{id:?} is not a hub id; they have the form organization/name")]
    BadId {
        /// The id as given.
        id: String,
    },

    /// Not in the cache, and offline mode is on.
    #[error(
        "{what} is not in the cache {} and offline mode is on; \
         run once without --offline and without HF_HUB_OFFLINE to fetch it",
        cache.display()
    )]
    Offline {
        /// What was asked for.
        what: String,
        /// Where it was looked for.
        cache: PathBuf,
    },

    /// A gated repository to which the token gives no access.
    #[error("{repo} is gated: {reason}; {remedy}")]
    Gated {
        /// The repository.
        repo: String,
        /// What was tried: no token, or which one was refused and how.
        reason: String,
        /// What to do, and where.
        remedy: String,
    },

    /// No such repository, or one that is hidden from this token.
    #[error("{endpoint} has no {repo}, or it is private and {token}")]
    NoRepository {
        /// The hub.
        endpoint: String,
        /// The repository.
        repo: String,
        /// What is known about the token.
        token: String,
    },

    /// No such branch, tag or commit.
    #[error("{repo} has no revision {revision:?}; a commit must be given with all 40 digits")]
    NoRevision {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
    },

    /// A file pattern that is not valid.
    #[error("the file pattern {pattern:?} is not valid: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Why it cannot be read.
        reason: String,
    },

    /// No file of the repository matches.
    #[error("no file of {repo} at {revision} matches {}; it holds {holds}", patterns.join(", "))]
    NoMatch {
        /// The repository.
        repo: String,
        /// The commit.
        revision: String,
        /// The globs that were tried.
        patterns: Vec<String>,
        /// Some of what there is.
        holds: String,
    },

    /// The card has several configurations or not the requested one.
    #[error("{repo} has {asked}; its configurations are {known}; set `config: NAME`, or list the files under `files:`")]
    NoConfig {
        /// The repository.
        repo: String,
        /// What was asked for and why that is not enough.
        asked: String,
        /// What there is.
        known: String,
    },

    /// Neither the card nor the file names have this split.
    #[error(
        "{repo} has no split {split:?}; its splits are {known}; set `split: NAME`, or list the files under `files:`"
    )]
    NoSplit {
        /// The repository.
        repo: String,
        /// What was asked for.
        split: String,
        /// What there is.
        known: String,
    },

    /// The README's front matter cannot be read.
    #[error("the front matter of {repo}'s README.md cannot be read: {reason}; list the files under `files:`")]
    BadCard {
        /// The repository.
        repo: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A model repository without what a model needs.
    #[error(
        "{repo} at {revision} is not a loadable model: {missing} is missing; choose a repository that has it, or another revision"
    )]
    NotAModel {
        /// The repository.
        repo: String,
        /// The commit.
        revision: String,
        /// The file that is missing.
        missing: String,
    },

    /// The hub answered with an HTTP error.
    #[error("{url} answered {status}{detail}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The hub's own message, with a leading colon.
        detail: String,
    },

    /// The hub could not be reached, or every attempt broke off.
    #[error("{url}: {reason} ({attempts} attempts); with --offline only the cache is used")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The last failure.
        reason: String,
        /// Number of attempts in a row without progress.
        attempts: u32,
    },

    /// The hub's answer is not what its API promises.
    #[error("unexpected answer from {url}: {reason}; check that HF_ENDPOINT names a Hugging Face hub")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The bytes do not have the announced hash or length.
    #[error(
        "{file} of {repo} arrived damaged: expected {kind} {expected}, found {found}; \
         the download was deleted, try again"
    )]
    Damaged {
        /// The file inside the repository.
        file: String,
        /// The repository.
        repo: String,
        /// `sha256`, `git sha1` or `bytes`.
        kind: &'static str,
        /// What the hub announced.
        expected: String,
        /// What arrived.
        found: String,
    },

    /// A file in the cache does not have the hash in its name.
    #[error("the cached file {} is damaged: expected sha256 {expected}, found {found}; delete it and fetch again", path.display())]
    DamagedCache {
        /// The file.
        path: PathBuf,
        /// The hash in its name.
        expected: String,
        /// The hash of its bytes.
        found: String,
    },

    /// Reading or writing the cache failed.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl HubError {
    /// The error for patterns that match nothing; it shows the first of the repository's `files`.
    pub(crate) fn no_match(repo: String, commit: &str, patterns: Vec<String>, files: &[String]) -> Self {
        let shown: Vec<&str> = files.iter().take(8).map(String::as_str).collect();
        let more = match files.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Self::NoMatch {
            repo,
            revision: commit.to_owned(),
            patterns,
            holds: format!("{}{more}", shown.join(", ")),
        }
    }
}

/// Shorthand used throughout this crate.
pub(crate) type Result<T, E = HubError> = std::result::Result<T, E>;

/// Turns an I/O error into one that names the file.
pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Io { path, action, source }
}
