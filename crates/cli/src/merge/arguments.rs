//! The command line as typed: flags and their spellings.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use synapse_checkpoint::DType;
use synapse_export::GgufType;
use synapse_merge::{
    BaseView, Compat, DivideBy, Method, Rescale, Rounding, Scope, Setting, Sign, TieBreak, TopKSelection, Trim,
    parse_dtype,
};

use crate::model_source::folder_name;

/// Merge adapters and checkpoints into one model folder.
///
/// Without inputs, merges the specialists of pipelines/synapse-3b.yaml (or --pipeline FILE) into that pipeline's
/// output. The merged folder's path goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the work failed,
/// 2 the request was wrong.
#[derive(Debug, Parser)]
#[command(
    name = "synapse-merge",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// A mergekit YAML, or the merge.yaml of an earlier merge, which is then repeated
    #[arg(value_name = "MERGEKIT.yml", conflicts_with_all = ["method", "base", "adapters", "models", "pipeline"])]
    pub(crate) file: Option<PathBuf>,

    /// ties, linear, task_arithmetic, dare_ties, slerp … [default: the pipeline's, else ties]
    #[arg(long)]
    pub(crate) method: Option<Method>,

    /// Share of each tensor's smallest entries to zero [default: the pipeline's, else 0.8 for ties]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) trim: Option<Trim>,

    /// Share of each tensor's entries to keep; --density 0.2 is --trim 0.8
    #[arg(long, value_name = "SHARE", conflicts_with = "trim", value_parser = Trim::from_density, allow_negative_numbers = true)]
    pub(crate) density: Option<Trim>,

    /// Elections: how the sign of an entry is elected: frequency (majority of signs) or total (sign of the sum) [default: frequency]
    #[arg(long)]
    pub(crate) sign: Option<Sign>,

    /// Elections: what a tie does: drop (merges nothing), positive (as mergekit) or majority [default: drop]
    #[arg(long = "zero-sign", value_name = "WHAT")]
    pub(crate) tie_break: Option<TieBreak>,

    /// Elections by total: whether values are summed with their weights [default: true]
    #[arg(long, value_name = "BOOL")]
    pub(crate) weighted_vote: Option<bool>,

    /// Elections: what normalizing divides by: weights (of those that agree) or count [default: weights]
    #[arg(long, value_name = "WHAT")]
    pub(crate) divide_by: Option<DivideBy>,

    /// TIES: what the trim ranks entries against: each tensor, or global (all tensors of an input) [default: tensor]
    #[arg(long, value_name = "SCOPE")]
    pub(crate) trim_scope: Option<Scope>,

    /// TIES: exact (k entries, ties go to the lowest index) or threshold (all entries that tie) [default: exact]
    #[arg(long, value_name = "WHAT")]
    pub(crate) selection: Option<TopKSelection>,

    /// How kept entries are rescaled: none, norm (‖δ‖₁ is kept) or inverse (1/p) [default: norm for random methods]
    #[arg(long, value_name = "WHAT")]
    pub(crate) rescale: Option<Rescale>,

    /// Use the options of another implementation of TIES: mergekit, peft, paper or titan
    #[arg(long, value_name = "PRESET")]
    pub(crate) compat: Option<Compat>,

    /// A parameter by mergekit's name: t=0.5 or gamma=0.01; `t=[0,1]` is a gradient over the layers. Repeatable
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, Setting)>,

    /// Seed of all random numbers [default: 0]
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// How values become the output's dtype: nearest or stochastic (seeded, unbiased) [default: nearest]
    #[arg(long, value_name = "HOW")]
    pub(crate) rounding: Option<Rounding>,

    /// The base that changes are added to: stored, or nf4 (as QLoRA training saw it) [default: stored]
    #[arg(long, value_name = "VIEW")]
    pub(crate) base_view: Option<BaseView>,

    /// Memory for changes; a larger tensor's changes are computed again in every pass [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,

    /// Factor of the merged change [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) lambda: Option<f64>,

    /// Divide by the sum of the weights [default: true, false for task_arithmetic]
    #[arg(long, value_name = "BOOL")]
    pub(crate) normalize: Option<bool>,

    /// The base: a folder or a hub id [default: what the adapters were trained on]
    #[arg(long, value_name = "DIR|HUB_ID")]
    pub(crate) base: Option<String>,

    /// A PEFT adapter folder; repeat for each
    #[arg(long = "adapter", value_name = "[NAME=]DIR[@WEIGHT]")]
    pub(crate) adapters: Vec<WeightedInput>,

    /// A full checkpoint of the base's shape, a folder or a hub id; repeat for each
    #[arg(long = "model", value_name = "[NAME=]DIR[@WEIGHT]")]
    pub(crate) models: Vec<WeightedInput>,

    /// The pipeline whose specialists to merge
    #[arg(long, value_name = "FILE", conflicts_with_all = ["adapters", "models"])]
    pub(crate) pipeline: Option<PathBuf>,

    /// Folder to write [default: the pipeline's output; for a merge.yaml, its own folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// gguf: one file at --out, straight from the merge, instead of a Hugging Face folder; delta: a folder that holds the
    /// changed entries only, for `synapse-merge apply`
    #[arg(long, value_name = "FORMAT", requires_if("gguf", "quant"))]
    pub(crate) format: Option<Format>,

    /// GGUF: f16, bf16, q8_0 or q4_0
    #[arg(long, value_name = "TYPE", requires = "format")]
    pub(crate) quant: Option<GgufType>,

    /// Write the merged change as a LoRA adapter of this rank, by its largest singular values, instead of a model
    #[arg(long, value_name = "RANK", conflicts_with_all = ["format", "dtype"])]
    pub(crate) extract_lora: Option<usize>,

    /// dtype of the output: f32, f16 or bf16 [default: the pipeline's, else the base's own]
    #[arg(long, value_parser = parse_dtype)]
    pub(crate) dtype: Option<DType>,

    /// Largest size of one output file, such as 5GB or 500MB [default: the pipeline's, else 5GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) out_shard_size: Option<u64>,

    /// Do not use the network; hub ids must be in the cache
    #[arg(long)]
    pub(crate) offline: bool,

    /// Print the merge report as JSON on stdout instead of the folder's path
    #[arg(long)]
    pub(crate) json: bool,
}

/// The other commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Repeat a folder's merge in memory and compare every value with the folder
    Verify {
        /// The merged folder
        dir: PathBuf,

        /// Do not use the network; hub ids must be in the cache
        #[arg(long)]
        offline: bool,
    },
    /// Turn specialists over one Synapse model into the experts of a larger one, to be trained further
    Upcycle {
        /// A specialist over the base; repeatable, two or more
        #[arg(long = "adapter", value_name = "DIR", required = true)]
        adapters: Vec<PathBuf>,

        /// The base: a folder or a hub id [default: the one that the first adapter names]
        #[arg(long, value_name = "DIR|HUB_ID")]
        base: Option<String>,

        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,

        /// Seed of the noise on the router's repeated rows
        #[arg(long, default_value_t = 0)]
        seed: u64,

        /// Largest size of one output file, such as 5GB or 500MB [default: 5GB]
        #[arg(long, value_name = "SIZE", value_parser = size)]
        out_shard_size: Option<u64>,

        /// Do not use the network; hub ids must be in the cache
        #[arg(long)]
        offline: bool,
    },
    /// Apply a merge with --format delta to its base; writes the folder that the merge would have written
    Apply {
        /// The delta's folder
        delta: PathBuf,

        /// The base: a folder or a hub id [default: the one that the delta names]
        #[arg(long, value_name = "DIR|HUB_ID")]
        base: Option<String>,

        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,

        /// Largest size of one output file, such as 5GB or 500MB [default: 5GB]
        #[arg(long, value_name = "SIZE", value_parser = size)]
        out_shard_size: Option<u64>,

        /// Do not use the network; hub ids must be in the cache
        #[arg(long)]
        offline: bool,
    },
}

/// The output's format, if not a model folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One GGUF file.
    Gguf,
    /// What changes in the base.
    Delta,
}

/// `NAME=VALUE`, the value as YAML would have it.
fn parameter(text: &str) -> Result<(String, Setting), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE"))?;
    let value = serde_yaml::from_str(value).map_err(|error| format!("{name}: {error}"))?;
    let setting = Setting::parse(&value).map_err(|problem| format!("{name} {problem}"))?;
    Ok((name.to_owned(), setting))
}

/// `[NAME=]DIR[@WEIGHT]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightedInput {
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) weight: f64,
}

impl std::str::FromStr for WeightedInput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if !name.contains(['/', '\\']) => (Some(name), rest),
            _ => (None, text),
        };
        // Only a number after the last @ is a weight: folders may hold an @ of their own.
        let weighted = rest
            .rsplit_once('@')
            .and_then(|(location, weight)| Some((location, weight.parse::<f64>().ok()?)));
        let (location, weight) = weighted.unwrap_or((rest, 1.0));
        if location.is_empty() || name == Some("") {
            return Err(format!("`{text}` is not of the form [NAME=]DIR[@WEIGHT]"));
        }
        let name = name.unwrap_or_else(|| folder_name(location)).to_owned();
        Ok(Self {
            name,
            location: location.to_owned(),
            weight,
        })
    }
}

/// A size in bytes: digits and a unit, decimal (KB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB).
fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "unknown unit in `{text}` (write 5GB, 500MB or a number of bytes)"
            ));
        }
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|&bytes| bytes > 0);
    bytes.ok_or_else(|| format!("`{text}` is not a size (write 5GB, 500MB or a number of bytes)"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use clap::CommandFactory as _;

    use super::*;

    fn input(name: &str, location: &str, weight: f64) -> WeightedInput {
        WeightedInput {
            name: name.to_owned(),
            location: location.to_owned(),
            weight,
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn inputs_with_names_and_weights() {
        let read = |text: &str| text.parse::<WeightedInput>();
        assert_eq!(read("outputs/math").unwrap(), input("math", "outputs/math", 1.0));
        assert_eq!(read("outputs/math/@0.5").unwrap(), input("math", "outputs/math/", 0.5));
        assert_eq!(read("m=a/b@-2").unwrap(), input("m", "a/b", -2.0));
        assert_eq!(read("a=b/x@main").unwrap(), input("a", "b/x@main", 1.0));
        assert_eq!(read("./a=b/x").unwrap(), input("x", "./a=b/x", 1.0));
        for bad in ["", "=x", "a=", "@1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "GB", "5B", "0", "-1", "5XB", "99999999999TB", "1.5GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
