//! The crate as its users see it; one binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

/// The first rows of giant files.
mod beginning;
/// Near duplicates, contamination, limits, the report.
mod cleaning;
/// Mixing, splitting, masks, packing, what is refused.
mod prepare;
/// What the tests share.
mod support;
