//! The program `synapse-train`.
//!
//! Exit codes: 0 success, 1 the work failed, 2 the request was wrong. stdout carries data, stderr messages.

mod args;
mod commands;
mod console;
mod failure;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::Failure;

fn main() -> ExitCode {
    match commands::run(args::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            console::print_error(failure.text());
            failure.exit_code()
        }
    }
}

/// The result of every command.
type Outcome = Result<(), Failure>;
