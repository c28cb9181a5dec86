//! Writes the bundled data again: `cargo run --release -p synapse-toy-corpus` in the repository's root.

use std::path::PathBuf;

use clap::Parser;
use synapse_toy_corpus::{Corpus, SEED};

/// Writes the quickstart's bundled data, and its tiny base's tokenizer and config.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the files go.
    #[arg(long, value_name = "DIR", default_value = "data/nano")]
    out: PathBuf,
    /// Another seed gives other rows of the same kind.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    Corpus::new(arguments.seed)?.write(&arguments.out)?;
    Ok(())
}
