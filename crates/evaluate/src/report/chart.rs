//! The frame of every line plot: SVG canvas, axes, labels, grid, errors. What is drawn inside is the caller's.

use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::{EvaluateError, Result};

/// Size, margins and colors.
pub(super) struct Frame {
    pub(super) size: (u32, u32),
    pub(super) margin: u32,
    /// Height of the labels below the x axis.
    pub(super) x_labels: u32,
    pub(super) font_size: u32,
    pub(super) text: RGBColor,
    pub(super) grid: RGBColor,
    /// None inside the page, which has its own.
    pub(super) background: Option<RGBColor>,
    pub(super) vertical_grid: bool,
}

/// The frame of a stand-alone SVG file.
pub(super) const STANDALONE: Frame = Frame {
    size: (720, 480),
    margin: 14,
    x_labels: 48,
    font_size: 16,
    text: RGBColor(60, 60, 67),
    grid: RGBColor(222, 222, 226),
    background: Some(WHITE),
    vertical_grid: true,
};

/// One axis.
pub(super) struct Axis<'a> {
    pub(super) label: &'a str,
    pub(super) range: Range<f64>,
    /// Number of tick labels.
    pub(super) ticks: usize,
    /// plotters' own format without one.
    pub(super) format: Option<&'a dyn Fn(&f64) -> String>,
}

pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type Drawing = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws the axes and then whatever `draw` draws; returns the SVG.
///
/// # Errors
/// [`EvaluateError::Plot`] with `title`, when plotters refuses.
pub(super) fn chart(
    title: &str,
    frame: &Frame,
    [x, y]: [&Axis<'_>; 2],
    draw: impl FnOnce(&mut Chart<'_, '_>) -> Drawing,
) -> Result<String> {
    let mut svg = String::new();
    let paint = || -> Drawing {
        let area = SVGBackend::with_string(&mut svg, frame.size).into_drawing_area();
        if let Some(background) = &frame.background {
            area.fill(background)?;
        }
        let mut chart = ChartBuilder::on(&area)
            .margin(frame.margin)
            .x_label_area_size(frame.x_labels)
            .y_label_area_size(66)
            .build_cartesian_2d(x.range.clone(), y.range.clone())?;
        let label = ("sans-serif", frame.font_size).into_font().color(&frame.text);
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(frame.grid)
            .axis_style(frame.grid)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_labels(x.ticks)
            .y_labels(y.ticks)
            .x_desc(x.label);
        if !y.label.is_empty() {
            mesh.y_desc(y.label);
        }
        if !frame.vertical_grid {
            mesh.disable_x_mesh();
        }
        if let Some(format) = x.format {
            mesh.x_label_formatter(format);
        }
        if let Some(format) = y.format {
            mesh.y_label_formatter(format);
        }
        mesh.draw()?;
        draw(&mut chart)?;
        area.present()
    };
    paint().map_err(|error| failure(title, error.to_string()))?;
    Ok(svg)
}

/// The error of a plot.
pub(super) fn failure(title: &str, message: impl Into<String>) -> EvaluateError {
    EvaluateError::Plot {
        plot: title.to_owned(),
        message: message.into(),
    }
}
