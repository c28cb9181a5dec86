//! The plots of training: loss, learning rate and speed, as SVG inside the page.
//!
//! plotters writes literal colors. The page's style sheet selects these literals by attribute and sets the actual colors for
//! light, dark and print.

use plotters::prelude::*;

use super::chart::{Axis, Frame, chart};
use super::data::{Curve, CurvePoint};
use crate::Result;

/// Axes, labels and grid.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Grid lines.
const GRID: RGBColor = RGBColor(2, 2, 2);
/// The color of heat maps, with varying opacity.
pub(super) const HEAT: RGBColor = RGBColor(3, 3, 3);
/// Series colors, in order; they repeat if there are more curves.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(16, 0, 0),
    RGBColor(16, 0, 1),
    RGBColor(16, 0, 2),
    RGBColor(16, 0, 3),
    RGBColor(16, 0, 4),
    RGBColor(16, 0, 5),
];

/// Maximum number of points of a line; longer runs show means of neighboring steps.
const MOST_POINTS: usize = 300;
/// The plot's frame; the page gives it a background.
const FRAME: Frame = Frame {
    size: (480, 290),
    margin: 10,
    x_labels: 46,
    font_size: 17,
    text: INK,
    grid: GRID,
    background: None,
    vertical_grid: false,
};

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
        let line_plot = curves.iter().enumerate().map(|(color, curve)| Series {
            points: thinned(curve.points.iter().map(|point| (point.step as f64, value(point)))),
            dots: false,
            color,
        });
        line_plot.collect::<Vec<_>>()
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

/// Means over groups of finite points, which shows the trend and keeps the file small.
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
    let (format_x, format_y) = (
        |value: &f64| format!("{value:.0}"),
        |value: &f64| tick(*value, y.1 - y.0),
    );
    let steps = Axis {
        label: "optimizer step",
        range: x.0..x.1.max(x.0 + 1.0),
        ticks: 6,
        format: Some(&format_x),
    };
    let values = Axis {
        label: "",
        range: y.0..y.1,
        ticks: 6,
        format: Some(&format_y),
    };
    let svg = chart(title, &FRAME, [&steps, &values], |chart| {
        for Series { points, dots, color } in series {
            let color = SERIES[color % SERIES.len()];
            if *dots || points.len() == 1 {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            }
        }
        Ok(())
    })?;
    Ok(Some(described(svg, title)))
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// A tick label with the digits that the range needs; very small numbers with an exponent.
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

/// Adds a label for screen readers to an SVG and removes its fixed size.
pub(super) fn described(svg: String, title: &str) -> String {
    let Some(end) = svg.find('>') else { return svg };
    let view = svg[..end]
        .split("viewBox=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    let name = super::escape::escaped(title);
    format!(
        "<svg viewBox=\"{view}\" role=\"img\" aria-label=\"{name}\">{}",
        &svg[end + 1..]
    )
}
