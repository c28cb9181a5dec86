//! The options of a merge: what each value means, and how it is spelled on command lines and in files.

use std::fmt;
use std::str::FromStr;

/// How TIES elects the sign of an entry from d = wᵢ·(trimmed δᵢ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Each non-zero d has one vote, whatever its size.
    #[default]
    Frequency,
    /// The sign of Σ d (the paper, mergekit and PEFT).
    Total,
}

/// What happens where the election of a sign is a tie: equal numbers of plus and minus, or a sum of zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TieBreak {
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
pub enum TopKSelection {
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

/// How the entries that sparsification keeps are rescaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rescale {
    /// They are not.
    None,
    /// All kept entries of a tensor times ‖δ‖₁ / ‖kept δ‖₁ (mergekit).
    #[default]
    Norm,
    /// Each kept entry divided by the probability that it was kept with (the DARE and DELLA papers, PEFT).
    Inverse,
}

/// What the implementations of TIES and its relatives disagree on. Start from the default and change what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TiesOptions {
    /// How the sign of an entry is elected.
    pub sign: Sign,
    /// What happens where the election is a tie.
    pub tie_break: TieBreak,
    /// Values are summed with their weights; only [`Sign::Total`] sums values.
    pub weighted_vote: bool,
    /// What the sum of the agreeing inputs is divided by.
    pub divide_by: DivideBy,
    /// Values are summed in f32 instead of f64 before the sign is taken (mergekit).
    pub vote_in_f32: bool,
    /// What the trim ranks entries against.
    pub scope: Scope,
    /// Which of the entries at the threshold are kept.
    pub selection: TopKSelection,
    /// How the number of kept entries follows from the density.
    pub counting: Counting,
    /// How kept entries are rescaled; `None` is the method's own default.
    pub rescale: Option<Rescale>,
    /// Merge the factors of adapters instead of their products, as PEFT does.
    pub factors: bool,
}

impl Default for TiesOptions {
    fn default() -> Self {
        Self {
            sign: Sign::default(),
            tie_break: TieBreak::default(),
            weighted_vote: true,
            divide_by: DivideBy::default(),
            vote_in_f32: false,
            scope: Scope::default(),
            selection: TopKSelection::default(),
            counting: Counting::default(),
            rescale: None,
            factors: false,
        }
    }
}

/// A preset: the options with which another implementation merges.
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
    StoredTensor,
    /// The base's adapted matrices as QLoRA training saw them: through NF4 (blocks of 64, double quantization).
    Nf4,
}

macro_rules! names {
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

names!(Sign, "sign election", { "frequency" => Sign::Frequency, "total" => Sign::Total });
names!(TieBreak, "tie break", { "drop" => TieBreak::Drop, "positive" => TieBreak::Positive, "majority" => TieBreak::Majority });
names!(Scope, "trim scope", { "tensor" => Scope::Tensor, "global" => Scope::Global });
names!(TopKSelection, "selection", { "exact" => TopKSelection::Exact, "threshold" => TopKSelection::Threshold });
names!(DivideBy, "divisor", { "weights" => DivideBy::Weights, "count" => DivideBy::Count });
names!(Counting, "counting", { "decimal" => Counting::Decimal, "binary" => Counting::Binary, "one-more" => Counting::OneMore, "quantile" => Counting::Quantile });
names!(Compat, "preset", { "mergekit" => Compat::Mergekit, "peft" => Compat::Peft, "paper" => Compat::Paper, "titan" => Compat::Titan });
names!(Rescale, "rescaling", { "none" => Rescale::None, "norm" => Rescale::Norm, "inverse" => Rescale::Inverse });
names!(Rounding, "rounding", { "nearest" => Rounding::Nearest, "stochastic" => Rounding::Stochastic });
names!(BaseView, "view of the base", { "stored" => BaseView::StoredTensor, "nf4" => BaseView::Nf4 });
