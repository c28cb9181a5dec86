//! The stages, one file each: what a stage depends on, what it does, and what it leaves in the run's folder.
//!
//! A recipe runs fetch, prepare, train and evaluate. A pipeline runs those of its recipes, then evaluate, merge, gate
//! and export. What this is not: the order (`run_recipe`, `run_pipeline`) or the records (`record`).

pub(crate) mod evaluate;
pub(crate) mod evaluate_specialists;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod gate;
pub(crate) mod merge;
pub(crate) mod prepare;
pub(crate) mod train;
