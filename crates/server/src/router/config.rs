//! The model name that routes, its coordinator, its labels and where they lead.

/// The member name of the base model, as in `synapse-swarm:base`, and its name in decisions.
pub(crate) const BASE: &str = "base";

/// A model name that routes each conversation to one of several adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Swarm {
    /// The model name that routes.
    pub name: String,
    /// The adapter that scores the labels.
    pub coordinator: String,
    /// The system prompt that the coordinator was trained with.
    pub system_prompt: String,
    /// The coordinator's labels, at least one.
    pub labels: Vec<SwarmLabel>,
    /// The minimum probability of a label that decides.
    pub threshold: f64,
    /// The label for requests that several adapters answer together; `None` always selects one.
    pub multi_domain: Option<MultiDomain>,
}

/// The label of requests that belong to more than one adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiDomain {
    /// Its name; it does not select an adapter itself.
    pub label: String,
    /// The number of adapters, those with the best scores, that write a draft; at least 2.
    pub drafts: usize,
}

/// One label of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmLabel {
    /// Its name.
    pub label: String,
    /// The coordinator's answer for it.
    pub answer: String,
    /// The adapter that requests with this label are routed to; `None` is the base model.
    pub adapter: Option<String>,
}

impl Swarm {
    /// The member in a model name of the form `SWARM:member`.
    pub(crate) fn member<'m>(&self, model: &'m str) -> Option<&'m str> {
        model.strip_prefix(self.name.as_str())?.strip_prefix(':')
    }

    /// The model name that selects a member without routing.
    pub(crate) fn pinned_name(&self, member: &str) -> String {
        format!("{}:{member}", self.name)
    }
}
