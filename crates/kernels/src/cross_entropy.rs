//! Softmax cross-entropy over rows of logits, fused with its gradient.

use crate::{
    math::{exp, sum_by},
    parallel::{SharedMut, parallel_for},
};

/// Per row of `logits [rows, vocab]`: writes `−log softmax(row)[target]` to `losses` and turns the row
/// into the gradient `softmax(row) − onehot(target)`.
///
/// # Panics
/// If a target is outside the vocabulary.
pub fn loss_and_gradient(logits: &mut [f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    each_row(logits, vocab, targets, losses, |row, target| {
        let logit = row[target];
        let log_sum = softmax(row);
        row[target] -= 1.0;
        log_sum - logit
    });
}

/// Same as [`loss_and_gradient`] without the gradient; the logits are not changed.
///
/// # Panics
/// If a target is outside the vocabulary.
pub fn loss(logits: &mut [f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    each_row(logits, vocab, targets, losses, |row, target| {
        log_sum_exp(row) - row[target]
    });
}

fn each_row(
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    losses: &mut [f32],
    task: impl Fn(&mut [f32], usize) -> f32 + Sync,
) {
    assert_eq!(logits.len(), vocab * targets.len(), "logits do not match their targets");
    let (rows, out) = (SharedMut::new(logits), SharedMut::new(&mut losses[..targets.len()]));
    parallel_for(targets.len(), |index| {
        // SAFETY: each task owns one row and one loss.
        let (row, loss) = unsafe { (rows.slice(index * vocab, vocab), out.slice(index, 1)) };
        loss[0] = task(row, targets[index] as usize);
    });
}

/// `log Σ e^x`, stable.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = largest(row);
    largest + sum_exp(row, largest).ln()
}

/// Turns a row into its softmax and returns its log-sum-exp.
pub fn softmax(row: &mut [f32]) -> f32 {
    let largest = largest(row);
    let sum = exponentiate(row, largest);
    scale(row, 1.0 / sum);
    largest + sum.ln()
}

crate::isa::multiversion! {
    fn largest(row: &[f32]) -> f32 = largest_body
}

#[inline(always)]
fn largest_body(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    lanes.into_iter().fold(rest, f32::max)
}

crate::isa::multiversion! {
    fn sum_exp(row: &[f32], shift: f32) -> f32 = sum_exp_body
}

#[inline(always)]
fn sum_exp_body(row: &[f32], shift: f32) -> f32 {
    sum_by(row.len(), |i| exp(row[i] - shift))
}

crate::isa::multiversion! {
    fn exponentiate(row: &mut [f32], shift: f32) -> f32 = exponentiate_body
}

#[inline(always)]
fn exponentiate_body(row: &mut [f32], shift: f32) -> f32 {
    for x in row.iter_mut() {
        *x = exp(*x - shift);
    }
    sum_by(row.len(), |i| row[i])
}

crate::isa::multiversion! {
    pub(crate) fn scale(row: &mut [f32], factor: f32) = scale_body
}

#[inline(always)]
fn scale_body(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}

crate::isa::multiversion! {
    /// `row = e^(row − shift)`, for the attention's backward pass.
    pub(crate) fn exp_shifted(row: &mut [f32], shift: f32) = exp_shifted_body
}

#[inline(always)]
fn exp_shifted_body(row: &mut [f32], shift: f32) {
    for x in row {
        *x = exp(*x - shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition() {
        let logits: Vec<f32> = (0..3 * 37).map(|i| (i as f32 * 1.7).sin() * 8.0).collect();
        let targets = [0, 36, 11];
        let (mut gradient, mut losses) = (logits.clone(), vec![0.0; 3]);
        loss_and_gradient(&mut gradient, 37, &targets, &mut losses);
        let mut plain = vec![0.0; 3];
        loss(&mut logits.clone(), 37, &targets, &mut plain);
        for row in 0..3 {
            let x: Vec<f64> = logits[row * 37..][..37].iter().map(|&v| f64::from(v)).collect();
            let sum: f64 = x.iter().map(|v| v.exp()).sum();
            let expected = sum.ln() - x[targets[row] as usize];
            assert!((f64::from(losses[row]) - expected).abs() < 1e-5);
            assert!((f64::from(plain[row]) - expected).abs() < 1e-5);
            for (i, x) in x.iter().enumerate() {
                let p = x.exp() / sum - f64::from(u8::from(i == targets[row] as usize));
                assert!((f64::from(gradient[row * 37 + i]) - p).abs() < 1e-6);
            }
        }
    }
}
