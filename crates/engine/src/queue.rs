//! Accepted requests on their way from the handle to the engine's thread.

use std::sync::Arc;
use std::time::Instant;

use crate::adapter_registry::AdapterVersion;
use crate::admission::Permit;
use crate::observer::GaugeGuard;
use crate::task::Task;

/// An accepted request that waits for a slot in the batch. Its adapter is resolved: replacing the adapter of that name
/// no longer affects it.
#[derive(Debug)]
pub(crate) struct QueuedRequest {
    pub(crate) prompt: Vec<u32>,
    pub(crate) adapter: Option<AdapterVersion>,
    pub(crate) task: Task,
    /// Shared by all texts of one embedding request; released when the last of them is dropped.
    pub(crate) permit: Arc<Permit>,
    pub(crate) waiting: GaugeGuard,
    pub(crate) submitted: Instant,
}

impl QueuedRequest {
    /// Ends a request that never ran. Receivers of embeddings and scores notice the dropped sender.
    pub(crate) fn cancel(self) {
        drop(self.permit);
        if let Task::Generate(generation) = &self.task {
            generation.cancel(self.prompt.len(), self.submitted.elapsed());
        }
    }
}
