//! `synapse-merge` as its users run it: every method, every input and output, exit codes and messages.

mod adapters;
mod command;
mod delta;
mod heads;
mod mergekit;
mod methods;
mod models;
mod pipeline;
mod resume;
mod support;
