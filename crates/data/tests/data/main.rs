//! The crate as its users see it; one binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

/// Near duplicates, contamination, limits, the report.
mod cleaning;
/// Columns and nested values of every kind of file.
mod columns;
/// The first rows of giant files.
mod first_rows;
/// Mixing, splitting, masks, packing, what is refused.
mod prepare;
/// What the tests share.
mod support;
