//! The merge report as a picture: one square a tensor, layers from left to right, modules from top to bottom, one panel
//! a measure. Plain SVG with its numbers in titles, so that a reader without colors, or without eyes, has them too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::MergeReport;

/// File name of the picture in the output folder.
pub const HEAT_MAP_FILE: &str = "merge_report.svg";

const CELL: usize = 14;
const LEFT: usize = 150;
const TOP: usize = 34;
const GAP: usize = 26;

/// What a panel shows: its title, its value, and the value that is fully colored.
type Measure = (&'static str, fn(&crate::TensorReport) -> f64, f64);

const MEASURES: [Measure; 4] = [
    ("entries in disagreement", |tensor| tensor.disagreement, 0.5),
    ("energy lost to trimming", |tensor| tensor.energy_lost.trim, 1.0),
    ("energy lost to the vote", |tensor| tensor.energy_lost.vote, 0.5),
    (
        "rounding error of the merged change",
        |tensor| tensor.energy_lost.rounding,
        1.0,
    ),
];

/// Draws a report; `None` where no tensor belongs to a layer.
pub(crate) fn draw(report: &MergeReport) -> Option<String> {
    let mut rows: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(usize, usize), &crate::TensorReport> = BTreeMap::new();
    let mut layers = 0;
    for tensor in &report.tensors {
        let Some((layer, module)) = layer_and_module(&tensor.name) else {
            continue;
        };
        let row = rows.iter().position(|row| *row == module).unwrap_or_else(|| {
            rows.push(module);
            rows.len() - 1
        });
        layers = layers.max(layer + 1);
        cells.insert((row, layer), tensor);
    }
    if cells.is_empty() {
        return None;
    }
    let panel = TOP + rows.len() * CELL + GAP;
    let (width, height) = (LEFT + layers * CELL + 20, MEASURES.len() * panel + 10);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" role=\"img\">\n<title>What the merge lost, by layer and module</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, (title, value, most)) in MEASURES.iter().enumerate() {
        let top = index * panel + TOP;
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title} (white 0 %, full {:.0} %)</text>",
            top - 10,
            most * 100.0
        );
        for (row, module) in rows.iter().enumerate() {
            let baseline = top + row * CELL + CELL - 3;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{module}</text>",
                LEFT - 6
            );
        }
        for (&(row, layer), tensor) in &cells {
            let value = value(tensor);
            // From white to a dark blue.
            let share = (value / most).clamp(0.0, 1.0);
            let shade = |dark: f64| (255.0 - share * (255.0 - dark)).round() as u8;
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#{:02x}{:02x}{:02x}\" stroke=\"#ccc\" \
                 stroke-width=\"0.5\"><title>{}: {:.1} %</title></rect>",
                LEFT + layer * CELL,
                top + row * CELL,
                CELL - 1,
                CELL - 1,
                shade(20.0),
                shade(60.0),
                shade(130.0),
                tensor.name,
                value * 100.0
            );
        }
        let below = top + rows.len() * CELL + 12;
        for layer in (0..layers).step_by((layers / 8).max(1)) {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{below}\" fill=\"#555\">{layer}</text>",
                LEFT + layer * CELL
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Layer and module of a tensor: 3 and `self_attn.q_proj` for `model.layers.3.self_attn.q_proj.weight`.
fn layer_and_module(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let module = rest.strip_suffix(".weight").unwrap_or(rest);
    Some((layer.parse().ok()?, module))
}
