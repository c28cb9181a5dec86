//! A heat map as SVG: one hue, whose opacity is the value.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::data::HeatMap;
use super::training_plots::{HEAT, INK, described};
use crate::{EvaluateError, Result};

/// Size of a cell, in SVG units.
const CELL: (i32, i32) = (58, 15);
/// Margin for row names on the left and column names at the top.
const MARGIN: (i32, i32) = (46, 112);
/// Height of the scale at the bottom.
const SCALE: i32 = 46;
/// Minimum opacity of a cell with a value.
const WEAKEST: f64 = 0.06;

/// The map, and a sentence with its range and its highest cell; `None` without values.
pub(super) fn draw(map: &HeatMap) -> Result<Option<(String, String)>> {
    let cells = || {
        let rows = map.values.iter().zip(&map.rows).enumerate();
        rows.flat_map(|(y, (values, row))| {
            values
                .iter()
                .zip(&map.columns)
                .enumerate()
                .map(move |(x, (value, column))| (x, y, row, column, *value))
        })
        .filter(|(.., value)| value.is_finite())
    };
    let Some(highest) = cells().max_by(|a, b| a.4.total_cmp(&b.4)) else {
        return Ok(None);
    };
    let lowest = cells().map(|(.., value)| value).fold(f64::INFINITY, f64::min);
    let range = (highest.4 - lowest).max(f64::MIN_POSITIVE);
    let strength = |value: f64| WEAKEST + (1.0 - WEAKEST) * (value - lowest) / range;

    let width = MARGIN.0 + CELL.0 * map.columns.len() as i32 + 20;
    let height = MARGIN.1 + CELL.1 * map.rows.len() as i32 + SCALE;
    let mut svg = String::new();
    let mut paint = || -> std::result::Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::with_string(&mut svg, (width.unsigned_abs(), height.unsigned_abs())).into_drawing_area();
        let font = ("sans-serif", 16).into_font().color(&INK);
        let right = font.pos(Pos::new(HPos::Right, VPos::Center));
        let upwards = ("sans-serif", 16)
            .into_font()
            .transform(FontTransform::Rotate270)
            .color(&INK);
        let upwards = upwards.pos(Pos::new(HPos::Left, VPos::Center));
        for (index, name) in map.columns.iter().enumerate() {
            let x = MARGIN.0 + CELL.0 * index as i32 + CELL.0 / 2;
            let name = name.rsplit('.').next().unwrap_or(name);
            area.draw(&Text::new(name.to_owned(), (x, MARGIN.1 - 8), upwards.clone()))?;
        }
        // every name if they fit, else every fifth
        let every = if map.rows.len() > 16 { 5 } else { 1 };
        for (index, name) in map.rows.iter().enumerate().filter(|(index, _)| index % every == 0) {
            let y = MARGIN.1 + CELL.1 * index as i32 + CELL.1 / 2;
            area.draw(&Text::new(name.clone(), (MARGIN.0 - 8, y), right.clone()))?;
        }
        for (x, y, .., value) in cells() {
            let corner = (MARGIN.0 + CELL.0 * x as i32, MARGIN.1 + CELL.1 * y as i32);
            let opposite = (corner.0 + CELL.0 - 2, corner.1 + CELL.1 - 2);
            area.draw(&Rectangle::new([corner, opposite], HEAT.mix(strength(value)).filled()))?;
        }
        let scale = MARGIN.1 + CELL.1 * map.rows.len() as i32 + 12;
        let steps = 20;
        let step = (CELL.0 * map.columns.len() as i32 / 2 / steps).max(2);
        for index in 0..steps {
            let share = f64::from(index) / f64::from(steps - 1);
            let corner = (MARGIN.0 + step * index, scale);
            let shade = HEAT.mix(WEAKEST + (1.0 - WEAKEST) * share);
            area.draw(&Rectangle::new([corner, (corner.0 + step, scale + 10)], shade.filled()))?;
        }
        let below = |h| Pos::new(h, VPos::Top);
        area.draw(&Text::new(
            format!("{lowest:.3}"),
            (MARGIN.0, scale + 15),
            font.pos(below(HPos::Left)),
        ))?;
        let end = MARGIN.0 + step * steps;
        area.draw(&Text::new(
            format!("{:.3}", highest.4),
            (end, scale + 15),
            font.pos(below(HPos::Right)),
        ))?;
        area.present()
    };
    paint().map_err(|error| EvaluateError::Plot {
        plot: map.title.clone(),
        message: error.to_string(),
    })?;
    let words = format!(
        "From {lowest:.3} to {:.3}, the highest in layer {}, {}.",
        highest.4, highest.2, highest.3
    );
    Ok(Some((described(svg, &map.title), words)))
}
