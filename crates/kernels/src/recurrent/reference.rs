//! Shared by the tests of the cells: operands, the same in f64, and comparison relative to the largest value.

use crate::random::Stream;

/// Normal numbers, reproducible by their seed.
pub(super) fn normals(seed: u64, count: usize) -> Vec<f32> {
    scaled_normals(seed, count, 1.0)
}

/// The same with another standard deviation.
pub(super) fn scaled_normals(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| scale * stream.normal(i)).collect()
}

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Equality to `tolerance` of the largest value wanted.
pub(super) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= tolerance * scale,
            "{what} at {index}: {got} instead of {want}, scale {scale}"
        );
    }
}
