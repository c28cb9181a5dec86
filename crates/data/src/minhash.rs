//! Near duplicates: rows that share most of their three-word shingles, found by MinHash with banded LSH buckets.
//!
//! `minhash-rs` computes the signatures; this module decides which rows are compared. The first row in the seeded order
//! stays.

use std::collections::HashMap;

use minhash_rs::prelude::*;

use crate::shingles::{shingles, word_hashes};

/// Minima of one signature; the similarity is estimated to about ±0.04.
const MINIMA: usize = 128;
/// Words of one shingle.
const SHINGLE_WORDS: usize = 3;

/// A text's MinHash signature.
pub(crate) type Signature = MinHash<u32, MINIMA>;

/// The signature of a text; `None` for one without words.
pub(crate) fn signature(text: &str) -> Option<Signature> {
    let word_hashes = word_hashes(text);
    let mut signature = Signature::new();
    shingles(&word_hashes, SHINGLE_WORDS).for_each(|shingle| {
        signature.insert(shingle);
    });
    (!word_hashes.is_empty()).then_some(signature)
}

/// Rows seen so far.
#[derive(Debug)]
pub(crate) struct NearDuplicates {
    similarity: f64,
    /// Minima that must agree for two rows to be compared at all.
    band: usize,
    seen: Vec<Signature>,
    buckets: HashMap<(usize, u64), Vec<usize>>,
}

impl NearDuplicates {
    /// Finds rows of at least this Jaccard similarity.
    pub(crate) fn new(similarity: f64) -> Self {
        // The widest bands in which nearly every such pair shares a bucket.
        let meets = |band: usize| {
            let (agree, bands) = (similarity.powi(band as i32), (MINIMA / band) as i32);
            1.0 - (1.0 - agree).powi(bands)
        };
        let band = [16, 8, 4, 2].into_iter().find(|&band| meets(band) > 0.99).unwrap_or(1);
        Self {
            similarity,
            band,
            seen: Vec::new(),
            buckets: HashMap::new(),
        }
    }

    /// Whether a similar row was seen before; if not, this one is recorded.
    pub(crate) fn is_duplicate(&mut self, signature: &Signature) -> bool {
        let keys: Vec<(usize, u64)> = signature
            .as_words()
            .chunks(self.band)
            .enumerate()
            .map(|(index, band)| (index, band_hash(band)))
            .collect();
        let mut compared: Vec<usize> = keys
            .iter()
            .filter_map(|key| self.buckets.get(key))
            .flatten()
            .copied()
            .collect();
        compared.sort_unstable();
        compared.dedup();
        let similar = |&index: &usize| self.seen[index].estimate_jaccard_index(signature) >= self.similarity;
        if compared.iter().any(similar) {
            return true;
        }
        for key in keys {
            self.buckets.entry(key).or_default().push(self.seen.len());
        }
        self.seen.push(*signature);
        false
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    fn text(word_hashes: std::ops::Range<usize>) -> String {
        word_hashes
            .map(|word| format!("word{word}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn rows_that_differ_in_a_word_are_duplicates_and_others_are_not() {
        let mut seen = NearDuplicates::new(0.8);
        let mut duplicate = |text: &str| seen.is_duplicate(&signature(text).unwrap());
        let base = text(0..100);
        assert!(!duplicate(&base));
        assert!(duplicate(&base.to_uppercase().replace(' ', ", ")));
        assert!(
            duplicate(&base.replace("word50 ", "other ")),
            "97 of 103 runs are shared"
        );
        assert!(!duplicate(&text(50..150)), "a third of the runs is shared");
        assert!(!duplicate("two words"));
        assert!(duplicate("Two words."));
        assert!(signature(" ?! ").is_none());
    }

    #[test]
    fn nearly_every_pair_above_the_threshold_meets() {
        for similarity in [0.5, 0.8, 0.95, 1.0] {
            let mut seen = NearDuplicates::new(similarity);
            let mut found = 0;
            for pair in 0..50 {
                // Half as far from equal as the threshold allows.
                let (from, length) = (pair * 1000, 200);
                let changed = (length as f64 * (1.0 - similarity) / 4.0) as usize;
                assert!(!seen.is_duplicate(&signature(&text(from..from + length)).unwrap()));
                found += usize::from(seen.is_duplicate(&signature(&text(from + changed..from + length)).unwrap()));
            }
            assert!(found >= 49, "{similarity}: {found}");
        }
    }
}
