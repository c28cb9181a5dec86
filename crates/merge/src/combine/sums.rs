//! The sums that describe a merge, taken block by block. They do not influence the merged weights.

use pulp::Simd;
use serde::{Deserialize, Serialize};

/// Independent partial sums of a reduction; fixed, so that sums do not depend on the vector width.
const LANES: usize = 16;
/// Products summed in one go: one product's chain of additions waits for itself, four fill the time.
const GROUP: usize = 4;

/// Sums over a chunk of a tensor: over all inputs, per input and per pair of inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ChunkStatistics {
    pub(crate) accumulators: Accumulators,
    pub(crate) inputs: Vec<InputSums>,
    /// Σ δᵢδⱼ for i < j.
    pub(crate) products: Vec<f64>,
}

/// Raw sums from which a report's shares are made; they add up over chunks and tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accumulators {
    pub(crate) entries: u64,
    pub(crate) voters: [u64; 3],
    pub(crate) disagreements: u64,
    /// Σ (wδ)² over inputs before trimming.
    pub(crate) weighted: f64,
    /// Σ d² over inputs after trimming.
    pub(crate) trimmed: f64,
    /// Σ d² over the inputs that agree with the elected sign.
    pub(crate) agreeing: f64,
    /// Σ u², the merged change.
    pub(crate) update: f64,
    /// Σ (stored − exact)².
    pub(crate) rounding: f64,
    /// Σ θ².
    pub(crate) base: f64,
}

impl Accumulators {
    /// Adds another chunk's sums.
    pub(crate) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        for (mine, theirs) in self.voters.iter_mut().zip(other.voters) {
            *mine += theirs;
        }
        self.disagreements += other.disagreements;
        self.weighted += other.weighted;
        self.trimmed += other.trimmed;
        self.agreeing += other.agreeing;
        self.update += other.update;
        self.rounding += other.rounding;
        self.base += other.base;
    }
}

/// One input's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct InputSums {
    /// Non-zero entries that were kept.
    pub(crate) kept: u64,
    /// Σ δ².
    pub(crate) energy: f64,
    /// Σ of the kept δ².
    pub(crate) kept_energy: f64,
}

impl ChunkStatistics {
    /// Empty sums for `inputs` inputs.
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            accumulators: Accumulators::default(),
            inputs: vec![InputSums::default(); inputs],
            products: vec![0.0; inputs * inputs.saturating_sub(1) / 2],
        }
    }

    /// Adds another chunk's sums.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accumulators.add(&other.accumulators);
        for (mine, theirs) in self.inputs.iter_mut().zip(&other.inputs) {
            mine.kept += theirs.kept;
            mine.energy += theirs.energy;
            mine.kept_energy += theirs.kept_energy;
        }
        for (mine, theirs) in self.products.iter_mut().zip(&other.products) {
            *mine += theirs;
        }
    }
}

/// Σ x·y of pairs of blocks, all of one length: 16 fused f32 chains a pair, added up in f64. `take` gets the sums in the
/// pairs' order.
#[inline(always)]
pub(super) fn products<'x, S: Simd>(
    simd: S,
    mut pairs: impl Iterator<Item = (&'x [f32], &'x [f32])>,
    mut take: impl FnMut(f64),
) {
    while let Some(first) = pairs.next() {
        let mut group = [first; GROUP];
        let mut count = 1;
        while count < GROUP
            && let Some(pair) = pairs.next()
        {
            group[count] = pair;
            count += 1;
        }
        for &sum in &group_products(simd, group)[..count] {
            take(sum);
        }
    }
}

/// The whole lanes of a pair.
type Lanes<'x> = (&'x [[f32; LANES]], &'x [[f32; LANES]]);

#[inline(always)]
fn group_products<S: Simd>(simd: S, pairs: [(&[f32], &[f32]); GROUP]) -> [f64; GROUP] {
    let blocks = pairs[0].0.len() / LANES;
    // Each row uses the number of vectors that make up 16 lanes. Explicit vectors without closures: the compiler turned the
    // same loop over lanes into scalars, and closures into calls.
    let mut sums = [[simd.splat_f32s(0.0); LANES]; GROUP];
    let mut whole: [Lanes<'_>; GROUP] = [(&[], &[]); GROUP];
    for (whole, (x, y)) in whole.iter_mut().zip(&pairs) {
        *whole = (&x.as_chunks().0[..blocks], &y.as_chunks().0[..blocks]);
    }
    for block in 0..blocks {
        for (sums, (x, y)) in sums.iter_mut().zip(&whole) {
            let vectors = S::as_simd_f32s(&x[block]).0.iter().zip(S::as_simd_f32s(&y[block]).0);
            for (sum, (&x, &y)) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(x, y, *sum);
            }
        }
    }
    let mut totals = [0.0; GROUP];
    for ((total, sums), (x, y)) in totals.iter_mut().zip(&sums).zip(pairs) {
        let mut lanes = [0.0_f32; LANES];
        for (lanes, &sum) in S::as_mut_simd_f32s(&mut lanes).0.iter_mut().zip(sums) {
            *lanes = sum;
        }
        let rest = x[blocks * LANES..].iter().zip(&y[blocks * LANES..]);
        for (lane, (&x, &y)) in lanes.iter_mut().zip(rest) {
            *lane = x.mul_add(y, *lane);
        }
        *total = lanes.iter().map(|&lane| f64::from(lane)).sum();
    }
    totals
}
