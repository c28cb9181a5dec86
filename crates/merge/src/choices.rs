//! The words a request is made of: what each choice means, and how it is spelled on command lines and in files.

use std::fmt;
use std::str::FromStr;

use crate::sparsify::Rescale;

/// How TIES elects the sign of an entry from d = wᵢ·(trimmed δᵢ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Each non-zero d has one vote, whatever its size.
    #[default]
    Frequency,
    /// The sign of Σ d (the paper, mergekit and PEFT).
    Total,
}

/// What a drawn vote (as many plus as minus, or a sum of zero) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroSign {
    /// Nothing is merged at that entry.
    #[default]
    Drop,
    /// The positive side wins (mergekit).
    Positive,
    /// The sign that wins most entries of the whole model wins this one too (the paper's code).
    Majority,
}

/// What TIES' trim ranks entries against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each tensor by itself.
    #[default]
    Tensor,
    /// All of an input's tensors together (the paper's code).
    Global,
}

/// Which entries TIES' trim keeps where several have the threshold's magnitude.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// Exactly k, ties to the lowest index.
    #[default]
    Exact,
    /// All that reach the threshold, however many they are (the paper's and TITAN's code).
    Threshold,
}

/// What the sum over the agreeing inputs is divided by when normalizing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DivideBy {
    /// The sum of their weights.
    #[default]
    Weights,
    /// Their number (the paper, PEFT, TITAN).
    Count,
}

/// How k follows from the share that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// k = max(1, n − ⌈trim·n⌉), with the trim as a decimal.
    #[default]
    Decimal,
    /// k = max(1, ⌊density·n⌋) in binary floating point (mergekit).
    Binary,
    /// k = ⌊density·n⌋ and the next one (the paper's code, which is one off).
    OneMore,
    /// k = n − ⌈trim·(n − 1)⌉: from the quantile on (TITAN's code).
    Quantile,
}

/// Everything about TIES' election that its implementations disagree on, beside sign and draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Election {
    /// Values are summed with their weights; only `total` asks.
    pub weighted: bool,
    /// What the sum is divided by.
    pub divide_by: DivideBy,
    /// Values are summed in f32 instead of f64 before the sign is taken (mergekit).
    pub single: bool,
}

impl Default for Election {
    fn default() -> Self {
        Self {
            weighted: true,
            divide_by: DivideBy::Weights,
            single: false,
        }
    }
}

/// A peer whose whole set of choices is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// mergekit 0.1.5.
    Mergekit,
    /// PEFT 0.21: merges the factors A and B by themselves, then multiplies.
    Peft,
    /// The code of the TIES paper.
    Paper,
    /// TITAN Synapse's merge script.
    Titan,
}

/// How values are rounded to the output's dtype.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up or down at random, by how near each is; unbiased, and the same for the same seed.
    Stochastic,
}

/// What the inputs' changes are added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseView {
    /// The base as it is stored.
    #[default]
    Stored,
    /// The base's adapted matrices as QLoRA training saw them: through NF4 (blocks of 64, double quantization).
    Nf4,
}

macro_rules! words {
    ($name:ty, $what:literal, { $($word:literal => $value:path),+ $(,)? }) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $($value => $word),+ })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(format!(concat!("unknown ", $what, " `{}` (one of: {})"), word, [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(Sign, "sign election", { "frequency" => Sign::Frequency, "total" => Sign::Total });
words!(ZeroSign, "way to settle a drawn vote", { "drop" => ZeroSign::Drop, "positive" => ZeroSign::Positive, "majority" => ZeroSign::Majority });
words!(Scope, "trim scope", { "tensor" => Scope::Tensor, "global" => Scope::Global });
words!(Selection, "selection", { "exact" => Selection::Exact, "threshold" => Selection::Threshold });
words!(DivideBy, "divisor", { "weights" => DivideBy::Weights, "count" => DivideBy::Count });
words!(Counting, "way to count", { "decimal" => Counting::Decimal, "binary" => Counting::Binary, "one-more" => Counting::OneMore, "quantile" => Counting::Quantile });
words!(Compat, "peer", { "mergekit" => Compat::Mergekit, "peft" => Compat::Peft, "paper" => Compat::Paper, "titan" => Compat::Titan });
words!(Rescale, "way to rescale", { "none" => Rescale::None, "norm" => Rescale::Norm, "inverse" => Rescale::Inverse });
words!(Rounding, "rounding", { "nearest" => Rounding::Nearest, "stochastic" => Rounding::Stochastic });
words!(BaseView, "view of the base", { "stored" => BaseView::Stored, "nf4" => BaseView::Nf4 });
