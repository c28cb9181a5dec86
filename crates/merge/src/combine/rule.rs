//! How changes are combined into one. Rules are applied by the parent module.

use crate::Sign;

/// How the sign of an entry is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Vote {
    /// What the election counts.
    pub(crate) sign: Sign,
    /// The sign that a tie elects; 0 for none.
    pub(crate) tie_sign: f32,
    /// Values vote with their weights.
    pub(crate) weighted: bool,
    /// Votes are summed in f32 as mergekit sums them, not in f64.
    pub(crate) vote_in_f32: bool,
}

/// How changes are combined into one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CombineRule {
    /// Elect a sign per entry, or add everything.
    pub(crate) election: Option<Vote>,
    /// What u is divided by.
    pub(crate) divisor: Divisor,
    /// λ.
    pub(crate) lambda: f32,
    /// What the changes are added to.
    pub(crate) onto: Onto,
}

/// What the combined change is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Onto {
    /// The base.
    Base,
    /// The base times a factor.
    Scaled(f32),
    /// Nothing: the "changes" are whole weights.
    Nothing,
}

/// What the combined change is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Divisor {
    /// Nothing.
    One,
    /// The sum of the weights that went into the entry.
    Agreeing,
    /// The number of inputs that went into the entry.
    Count,
    /// The same number everywhere: the sum of all inputs' weights.
    Fixed(f32),
}
