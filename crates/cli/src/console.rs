//! Lines and progress bars on stderr, for both programs. stdout carries data only.

use std::io::Write as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Writes one line to stderr. A closed stderr does not stop the program.
pub(crate) fn print_message(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes an error to stderr.
pub(crate) fn print_error(error: impl std::fmt::Display) {
    print_message(format_args!("error: {error}"));
}

/// A progress bar in indicatif's template language. It is hidden if stderr is not a terminal.
pub(crate) fn progress_bar(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
