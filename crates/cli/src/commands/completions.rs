//! `completions`: shell completion scripts, generated from the command line's own definition.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Outcome, args::Arguments, commands::print};

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: Shell) -> Outcome {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
