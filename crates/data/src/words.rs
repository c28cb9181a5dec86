//! Texts as runs of plain words, hashed: what near duplicates and overlaps with benchmarks are looked for in.
//!
//! Words are what stands between anything that is neither letter nor digit, in lower case.

/// A text's words as they are spelled.
pub(crate) fn spelled(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// Hashes of a text's words, one after the other.
pub(crate) fn words(text: &str) -> Vec<u64> {
    spelled(text)
        .map(|word| {
            word.chars()
                .flat_map(char::to_lowercase)
                .fold(START, |hash, letter| step(hash, u64::from(letter)))
        })
        .collect()
}

/// One hash for every `length` words in a row; a shorter text is one run.
pub(crate) fn runs(words: &[u64], length: usize) -> impl Iterator<Item = u64> + '_ {
    let length = length.min(words.len()).max(1);
    words
        .windows(length)
        .map(|run| run.iter().fold(START, |hash, word| step(hash, *word)))
}

/// FNV-1a's beginning.
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
        assert_eq!(words("It's 3 o'clock,\nSam!"), words("it s 3 O CLOCK sam"));
        assert_ne!(words("a b"), words("ab"));
        assert_eq!(runs(&words("a b c d"), 3).count(), 2);
        assert_eq!(runs(&words("a b"), 13).count(), 1);
        assert_eq!(runs(&[], 13).count(), 0);
    }
}
