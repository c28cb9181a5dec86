//! The model families, and the loading that chooses between them.

mod load;
pub mod synapse;

pub use load::{load_files_to_generate, load_to_generate};
