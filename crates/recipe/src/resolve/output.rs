//! The name a file gives itself and the folder it publishes to.

use std::path::{Path, PathBuf};

use crate::paths::normalize;
use crate::resolve::Resolver;

impl Resolver<'_> {
    /// Names become folders, adapter names and keys.
    pub(crate) fn check_name(&mut self, name: &str) {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
        if !name.chars().all(plain) || name.starts_with('.') {
            let message = format!("`name` must consist of a-z, 0-9, `-`, `_` and `.`, found `{name}`");
            self.refuse_value("name", message, None);
        }
    }

    /// The published folder, relative to the working directory.
    pub(crate) fn output(&mut self, written: &Path) -> PathBuf {
        let output = normalize(written);
        match output.file_name().and_then(|name| name.to_str()) {
            None => {
                let message = format!("`output` must name a folder of its own, found `{}`", written.display());
                self.refuse_value(
                    "output",
                    message,
                    Some("it is replaced whole when the run ends".to_owned()),
                );
            }
            Some("runs") => {
                let message = "`output` must not be called `runs`: runs live there";
                self.refuse_value("output", message, None);
            }
            Some(_) if output.is_file() => {
                self.refuse_value(
                    "output",
                    format!("`output` is an existing file: {}", output.display()),
                    None,
                );
            }
            Some(_) => {}
        }
        output
    }
}
