//! Recurrent cells: a state is passed from token to token instead of attending.
//!
//! Every cell has a recurrent form that goes token by token (the definition, used in serving), and, if the paper has one,
//! a chunkwise form of matrix products (used in training), with a hand-written backward pass. Documents are concatenated
//! in `[t, width]` rows; `lengths` has the number of rows of each, and no state passes from one to the next. What this
//! module is not: it has no projections, norms or gates of its own.

pub mod conv;
pub mod delta;
pub mod mlstm;
#[cfg(test)]
mod reference;
pub mod scan;
pub mod slstm;

use std::ops::Range;

use crate::math::exp;

/// The rows of each document.
pub(crate) fn documents(lengths: &[usize]) -> impl Iterator<Item = Range<usize>> {
    lengths.iter().scan(0, |end, &length| {
        let start = *end;
        *end += length;
        Some(start..*end)
    })
}

/// `ln σ(x)` without a call, for many at once: `min(x, 0) − ln(1 + y)` with `y = e^{−|x|}`, and the series
/// `ln(1 + y) = 2·artanh u`, `u = y/(2 + y) ≤ 1/3`, to 2e-8.
#[inline(always)]
pub(crate) fn log_sigmoid(x: f32) -> f32 {
    let y = exp(-x.abs());
    let u = y / (2.0 + y);
    let square = u * u;
    let mut series = 1.0 / 13.0;
    series = series * square + 1.0 / 11.0;
    series = series * square + 1.0 / 9.0;
    series = series * square + 1.0 / 7.0;
    series = series * square + 1.0 / 5.0;
    series = series * square + 1.0 / 3.0;
    series = series * square + 1.0;
    x.min(0.0) - 2.0 * u * series
}

/// `ln(1 + e^x)` without overflow: the positive step sizes of a scan, the rates of forgetting.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    -log_sigmoid(-x)
}
