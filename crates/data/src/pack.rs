//! Packs documents into rows of a fixed length by best-fit decreasing; no token is lost.
//!
//! Documents stay separate inside a row: `seq_lengths` has their lengths, and the first label of each is −100, because no
//! token comes before it that could predict it.

use std::collections::BTreeMap;

use crate::dataset::PackedRow;

/// One tokenized document, not longer than a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Document {
    pub(crate) ids: Vec<u32>,
    pub(crate) loss_mask: Vec<bool>,
}

/// The label of a token that is not a target.
pub(crate) const IGNORED: i64 = -100;

impl Document {
    /// Tokens that count in the loss: targets after the first token.
    pub(crate) fn target_tokens(&self) -> u64 {
        self.loss_mask.iter().skip(1).filter(|&&is_target| is_target).count() as u64
    }
}

/// Assigns documents to rows of at most `length` tokens: the longest first, each into the fullest row that still has
/// space for it. Equal documents keep their order, so the result is the same everywhere.
pub(crate) fn pack(documents: &[Document], length: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..documents.len()).collect();
    longest_first.sort_by_key(|&index| std::cmp::Reverse(documents[index].ids.len()));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Free tokens → rows with that many, oldest first.
    let mut free: BTreeMap<usize, std::collections::VecDeque<usize>> = BTreeMap::new();
    for index in longest_first {
        let needed = documents[index].ids.len();
        let fit = free
            .range_mut(needed..)
            .next()
            .map(|(&left, rows)| (left, rows.pop_front(), rows.is_empty()));
        let (left, row) = match fit {
            Some((left, Some(row), emptied)) => {
                if emptied {
                    free.remove(&left);
                }
                (left, row)
            }
            _ => {
                rows.push(Vec::new());
                (length.max(needed), rows.len() - 1)
            }
        };
        rows[row].push(index);
        free.entry(left - needed).or_default().push_back(row);
    }
    rows
}

/// Concatenates documents to one row.
pub(crate) fn join<'d>(documents: impl IntoIterator<Item = &'d Document>) -> PackedRow {
    let mut row = PackedRow::default();
    for document in documents {
        let labels = document.ids.iter().zip(&document.loss_mask).enumerate();
        row.labels.extend(labels.map(
            |(at, (&id, &is_target))| {
                if is_target && at > 0 { i64::from(id) } else { IGNORED }
            },
        ));
        row.input_ids.extend_from_slice(&document.ids);
        row.seq_lengths
            .push(u32::try_from(document.ids.len()).unwrap_or(u32::MAX));
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(documents: &[Document], length: usize) -> Vec<PackedRow> {
        let rows = pack(documents, length).into_iter();
        rows.map(|row| join(row.into_iter().map(|index| &documents[index])))
            .collect()
    }

    fn document(id: u32, length: usize) -> Document {
        Document {
            ids: vec![id; length],
            loss_mask: vec![true; length],
        }
    }

    #[test]
    fn a_document_goes_where_it_fits_best() {
        let documents = [document(0, 4), document(1, 6), document(2, 7), document(3, 3)];
        let rows = packed(&documents, 10);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].seq_lengths, [7, 3]);
        assert_eq!(rows[1].seq_lengths, [6, 4]);
        assert_eq!(rows[1].labels, [-100, 1, 1, 1, 1, 1, -100, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn no_token_is_lost_and_no_row_too_long(lengths in proptest::collection::vec(1usize..=32, 0..80)) {
            let documents: Vec<Document> =
                lengths.iter().enumerate().map(|(index, &length)| document(index as u32, length)).collect();
            let rows = packed(&documents, 32);
            let mut found = vec![0; documents.len()];
            for row in &rows {
                prop_assert!(row.input_ids.len() <= 32);
                prop_assert_eq!(row.labels.len(), row.input_ids.len());
                let mut start = 0;
                for &length in &row.seq_lengths {
                    let ids = &row.input_ids[start..start + length as usize];
                    prop_assert!(ids.iter().all(|id| *id == ids[0]));
                    prop_assert_eq!(row.labels[start], IGNORED);
                    found[ids[0] as usize] += ids.len();
                    start += length as usize;
                }
                prop_assert_eq!(start, row.input_ids.len());
            }
            prop_assert_eq!(found, lengths);
            // No two rows could have been one.
            let shortest: Vec<usize> = rows.iter().map(|row| row.input_ids.len()).collect();
            let half_empty = shortest.iter().filter(|&&length| length <= 16).count();
            prop_assert!(half_empty <= 1);
        }
    }
}
