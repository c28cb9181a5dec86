//! Line plots as SVG.
//!
//! plotters writes literal colors; the page's style sheet gives each of these literals its color for light, dark
//! and print by attribute, so the SVG itself never changes.

use plotters::prelude::*;

use super::data::{Curve, CurvePoint};
use crate::{EvaluateError, Result};

/// Axes, labels and grid.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(2, 2, 2);
/// What heat maps are colored with, in degrees.
pub(super) const HEAT: RGBColor = RGBColor(3, 3, 3);
/// Series colors, in order; more curves begin again.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(16, 0, 0),
    RGBColor(16, 0, 1),
    RGBColor(16, 0, 2),
    RGBColor(16, 0, 3),
    RGBColor(16, 0, 4),
    RGBColor(16, 0, 5),
];

/// Points a line is drawn with; longer runs show means of neighboring steps.
const MOST_POINTS: usize = 300;
/// Size of a plot, in SVG units.
const SIZE: (u32, u32) = (480, 290);

/// One line.
struct Series {
    points: Vec<(f64, f64)>,
    /// Drawn as dots (few measurements) instead of a line.
    dots: bool,
    color: usize,
}

/// The plots of all curves: loss, learning rate, speed. Each comes with its title.
pub(super) fn training(curves: &[Curve]) -> Result<Vec<(&'static str, String)>> {
    let each = |value: fn(&CurvePoint) -> f64| {
        let lines = curves.iter().enumerate().map(|(color, curve)| Series {
            points: thinned(curve.points.iter().map(|point| (point.step as f64, value(point)))),
            dots: false,
            color,
        });
        lines.collect::<Vec<_>>()
    };
    let mut losses = each(|point| point.loss);
    losses.extend(
        curves
            .iter()
            .enumerate()
            .filter(|(_, curve)| !curve.held_out.is_empty())
            .map(|(color, curve)| Series {
                points: curve
                    .held_out
                    .iter()
                    .map(|(step, loss)| (*step as f64, *loss))
                    .collect(),
                dots: true,
                color,
            }),
    );
    let held_out = curves.iter().any(|curve| !curve.held_out.is_empty());
    let loss_title = if held_out {
        "Loss, nats per trained token; dots: held out"
    } else {
        "Loss, nats per trained token"
    };
    let mut plots = Vec::new();
    for (title, series, from_zero) in [
        (loss_title, losses, false),
        ("Learning rate", each(|point| point.learning_rate), true),
        ("Tokens per second", each(|point| point.tokens_per_second), true),
    ] {
        plots.extend(plot(title, &series, from_zero)?.map(|svg| (title, svg)));
    }
    Ok(plots)
}

/// Means over equal runs of finite points, so that noise does not hide the trend and the file stays small.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.filter(|(_, y)| y.is_finite()).collect();
    let run = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |run: &[(f64, f64)]| {
        let (x, y) = run
            .iter()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / run.len() as f64, y / run.len() as f64)
    };
    points.chunks(run).map(mean).collect()
}

/// `None` where there is nothing to draw.
fn plot(title: &str, series: &[Series], from_zero: bool) -> Result<Option<String>> {
    let points = || series.iter().flat_map(|series| &series.points);
    let (Some(x), Some(y)) = (
        extent(points().map(|point| point.0)),
        extent(points().map(|point| point.1)),
    ) else {
        return Ok(None);
    };
    let margin = ((y.1 - y.0) * 0.06).max(y.1.abs() * 1e-3).max(1e-12);
    let y = (if from_zero { 0.0 } else { y.0 - margin }, y.1 + margin);
    let mut svg = String::new();
    let draw = || -> std::result::Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(46)
            .y_label_area_size(66)
            .build_cartesian_2d(x.0..x.1.max(x.0 + 1.0), y.0..y.1)?;
        let label = ("sans-serif", 17).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| tick(*value, y.1 - y.0))
            .x_desc("optimizer step")
            .draw()?;
        for Series { points, dots, color } in series {
            let color = SERIES[color % SERIES.len()];
            if *dots || points.len() == 1 {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            }
        }
        area.present()
    };
    let mut draw = draw;
    draw().map_err(|error| EvaluateError::Plot {
        plot: title.to_owned(),
        message: error.to_string(),
    })?;
    Ok(Some(described(svg, title)))
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// As many digits as the range needs; very small numbers as powers.
fn tick(value: f64, range: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if range < 0.01 {
        format!("{value:.1e}")
    } else if range < 1.0 {
        format!("{value:.2}")
    } else if range < 20.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Gives an SVG its name for screen readers and lets the page decide its size.
pub(super) fn described(svg: String, title: &str) -> String {
    let Some(end) = svg.find('>') else { return svg };
    let view = svg[..end]
        .split("viewBox=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    let name = super::html::escaped(title);
    format!(
        "<svg viewBox=\"{view}\" role=\"img\" aria-label=\"{name}\">{}",
        &svg[end + 1..]
    )
}
