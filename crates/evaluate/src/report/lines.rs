//! Lines of several models in one plot, an SVG that stands by itself: a loss by steps, an accuracy by lengths.
//!
//! Lines differ by color, by their points' shape, and by the name at their end, so that none of these is needed.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{EvaluateError, Result};

const SIZE: (u32, u32) = (720, 400);
const INK: RGBColor = RGBColor(60, 60, 67);
const GRID: RGBColor = RGBColor(222, 222, 226);
const COLORS: [RGBColor; 4] = [
    RGBColor(0, 98, 163),
    RGBColor(176, 84, 0),
    RGBColor(24, 120, 72),
    RGBColor(120, 60, 150),
];

/// What a plot's axes say.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Under the plot.
    pub across: &'a str,
    /// Beside it.
    pub up: &'a str,
    /// Whether each step to the right doubles.
    pub doubling: bool,
    /// The values' range; the points' own where there is none.
    pub range: Option<(f64, f64)>,
}

/// Draws one line a series.
///
/// # Errors
/// No series has a finite point, or plotters refuses.
pub fn lines(axes: Axes<'_>, series: &[(&str, Vec<(f64, f64)>)]) -> Result<String> {
    let failed = |message: String| EvaluateError::Plot {
        plot: axes.up.to_owned(),
        message,
    };
    let place = |x: f64| if axes.doubling { x.log2() } else { x };
    let series: Vec<(&str, Vec<(f64, f64)>)> = series
        .iter()
        .map(|(name, points)| {
            let points = points.iter().map(|&(x, y)| (place(x), y));
            (*name, points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect())
        })
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points);
    if all().next().is_none() {
        return Err(failed("there is no finite point".into()));
    }
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min);
        let high = all().map(of).fold(f64::NEG_INFINITY, f64::max);
        (low, if high > low { high } else { low + 1.0 })
    };
    let (left, right) = bounds(|point| point.0);
    let (bottom, top) = axes.range.unwrap_or_else(|| bounds(|point| point.1));
    let margin = 0.05 * (top - bottom);
    // names stand to the right of the last points
    let across = left..right + 0.26 * (right - left);
    let mut svg = String::new();
    let mut draw = || -> std::result::Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(66)
            .build_cartesian_2d(across.clone(), bottom - margin..top + margin)?;
        let label = ("sans-serif", 15).into_font().color(&INK);
        let tick = |value: &f64| {
            if *value > right + 1e-9 {
                String::new()
            } else if axes.doubling {
                format!("{:.0}", value.exp2())
            } else {
                // without the dust of floating-point steps
                format!("{}", (value * 1e6).round() / 1e6)
            }
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label.clone())
            .axis_desc_style(label.clone())
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(&tick)
            .x_desc(axes.across)
            .y_desc(axes.up)
            .draw()?;
        let mut ends: Vec<(f64, f64, usize)> = Vec::new();
        for (index, (_, points)) in series.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            if points.len() <= 12 {
                if index % 2 == 0 {
                    chart.draw_series(points.iter().map(|&at| Circle::new(at, 4, color.filled())))?;
                } else {
                    chart.draw_series(points.iter().map(|&at| TriangleMarker::new(at, 6, color.filled())))?;
                }
            }
            if let Some(&(x, y)) = points.last() {
                ends.push((y, x, index));
            }
        }
        // names that would lie on each other are moved apart
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let gap = 0.06 * (top - bottom + 2.0 * margin);
        let mut lowest = f64::NEG_INFINITY;
        for (y, x, index) in ends {
            let y = y.max(lowest);
            lowest = y + gap;
            let style = ("sans-serif", 15)
                .into_font()
                .color(&COLORS[index % COLORS.len()])
                .pos(Pos::new(HPos::Left, VPos::Center));
            let name = EmptyElement::at((x, y)) + Text::new(series[index].0.to_owned(), (10, 0), style);
            chart.draw_series([name])?;
        }
        area.present()
    };
    draw().map_err(|error| failed(error.to_string()))?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn lines_are_drawn_and_named() {
        let axes = Axes {
            across: "tokens",
            up: "accuracy",
            doubling: true,
            range: Some((0.0, 1.0)),
        };
        let points = |last| vec![(256.0, 1.0), (512.0, 0.9), (1024.0, last)];
        let svg = lines(axes, &[("one", points(0.5)), ("another", points(0.5))]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("another") && svg.contains("1024"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(lines(axes, &[("none", vec![(f64::NAN, 1.0)])]).is_err());
    }
}
