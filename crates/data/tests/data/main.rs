//! The crate as its users see it; one binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

/// The first rows of giant files.
/// Near duplicates, contamination, limits, the report.
mod cleaning;
mod first_rows;
/// Mixing, splitting, masks, packing, what is refused.
mod prepare;
/// What the tests share.
mod support;
