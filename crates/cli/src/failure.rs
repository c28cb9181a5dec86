//! Errors of the commands: whether the request was wrong (exit code 2) or the work failed (1).

use std::process::ExitCode;

use synapse_recipe::Diagnostics;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The recipe, the flags or the paths are wrong; nothing was done.
    Request(anyhow::Error),
    /// The work itself failed.
    Work(anyhow::Error),
}

impl Failure {
    /// A wrong request with its message.
    pub(crate) fn request(message: impl std::fmt::Display) -> Self {
        Self::Request(anyhow::anyhow!("{message}"))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Request(_) => 2,
            Self::Work(_) => 1,
        })
    }

    /// Whether the reader of stdout closed the pipe, which does not count as a failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let (Self::Request(error) | Self::Work(error)) = self;
        error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        })
    }

    /// The whole chain of causes in one line.
    pub(crate) fn text(&self) -> String {
        let (Self::Request(error) | Self::Work(error)) = self;
        // transparent errors repeat their source's text
        let mut parts: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            if parts.last().is_none_or(|last| !last.contains(&text)) {
                parts.push(text);
            }
        }
        parts.join(": ")
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = anyhow::Error::new(error);
        if error.downcast_ref::<Diagnostics>().is_some() {
            Self::Request(error)
        } else {
            Self::Work(error)
        }
    }
}
