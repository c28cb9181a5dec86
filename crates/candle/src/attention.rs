//! Causal attention of one document with grouped query heads, from operations that have a backward pass.
//!
//! The scores of a document exist whole, `[heads, n, m]` in f32; what bounds memory is that only one layer is on
//! the tape at a time and that documents attend to themselves alone.

use candle_core::{D, DType, Result, Tensor};

use crate::frozen;

/// Queries `[n, heads, d]` over keys and values `[m, kv_heads, d]`: `[n, heads · d]`.
///
/// `mask [n, m]`, f32, is added to the scores: zero where a query sees a key. `None`: every query sees every key.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let ((count, heads, dim), (seen, key_heads, _)) = (q.dims3()?, k.dims3()?);
    // the query heads of a group follow one another, so a group is one taller matrix
    let rows = heads / key_heads * count;
    let by_head = |x: &Tensor| x.transpose(0, 1)?.contiguous();
    let q = by_head(&(q * (1.0 / (dim as f64).sqrt()))?)?.reshape((key_heads, rows, dim))?;
    let scores = q
        .matmul(&by_head(k)?.transpose(1, 2)?)?
        .to_dtype(DType::F32)?
        .reshape((heads, count, seen))?;
    let scores = match mask {
        Some(mask) => frozen::add(&scores, mask)?,
        None => scores,
    };
    let weights = softmax(&scores)?
        .to_dtype(v.dtype())?
        .reshape((key_heads, rows, seen))?;
    weights
        .matmul(&by_head(v)?)?
        .reshape((heads, count, dim))?
        .transpose(0, 1)?
        .reshape((count, heads * dim))
}

/// Softmax over the last dimension. The maximum is a constant: its gradient cancels.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let largest = scores.detach().max_keepdim(D::Minus1)?;
    let powers = frozen::add(scores, &largest.neg()?)?.exp()?;
    powers.broadcast_mul(&powers.sum_keepdim(D::Minus1)?.recip()?)
}
