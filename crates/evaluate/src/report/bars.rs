//! A small histogram inside a table's cell, in the color of the text around it.

use std::fmt::Write as _;

/// Width of one bar with the gap behind it, and height of the whole, in SVG units.
const BAR: usize = 7;
const HEIGHT: u64 = 32;

/// Documents by length; the last bar are those longer than a row. Nothing without documents.
pub(super) fn histogram(counts: &[u64], longest_row: u64) -> String {
    let Some(most) = counts.iter().copied().max().filter(|most| *most > 0) else {
        return String::new();
    };
    let longer = counts.last().copied().unwrap_or(0);
    let width = counts.len() * BAR;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"Documents by \
         length up to {longest_row} tokens; {longer} are longer\" fill=\"currentColor\">"
    );
    for (index, count) in counts.iter().enumerate() {
        // A bar that stands for something can be seen.
        let height = (count * HEIGHT).div_ceil(most);
        let faint = if index + 1 == counts.len() {
            ""
        } else {
            " opacity=\"0.6\""
        };
        // Writing to a String cannot fail.
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"{faint}/>",
            index * BAR,
            HEIGHT - height,
            BAR - 1
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bar_a_count_and_nothing_for_nothing() {
        let svg = histogram(&[4, 0, 1], 64);
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("y=\"24\" width=\"6\" height=\"8\"/>"), "{svg}");
        assert!(svg.contains("up to 64 tokens; 1 are longer"));
        assert_eq!(histogram(&[0, 0], 64), "");
    }
}
