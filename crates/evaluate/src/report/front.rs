//! Merges that were tried, as points of a plane: the more of the specialists' gains is kept on the whole the further
//! right, the more in the domain that fared worst the higher. An SVG that stands by itself, beside a search's results.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{EvaluateError, Result};

const SIZE: (u32, u32) = (720, 480);
const INK: RGBColor = RGBColor(60, 60, 67);
const GRID: RGBColor = RGBColor(222, 222, 226);
const TRIED: RGBColor = RGBColor(150, 150, 158);
const FRONT: RGBColor = RGBColor(0, 98, 163);
const OWN: RGBColor = RGBColor(176, 84, 0);

/// How a point stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another one is at least as good in both respects.
    Beaten,
    /// None is.
    Front,
}

/// One merge.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontPoint {
    /// Mean share of the gains kept; 1 is all.
    pub mean: f64,
    /// The worst domain's share.
    pub worst: f64,
    /// Whether it lies on the front.
    pub standing: Standing,
    /// What is written beside it, such as `chosen`.
    pub label: Option<String>,
}

/// Draws the points and the front through them.
///
/// # Errors
/// No point has finite coordinates, or plotters refuses.
pub fn front(points: &[FrontPoint]) -> Result<String> {
    let failed = |message: String| EvaluateError::Plot {
        plot: "merges tried".into(),
        message,
    };
    let drawn: Vec<(&FrontPoint, (f64, f64))> = points
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
        return Err(failed("there is no point with finite coordinates".into()));
    }
    let (across, up) = (range(|at| at.0), range(|at| at.1));
    let middle = (across.start + across.end) / 2.0;
    let percent = |value: f64, range: &std::ops::Range<f64>| {
        let digits = usize::from(range.end - range.start < 10.0);
        format!("{value:.digits$} %")
    };
    let mut line: Vec<(f64, f64)> = drawn
        .iter()
        .filter(|(point, _)| point.standing == Standing::Front)
        .map(|(_, at)| *at)
        .collect();
    line.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut svg = String::new();
    let mut draw = || -> std::result::Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(66)
            .build_cartesian_2d(across.clone(), up.clone())?;
        let label = ("sans-serif", 16).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label.clone())
            .axis_desc_style(label.clone())
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&|value| percent(*value, &across))
            .y_label_formatter(&|value| percent(*value, &up))
            .x_desc("share of the specialists' gains kept, mean over domains")
            .y_desc("the worst domain's share")
            .draw()?;
        chart.draw_series(LineSeries::new(line.iter().copied(), FRONT.stroke_width(2)))?;
        for (point, at) in &drawn {
            let color = match (point.standing, &point.label) {
                (Standing::Front, _) => FRONT,
                (Standing::Beaten, Some(_)) => OWN,
                (Standing::Beaten, None) => TRIED,
            };
            let size = if point.label.is_some() { 6 } else { 4 };
            chart.draw_series([Circle::new(*at, size, color.filled())])?;
            if let Some(text) = &point.label {
                // Towards the middle, where there is room.
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
    fn a_front_is_drawn_and_named() {
        let point = |mean, worst, standing, label: Option<&str>| FrontPoint {
            mean,
            worst,
            standing,
            label: label.map(str::to_owned),
        };
        let svg = front(&[
            point(0.8, 0.7, Standing::Front, Some("chosen")),
            point(0.75, 0.72, Standing::Front, None),
            point(0.7, 0.6, Standing::Beaten, Some("the pipeline's own")),
            point(f64::NAN, 0.6, Standing::Beaten, None),
        ])
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("xmlns=") && svg.contains("chosen"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(front(&[point(f64::NAN, 0.0, Standing::Beaten, None)]).is_err());
    }
}
