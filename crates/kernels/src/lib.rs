//! CPU kernels on plain slices.
//!
//! Everything that computes lives here: matrix products over f32, bf16 and NF4 operands, causal
//! attention, normalization, activations, the cross-entropy and the optimizer update. The instruction
//! set is chosen at run time ([`Isa`]), `SYNAPSE_ISA` forces one, and each fast path has a portable
//! twin that tests compare it with. Every output element is summed in one fixed order by one thread,
//! so results do not depend on the number of threads.
//!
//! What this crate is not: it knows no models, no files and no tensors beyond slices and shapes.
#![expect(unsafe_code, reason = "SIMD intrinsics and disjoint writes from several threads")]

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod elementwise;
pub mod gemm;
pub mod heads;
mod isa;
mod math;
mod matrix;
pub mod nf4;
pub mod norm;
mod parallel;
mod pool;
pub mod random;
pub mod ranks;
pub mod recurrent;
pub mod rope;
pub mod tiled;

pub use gemm::{Accumulate, Precision, Shape};
pub use isa::Isa;
pub use matrix::{Matrix, MatrixMut};
pub use nf4::Nf4Matrix;
pub use parallel::{for_each_chunk, for_each_row_block, parallel_for, threads, with_threads};
pub use pool::threads_from_environment;
