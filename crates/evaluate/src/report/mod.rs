//! report.html: one run on one page.
//!
//! The page is one self-contained file with inline SVG plots and styles, without scripts and external resources, for
//! light and dark screens, phones and paper. [`ReportData`] is what it shows; the pipeline collects it. `page.rs` decides
//! which sections there are, `report.html.jinja` how they look. [`line_plot()`] and [`pareto_plot`] draw single SVG files.

mod chart;
mod data;
mod escape;
mod heat_map;
mod histogram;
mod line_plot;
mod page;
mod pareto;
mod results;
mod trace;
mod training_plots;

pub use data::{
    Curve, CurvePoint, DataSummary, Fact, HeatMap, License, RecipeText, ReportData, Sample, SampleAnswer,
    SearchSummary, StageTime, TokenTrace,
};
pub use line_plot::{Axes, line_plot};
pub use page::render;
pub use pareto::{ParetoPoint, ParetoStatus, pareto_plot};

#[cfg(test)]
mod tests;
