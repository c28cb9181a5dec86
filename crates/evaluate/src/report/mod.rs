//! report.html: one run on one page.
//!
//! One self-contained file: plots are SVG in the page, styles are in the page, and there is no script and nothing
//! from elsewhere, so it opens from a mail or a memory stick in ten years. It reads in light and dark, on a phone and
//! on paper. This module only renders what it is handed; collecting it is the pipeline's work.

mod bars;
mod data;
mod front;
mod heat_map;
mod html;
mod lines;
mod page;
mod plots;
mod results;
mod token_trace;

pub use data::{
    Answer, Curve, CurvePoint, DataSummary, Fact, HeatMap, License, RecipeText, ReportData, Sample, SearchSummary,
    StageTime, TokenTrace,
};
pub use front::{FrontPoint, Standing, front};
pub use lines::{Axes, lines};
pub use page::render;

#[cfg(test)]
mod tests;
