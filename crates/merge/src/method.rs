//! The merge methods: their names, their steps, and mergekit's defaults. What this is not: their arithmetic.
//!
//! Sources: the papers named at each method; option names and defaults are mergekit 0.1.5's.

use std::fmt;
use std::str::FromStr;

/// A method of merging models into one. θ is the base, θᵢ an input, δᵢ = θᵢ − θ, wᵢ its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Σ wᵢθᵢ / Σ wᵢ: the weighted mean of the models (Wortsman et al. 2022, arXiv 2203.05482).
    Linear,
    /// θ + λ·Σ wᵢδᵢ (Ilharco et al. 2022, arXiv 2212.04089).
    TaskArithmetic,
    /// Trim each δᵢ to its largest entries, elect a sign per entry, take the weighted mean of those that agree
    /// (Yadav et al. 2023, arXiv 2306.01708).
    Ties,
    /// Keep entries of δᵢ at random, rescale, then as task arithmetic (Yu et al. 2023, arXiv 2311.03099).
    DareLinear,
    /// Keep entries of δᵢ at random, rescale, then elect signs as TIES does.
    DareTies,
    /// Drop the largest and the smallest entries of δᵢ, then as task arithmetic (Davari & Belilovsky 2023, arXiv
    /// 2312.06795).
    Breadcrumbs,
    /// Drop the largest and the smallest entries of δᵢ, then elect signs as TIES does.
    BreadcrumbsTies,
    /// Keep entries at random, the larger of a row the likelier, rescale, then elect signs (Deep et al. 2024, arXiv
    /// 2406.11617).
    Della,
    /// Della's selection, then as task arithmetic.
    DellaLinear,
    /// Spherical interpolation between the base and one model.
    Slerp,
    /// Spherical interpolation between two models or, with a base, between their changes.
    NuSlerp,
    /// Mean on the sphere of any number of models or changes.
    MultiSlerp,
    /// Riemannian mean of the models' directions, times their mean norm (arXiv 2603.04972).
    Karcher,
    /// Between the base and the models' mean, by the angle between the changes (Jang et al. 2024, arXiv 2403.19522).
    ModelStock,
    /// Select by variance, weight by energy, erase by sign (Wan et al. 2024, arXiv 2408.07990).
    Sce,
    /// Moves the base to the model where they are near each other.
    NearSwap,
    /// Takes the most important entries of one model, by a threshold on importance.
    ArceeFusion,
    /// A copy of one model, with layers stacked by the slices.
    Passthrough,
}

/// How a method sparsifies δᵢ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sparsity {
    /// The largest entries are kept.
    Largest,
    /// All but the largest and the smallest are kept.
    Band,
    /// Each entry is kept with the same probability.
    Random,
    /// Each entry is kept with a probability that rises with its rank within its row.
    Ranked,
}

/// What a method requires of the base and the number of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputRequirements {
    pub(crate) base: NeedsBase,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// Whether changes are measured against a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeedsBase {
    Always,
    Optional,
}

/// Parameters of every method on changes.
const ON_CHANGES: &[&str] = &["weight", "density", "normalize", "lambda", "rescale", "int8_mask"];

impl Method {
    /// All of them, with the names that mergekit's YAML uses.
    pub const ALL: [(&'static str, Self); 18] = [
        ("ties", Self::Ties),
        ("linear", Self::Linear),
        ("task_arithmetic", Self::TaskArithmetic),
        ("dare_linear", Self::DareLinear),
        ("dare_ties", Self::DareTies),
        ("breadcrumbs", Self::Breadcrumbs),
        ("breadcrumbs_ties", Self::BreadcrumbsTies),
        ("della", Self::Della),
        ("della_linear", Self::DellaLinear),
        ("slerp", Self::Slerp),
        ("nuslerp", Self::NuSlerp),
        ("multislerp", Self::MultiSlerp),
        ("karcher", Self::Karcher),
        ("model_stock", Self::ModelStock),
        ("sce", Self::Sce),
        ("nearswap", Self::NearSwap),
        ("arcee_fusion", Self::ArceeFusion),
        ("passthrough", Self::Passthrough),
    ];

    /// Whether the combined change is divided by the weights unless the request says otherwise.
    pub fn normalizes(self) -> bool {
        matches!(self, Self::Linear | Self::Ties | Self::Della)
    }

    /// Whether kept entries are rescaled, unless the request says otherwise.
    pub(crate) fn rescales(self) -> bool {
        matches!(
            self,
            Self::DareLinear | Self::DareTies | Self::Della | Self::DellaLinear
        )
    }

    /// How δᵢ is sparsified.
    pub(crate) fn sparsity(self) -> Option<Sparsity> {
        match self {
            Self::Ties => Some(Sparsity::Largest),
            Self::Breadcrumbs | Self::BreadcrumbsTies => Some(Sparsity::Band),
            Self::DareLinear | Self::DareTies => Some(Sparsity::Random),
            Self::Della | Self::DellaLinear => Some(Sparsity::Ranked),
            Self::Linear
            | Self::TaskArithmetic
            | Self::Slerp
            | Self::NuSlerp
            | Self::MultiSlerp
            | Self::Karcher
            | Self::ModelStock
            | Self::Sce
            | Self::NearSwap
            | Self::ArceeFusion
            | Self::Passthrough => None,
        }
    }

    /// Whether signs are elected, as TIES does ([`crate::TiesOptions`]).
    pub fn elects_signs(self) -> bool {
        matches!(self, Self::Ties | Self::DareTies | Self::BreadcrumbsTies | Self::Della)
    }

    /// Whether the method is sparsify → elect → combine over changes, with weights and λ.
    pub(crate) fn combines_deltas(self) -> bool {
        matches!(self, Self::Linear | Self::TaskArithmetic) || self.sparsity().is_some()
    }

    /// Whether the inputs' weights are used.
    pub(crate) fn uses_weights(self) -> bool {
        self.combines_deltas() || matches!(self, Self::NuSlerp | Self::MultiSlerp)
    }

    /// Whether random numbers decide which entries are kept.
    pub(crate) fn is_random(self) -> bool {
        matches!(self.sparsity(), Some(Sparsity::Random | Sparsity::Ranked))
    }

    /// Whether changes are measured against a base, which must then be there.
    pub fn needs_base(self) -> bool {
        self.requirements().base == NeedsBase::Always
    }

    /// The parameters that the method takes, by mergekit's names.
    pub fn parameters(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Self::Linear => &["weight", "normalize"],
            Self::Breadcrumbs | Self::BreadcrumbsTies => &["gamma"],
            Self::Della | Self::DellaLinear => &["epsilon"],
            Self::Slerp | Self::NearSwap => &["t"],
            Self::NuSlerp => &["weight", "nuslerp_flatten", "nuslerp_row_wise"],
            Self::MultiSlerp => &["weight", "normalize_weights", "eps"],
            Self::Karcher => &["max_iter", "tol"],
            Self::ModelStock => &["filter_wise"],
            Self::Sce => &["select_topk", "int8_mask"],
            Self::Passthrough => &["scale"],
            Self::TaskArithmetic | Self::Ties | Self::DareLinear | Self::DareTies | Self::ArceeFusion => &[],
        };
        let shared = match self {
            Self::TaskArithmetic => &["weight", "normalize", "lambda"][..],
            _ if self.sparsity().is_some() => ON_CHANGES,
            _ => &[],
        };
        shared.iter().chain(own).copied().collect()
    }

    /// What the method requires of its inputs. The base is not counted.
    pub(crate) fn requirements(self) -> InputRequirements {
        let (base, least, most) = match self {
            Self::Linear | Self::Karcher => (NeedsBase::Optional, 1, usize::MAX),
            Self::MultiSlerp => (NeedsBase::Optional, 1, usize::MAX),
            Self::NuSlerp => (NeedsBase::Optional, 2, 2),
            Self::Passthrough => (NeedsBase::Optional, 1, usize::MAX),
            Self::Slerp | Self::NearSwap | Self::ArceeFusion => (NeedsBase::Always, 1, 1),
            Self::ModelStock => (NeedsBase::Always, 2, usize::MAX),
            Self::TaskArithmetic
            | Self::Ties
            | Self::DareLinear
            | Self::DareTies
            | Self::Breadcrumbs
            | Self::BreadcrumbsTies
            | Self::Della
            | Self::DellaLinear
            | Self::Sce => (NeedsBase::Always, 1, usize::MAX),
        };
        InputRequirements { base, least, most }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, method)| method == self);
        formatter.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if let Some((_, method)) = Self::ALL.iter().find(|(name, _)| *name == word) {
            return Ok(*method);
        }
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        let near = names
            .iter()
            .map(|name| (strsim::damerau_levenshtein(name, word), name))
            .min()
            .filter(|(distance, _)| *distance <= 2)
            .map(|(_, name)| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        Err(format!(
            "unknown merge method `{word}` (one of: {}){near}",
            names.join(", ")
        ))
    }
}
