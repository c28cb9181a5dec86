//! The lengths of a source's documents as a small histogram inside a table cell.

use serde::Serialize;

/// Width of one bar with its gap, and height of the histogram, in SVG units.
const BAR: usize = 7;
const HEIGHT: u64 = 32;

#[derive(Serialize)]
pub(super) struct Histogram {
    width: usize,
    height: u64,
    label: String,
    bars: Vec<Bar>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Bar {
    x: usize,
    y: u64,
    width: usize,
    height: u64,
}

/// Documents by length; the last bar counts those that are longer than a row. `None` without documents.
pub(super) fn histogram(counts: &[u64], longest_row: u64) -> Option<Histogram> {
    let most = counts.iter().copied().max().filter(|most| *most > 0)?;
    let longer = counts.last().copied().unwrap_or(0);
    let bars = counts.iter().enumerate().map(|(index, count)| {
        // rounded up, so that a count above zero stays visible
        let height = (count * HEIGHT).div_ceil(most);
        Bar {
            x: index * BAR,
            y: HEIGHT - height,
            width: BAR - 1,
            height,
        }
    });
    Some(Histogram {
        width: counts.len() * BAR,
        height: HEIGHT,
        label: format!("Documents by length up to {longest_row} tokens; {longer} are longer"),
        bars: bars.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn one_bar_per_count_and_none_without_documents() {
        let found = histogram(&[4, 0, 1], 64).unwrap();
        assert_eq!(found.bars.len(), 3);
        assert_eq!((found.bars[2].y, found.bars[2].height), (24, 8));
        assert!(found.label.contains("up to 64 tokens; 1 are longer"));
        assert!(histogram(&[0, 0], 64).is_none());
    }
}
