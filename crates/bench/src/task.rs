//! Synthetic tasks that probe an architecture: associative recall, state tracking, and generalization to documents longer
//! than those in training. Documents are generated from a seed; no files are needed.
//!
//! What this is not: a benchmark of trained models, which is `synapse-evaluate`.

use std::{fmt, str::FromStr};

use synapse_kernels::random::Stream;
use synapse_nn::MicroBatch;

/// Number of keys and number of values of the recall task.
const SYMBOLS: u32 = 64;
/// Key of the random stream of document lengths.
const LENGTH_STREAM: u64 = 0x006c_656e;
/// The padding token between facts and questions.
const FILLER: u32 = 0;

/// A synthetic task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntheticTask {
    /// Multi-query associative recall (Arora et al. 2023): pairs of a key and a value at the beginning; later each key
    /// appears once more between fillers, and the model has to predict its value.
    Recall {
        /// Pairs per document.
        pairs: usize,
    },
    /// The sum of all digits so far, modulo a number: 2 is parity.
    Sum {
        /// The modulus; digits are below it.
        modulus: u32,
    },
}

impl SyntheticTask {
    /// The tasks that `bench tasks` offers, by name.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("recall", Self::Recall { pairs: 16 }),
        ("parity", Self::Sum { modulus: 2 }),
        ("mod5", Self::Sum { modulus: 5 }),
    ];

    /// Size of the task's vocabulary.
    pub fn vocabulary(self) -> usize {
        match self {
            Self::Recall { .. } => 1 + 2 * SYMBOLS as usize,
            Self::Sum { modulus } => modulus as usize,
        }
    }

    /// Accuracy of guessing at random.
    pub fn chance(self) -> f64 {
        match self {
            Self::Recall { .. } => 1.0 / f64::from(SYMBOLS),
            Self::Sum { modulus } => 1.0 / f64::from(modulus),
        }
    }

    /// Length of the shortest possible document.
    pub fn shortest(self) -> usize {
        match self {
            Self::Recall { pairs } => 3 * pairs,
            Self::Sum { .. } => 1,
        }
    }

    /// Document `index` of a stream: `length` tokens, and the target of each position, if it has one.
    ///
    /// # Panics
    /// A length below [`SyntheticTask::shortest`].
    pub fn document(self, seed: u64, index: u64, length: usize) -> (Vec<u32>, Vec<Option<u32>>) {
        assert!(length >= self.shortest(), "{length} tokens are too few for the task");
        let stream = Stream::new(&[seed, index]);
        match self {
            Self::Recall { pairs } => recall(stream, pairs, length),
            Self::Sum { modulus } => {
                let mut sum = 0;
                (0..length as u64)
                    .map(|i| {
                        let digit = stream.bits(i) % modulus;
                        sum = (sum + digit) % modulus;
                        (digit, Some(sum))
                    })
                    .unzip()
            }
        }
    }

    /// Documents `first..first + count`, end to end, of lengths up to `longest`. The lengths are log-uniform, so the batch
    /// also contains short documents, which are easier.
    pub fn batch(self, seed: u64, first: u64, count: usize, longest: usize) -> MicroBatch {
        let mut batch = MicroBatch::default();
        let shortest = self.shortest().clamp(2, longest);
        let lengths = Stream::new(&[seed, first, LENGTH_STREAM]);
        for index in first..first + count as u64 {
            let share = f64::from(lengths.uniform(index - first));
            let length = (shortest as f64 * (longest as f64 / shortest as f64).powf(share)).round() as usize;
            let (tokens, targets) = self.document(seed, index, length);
            batch.tokens.extend(tokens);
            batch.targets.extend(targets);
            batch.lengths.push(length);
        }
        batch
    }
}

fn recall(stream: Stream, pairs: usize, length: usize) -> (Vec<u32>, Vec<Option<u32>>) {
    let mut drawn = 0;
    let mut draw = |bound: usize| {
        drawn += 1;
        stream.bits(drawn) as usize % bound
    };
    let (mut tokens, mut targets) = (vec![FILLER; length], vec![None; length]);
    // partial Fisher-Yates shuffles
    let mut keys: Vec<u32> = (1..=SYMBOLS).collect();
    let mut positions: Vec<usize> = (2 * pairs..length).collect();
    for pair in 0..pairs {
        let other = pair + draw(keys.len() - pair);
        keys.swap(pair, other);
        let position = pair + draw(positions.len() - pair);
        positions.swap(pair, position);
        let value = 1 + SYMBOLS + draw(SYMBOLS as usize) as u32;
        (tokens[2 * pair], tokens[2 * pair + 1]) = (keys[pair], value);
        tokens[positions[pair]] = keys[pair];
        targets[positions[pair]] = Some(value);
    }
    (tokens, targets)
}

impl fmt::Display for SyntheticTask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, task)| task == self) {
            Some((name, _)) => out.write_str(name),
            None => write!(out, "{self:?}"),
        }
    }
}

impl FromStr for SyntheticTask {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, task)| *task)
            .ok_or_else(|| {
                format!(
                    "unknown task `{name}`; the tasks are {}",
                    Self::NAMED.map(|(name, _)| name).join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn every_key_occurs_once_as_fact_and_once_as_question() {
        let task = SyntheticTask::Recall { pairs: 16 };
        for index in 0..20 {
            let (tokens, targets) = task.document(1, index, 100);
            let facts: Vec<(u32, u32)> = tokens[..32].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            let questions: Vec<(u32, u32)> = tokens
                .iter()
                .zip(&targets)
                .filter_map(|(&token, target)| target.map(|target| (token, target)))
                .collect();
            assert_eq!(questions.len(), 16);
            assert!(questions.iter().all(|pair| facts.contains(pair)));
            let mut keys: Vec<u32> = facts.iter().map(|(key, _)| *key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), 16);
            assert!(tokens.iter().all(|&token| (token as usize) < task.vocabulary()));
        }
    }

    #[test]
    fn a_batch_has_short_documents_and_long_ones() {
        let task = SyntheticTask::Recall { pairs: 16 };
        let batch = task.batch(1, 64, 200, 256);
        assert_eq!(batch, task.batch(1, 64, 200, 256));
        assert_eq!(batch.lengths.iter().sum::<usize>(), batch.tokens.len());
        assert_eq!(batch.num_targets(), 200 * 16);
        assert!(batch.lengths.iter().all(|length| (48..=256).contains(length)));
        let short = batch.lengths.iter().filter(|&&length| length < 111).count();
        assert!(
            (70..130).contains(&short),
            "half of them below the geometric mean: {short}"
        );
    }

    #[test]
    fn sums_are_sums_and_the_same_seed_gives_the_same_documents() {
        let task = "mod5".parse::<SyntheticTask>().unwrap();
        let (tokens, targets) = task.document(3, 7, 50);
        for t in 0..50 {
            assert_eq!(targets[t].unwrap(), tokens[..=t].iter().sum::<u32>() % 5);
        }
        assert_eq!(task.document(3, 7, 50), (tokens, targets));
        assert!(
            "sums"
                .parse::<SyntheticTask>()
                .unwrap_err()
                .contains("recall, parity, mod5")
        );
    }
}
