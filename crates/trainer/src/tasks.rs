//! Synthetic tasks that show what an architecture can do: recall what was said once, keep track of a state, go on being
//! right in documents longer than any it was trained on. They are made from a seed and need no files.
//!
//! What this is not: a benchmark of trained models, which is `evaluate`'s.

use std::{fmt, str::FromStr};

use synapse_kernels::random::Stream;
use synapse_nn::MicroBatch;

/// Different keys and different values that a fact is made of.
const NAMES: u32 = 64;
/// Keys the stream that lengths are drawn from.
const LENGTHS: u64 = 0x006c_656e;
/// What stands where nothing is said: token 0.
const FILLER: u32 = 0;

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Multi-query associative recall (Arora et al. 2023): so many pairs of a key and a value, each said once at the
    /// beginning; later, between fillers, each key is asked for once.
    Recall {
        /// Facts in a document.
        pairs: usize,
    },
    /// The sum of all digits so far, modulo this: 2 is parity.
    Sum {
        /// The modulus, and so the digits.
        modulus: u32,
    },
}

impl Task {
    /// The tasks that a user can name.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("recall", Self::Recall { pairs: 16 }),
        ("parity", Self::Sum { modulus: 2 }),
        ("mod5", Self::Sum { modulus: 5 }),
    ];

    /// Tokens of the task's vocabulary.
    pub fn vocabulary(self) -> usize {
        match self {
            Self::Recall { .. } => 1 + 2 * NAMES as usize,
            Self::Sum { modulus } => modulus as usize,
        }
    }

    /// Accuracy of one who guesses.
    pub fn chance(self) -> f64 {
        match self {
            Self::Recall { .. } => 1.0 / f64::from(NAMES),
            Self::Sum { modulus } => 1.0 / f64::from(modulus),
        }
    }

    /// The shortest document that the task fits into.
    pub fn shortest(self) -> usize {
        match self {
            Self::Recall { pairs } => 3 * pairs,
            Self::Sum { .. } => 1,
        }
    }

    /// Document `index` of a stream, of `length` tokens: the tokens, and what each position is to say, where it is to say
    /// anything.
    ///
    /// # Panics
    /// A length below [`Task::shortest`].
    pub fn document(self, seed: u64, index: u64, length: usize) -> (Vec<u32>, Vec<Option<u32>>) {
        assert!(length >= self.shortest(), "the task does not fit into {length} tokens");
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

    /// Documents `first..first + count`, end to end, of lengths up to `longest`: the short ones, which are easy, among
    /// them, as many between 64 and 128 tokens as between 128 and 256.
    pub fn batch(self, seed: u64, first: u64, count: usize, longest: usize) -> MicroBatch {
        let mut batch = MicroBatch::default();
        let shortest = self.shortest().clamp(2, longest);
        let lengths = Stream::new(&[seed, first, LENGTHS]);
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
    // the first `pairs` of a shuffled list, drawn one by one
    let mut keys: Vec<u32> = (1..=NAMES).collect();
    let mut places: Vec<usize> = (2 * pairs..length).collect();
    for pair in 0..pairs {
        let other = pair + draw(keys.len() - pair);
        keys.swap(pair, other);
        let place = pair + draw(places.len() - pair);
        places.swap(pair, place);
        let value = 1 + NAMES + draw(NAMES as usize) as u32;
        (tokens[2 * pair], tokens[2 * pair + 1]) = (keys[pair], value);
        tokens[places[pair]] = keys[pair];
        targets[places[pair]] = Some(value);
    }
    (tokens, targets)
}

impl fmt::Display for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, task)| task == self) {
            Some((name, _)) => out.write_str(name),
            None => write!(out, "{self:?}"),
        }
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, task)| *task)
            .ok_or_else(|| {
                format!(
                    "there is no task `{name}`; there are {}",
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
    fn every_key_is_said_once_and_asked_for_once() {
        let task = Task::Recall { pairs: 16 };
        for index in 0..20 {
            let (tokens, targets) = task.document(1, index, 100);
            let said: Vec<(u32, u32)> = tokens[..32].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            let asked: Vec<(u32, u32)> = tokens
                .iter()
                .zip(&targets)
                .filter_map(|(&token, target)| target.map(|target| (token, target)))
                .collect();
            assert_eq!(asked.len(), 16);
            assert!(asked.iter().all(|pair| said.contains(pair)));
            let mut keys: Vec<u32> = said.iter().map(|(key, _)| *key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), 16);
            assert!(tokens.iter().all(|&token| (token as usize) < task.vocabulary()));
        }
    }

    #[test]
    fn a_batch_has_short_documents_and_long_ones() {
        let task = Task::Recall { pairs: 16 };
        let batch = task.batch(1, 64, 200, 256);
        assert_eq!(batch, task.batch(1, 64, 200, 256));
        assert_eq!(batch.lengths.iter().sum::<usize>(), batch.tokens.len());
        assert_eq!(batch.trained(), 200 * 16);
        assert!(batch.lengths.iter().all(|length| (48..=256).contains(length)));
        let short = batch.lengths.iter().filter(|&&length| length < 111).count();
        assert!(
            (70..130).contains(&short),
            "half of them below the geometric mean: {short}"
        );
    }

    #[test]
    fn sums_are_sums_and_the_same_seed_gives_the_same_documents() {
        let task = "mod5".parse::<Task>().unwrap();
        let (tokens, targets) = task.document(3, 7, 50);
        for t in 0..50 {
            assert_eq!(targets[t].unwrap(), tokens[..=t].iter().sum::<u32>() % 5);
        }
        assert_eq!(task.document(3, 7, 50), (tokens, targets));
        assert!("sums".parse::<Task>().unwrap_err().contains("recall, parity, mod5"));
    }
}
