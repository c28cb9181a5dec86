//! The Pareto plot of a merge search: one point per candidate, the mean share of the gains kept on the x axis, the share in
//! the worst domain on the y axis. A stand-alone SVG file.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{Axis, STANDALONE, chart, failure};
use crate::Result;

const TITLE: &str = "merges tried";
const TRIED: RGBColor = RGBColor(150, 150, 158);
const FRONT: RGBColor = RGBColor(0, 98, 163);
const OWN: RGBColor = RGBColor(176, 84, 0);

/// Whether a point is on the Pareto front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParetoStatus {
    /// Dominated: another point is at least as good on both axes.
    Dominated,
    /// On the Pareto front.
    Front,
}

/// One merge.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoPoint {
    /// Mean share of the gains kept; 1 is all.
    pub mean: f64,
    /// The worst domain's share.
    pub worst: f64,
    /// Whether it lies on the front.
    pub standing: ParetoStatus,
    /// Its label, such as `chosen`.
    pub label: Option<String>,
}

/// Draws the points and the front through them.
///
/// # Errors
/// No point has finite coordinates, or plotters refuses.
pub fn pareto_plot(points: &[ParetoPoint]) -> Result<String> {
    let drawn: Vec<(&ParetoPoint, (f64, f64))> = points
        .iter()
        .map(|point| (point, (100.0 * point.mean, 100.0 * point.worst)))
        .filter(|(_, (x, y))| x.is_finite() && y.is_finite())
        .collect();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = drawn.iter().map(|(_, at)| of(at)).fold(f64::INFINITY, f64::min);
        let high = drawn.iter().map(|(_, at)| of(at)).fold(f64::NEG_INFINITY, f64::max);
        let margin = ((high - low) * 0.12).max(1.0);
        low - margin..high + margin
    };
    if drawn.is_empty() {
        return Err(failure(TITLE, "no point has finite coordinates"));
    }
    let (across, up) = (range(|at| at.0), range(|at| at.1));
    let middle = (across.start + across.end) / 2.0;
    let percent = |value: f64, range: &std::ops::Range<f64>| {
        let digits = usize::from(range.end - range.start < 10.0);
        format!("{value:.digits$} %")
    };
    let mut line: Vec<(f64, f64)> = drawn
        .iter()
        .filter(|(point, _)| point.standing == ParetoStatus::Front)
        .map(|(_, at)| *at)
        .collect();
    line.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (format_x, format_y) = (
        |value: &f64| percent(*value, &across),
        |value: &f64| percent(*value, &up),
    );
    let x = Axis {
        label: "share of the specialists' gains kept, mean over domains",
        range: across.clone(),
        ticks: 8,
        format: Some(&format_x),
    };
    let y = Axis {
        label: "the worst domain's share",
        range: up.clone(),
        ticks: 8,
        format: Some(&format_y),
    };
    let label = ("sans-serif", STANDALONE.font_size).into_font().color(&STANDALONE.text);
    chart(TITLE, &STANDALONE, [&x, &y], |chart| {
        chart.draw_series(LineSeries::new(line.iter().copied(), FRONT.stroke_width(2)))?;
        for (point, at) in &drawn {
            let color = match (point.standing, &point.label) {
                (ParetoStatus::Front, _) => FRONT,
                (ParetoStatus::Dominated, Some(_)) => OWN,
                (ParetoStatus::Dominated, None) => TRIED,
            };
            let size = if point.label.is_some() { 6 } else { 4 };
            chart.draw_series([Circle::new(*at, size, color.filled())])?;
            if let Some(text) = &point.label {
                // towards the middle of the plot, where the label fits
                let (side, offset) = if at.0 > middle {
                    (HPos::Right, (-10, -9))
                } else {
                    (HPos::Left, (10, -9))
                };
                let style = label.clone().pos(Pos::new(side, VPos::Bottom));
                let beside = EmptyElement::at(*at) + Text::new(text.clone(), offset, style);
                chart.draw_series([beside])?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_front_is_drawn_and_named() {
        let point = |mean, worst, standing, label: Option<&str>| ParetoPoint {
            mean,
            worst,
            standing,
            label: label.map(str::to_owned),
        };
        let svg = pareto_plot(&[
            point(0.8, 0.7, ParetoStatus::Front, Some("chosen")),
            point(0.75, 0.72, ParetoStatus::Front, None),
            point(0.7, 0.6, ParetoStatus::Dominated, Some("the pipeline's own")),
            point(f64::NAN, 0.6, ParetoStatus::Dominated, None),
        ])
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("xmlns=") && svg.contains("chosen"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(pareto_plot(&[point(f64::NAN, 0.0, ParetoStatus::Dominated, None)]).is_err());
    }
}
