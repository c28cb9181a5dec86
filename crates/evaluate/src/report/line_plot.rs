//! A line plot of several models, such as loss by steps or accuracy by length. A stand-alone SVG file.
//!
//! Lines differ by color, marker shape and a label at their end, so that none of these is needed alone.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{Axis, Frame, STANDALONE, chart, failure};
use crate::Result;

const FRAME: Frame = Frame {
    size: (720, 400),
    font_size: 15,
    ..STANDALONE
};
const COLORS: [RGBColor; 4] = [
    RGBColor(0, 98, 163),
    RGBColor(176, 84, 0),
    RGBColor(24, 120, 72),
    RGBColor(120, 60, 150),
];

/// The axes of a plot.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Label of the x axis.
    pub x_label: &'a str,
    /// Label of the y axis.
    pub y_label: &'a str,
    /// Whether the x axis is logarithmic (base 2).
    pub log2_x: bool,
    /// Range of the y axis; by default the points' range.
    pub y_range: Option<(f64, f64)>,
}

/// Draws one line per series.
///
/// # Errors
/// No series has a finite point, or plotters refuses.
pub fn line_plot(axes: Axes<'_>, series: &[(&str, Vec<(f64, f64)>)]) -> Result<String> {
    let place = |x: f64| if axes.log2_x { x.log2() } else { x };
    let series: Vec<(&str, Vec<(f64, f64)>)> = series
        .iter()
        .map(|(name, points)| {
            let points = points.iter().map(|&(x, y)| (place(x), y));
            (*name, points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect())
        })
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points);
    if all().next().is_none() {
        return Err(failure(axes.y_label, "no point has finite coordinates"));
    }
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min);
        let high = all().map(of).fold(f64::NEG_INFINITY, f64::max);
        (low, if high > low { high } else { low + 1.0 })
    };
    let (left, right) = bounds(|point| point.0);
    let (bottom, top) = axes.y_range.unwrap_or_else(|| bounds(|point| point.1));
    let margin = 0.05 * (top - bottom);
    let format_x = |value: &f64| {
        if *value > right + 1e-9 {
            String::new()
        } else if axes.log2_x {
            format!("{:.0}", value.exp2())
        } else {
            // rounded, to hide floating-point errors
            format!("{}", (value * 1e6).round() / 1e6)
        }
    };
    let x = Axis {
        label: axes.x_label,
        // the labels are to the right of the last points
        range: left..right + 0.26 * (right - left),
        ticks: 8,
        format: Some(&format_x),
    };
    let y = Axis {
        label: axes.y_label,
        range: bottom - margin..top + margin,
        ticks: 6,
        format: None,
    };
    chart(axes.y_label, &FRAME, [&x, &y], |chart| {
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
        // labels that would overlap are moved apart
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let gap = 0.06 * (top - bottom + 2.0 * margin);
        let mut lowest = f64::NEG_INFINITY;
        for (y, x, index) in ends {
            let y = y.max(lowest);
            lowest = y + gap;
            let style = ("sans-serif", FRAME.font_size)
                .into_font()
                .color(&COLORS[index % COLORS.len()])
                .pos(Pos::new(HPos::Left, VPos::Center));
            let name = EmptyElement::at((x, y)) + Text::new(series[index].0.to_owned(), (10, 0), style);
            chart.draw_series([name])?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn lines_are_drawn_and_named() {
        let axes = Axes {
            x_label: "tokens",
            y_label: "accuracy",
            log2_x: true,
            y_range: Some((0.0, 1.0)),
        };
        let points = |last| vec![(256.0, 1.0), (512.0, 0.9), (1024.0, last)];
        let svg = line_plot(axes, &[("one", points(0.5)), ("another", points(0.5))]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("another") && svg.contains("1024"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(line_plot(axes, &[("none", vec![(f64::NAN, 1.0)])]).is_err());
    }
}
