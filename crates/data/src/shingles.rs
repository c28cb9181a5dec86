//! Hashed word shingles of a text, by which near duplicates and overlaps with benchmarks are found.
//!
//! A word is a run of letters and digits, in lower case.

/// A text's words in their own spelling.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// The hash of each word of a text.
pub(crate) fn word_hashes(text: &str) -> Vec<u64> {
    words(text)
        .map(|word| {
            word.chars()
                .flat_map(char::to_lowercase)
                .fold(START, |hash, letter| step(hash, u64::from(letter)))
        })
        .collect()
}

/// The hash of each `length` successive words; a shorter text is one shingle.
pub(crate) fn shingles(word_hashes: &[u64], length: usize) -> impl Iterator<Item = u64> + '_ {
    let length = length.min(word_hashes.len()).max(1);
    word_hashes
        .windows(length)
        .map(|shingle| shingle.iter().fold(START, |hash, word| step(hash, *word)))
}

/// FNV-1a's offset basis.
const START: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of a 64-bit hash that is the same on every machine and in every version.
fn step(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_case_do_not_count() {
        assert_eq!(word_hashes("It's 3 o'clock,\nSam!"), word_hashes("it s 3 O CLOCK sam"));
        assert_ne!(word_hashes("a b"), word_hashes("ab"));
        assert_eq!(shingles(&word_hashes("a b c d"), 3).count(), 2);
        assert_eq!(shingles(&word_hashes("a b"), 13).count(), 1);
        assert_eq!(shingles(&[], 13).count(), 0);
    }
}
