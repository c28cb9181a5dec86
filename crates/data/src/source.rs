//! One source of a recipe while it is being prepared.

use synapse_recipe::{Location, Samples, SourcePlan};

use crate::collect::Collected;
use crate::manifest::RequestsManifest;
use crate::provenance::SampledRow;
use crate::request::{SourceFile, SourceFiles};
use crate::routing::{self, Requests};

/// The requests of one generated source.
#[derive(Debug, Default)]
pub(crate) struct ReferencedRequests {
    pub(crate) requests: Requests,
    /// Where they come from, for the manifest.
    pub(crate) manifests: Vec<RequestsManifest>,
}

/// A source with its rows.
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a SourcePlan,
    pub(crate) files: &'a SourceFiles,
    pub(crate) collected: Collected,
    /// Rows of its `held_out_file`.
    pub(crate) held_out_source: Option<(SourceFile, Collected)>,
    pub(crate) train: Vec<SampledRow>,
    pub(crate) held_out: Vec<SampledRow>,
    /// Of a generated source: the requests that its prompts are made of, beside templates.
    pub(crate) requests: ReferencedRequests,
}

impl<'a> Source<'a> {
    pub(crate) fn new(plan: &'a SourcePlan, files: &'a SourceFiles, requests: ReferencedRequests) -> Self {
        Self {
            plan,
            files,
            collected: Collected::default(),
            held_out_source: None,
            train: Vec::new(),
            held_out: Vec::new(),
            requests,
        }
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.plan.location == Location::Routing
    }

    /// The number of rows that the recipe asks for, if it states one.
    pub(crate) fn asked(&self) -> Option<u64> {
        match self.plan.samples {
            Samples::Count(count) => Some(count),
            Samples::All if self.is_generated() => Some(routing::DEFAULT_COUNT as u64),
            Samples::All | Samples::Rest => None,
        }
    }

    pub(crate) fn is_rest(&self) -> bool {
        self.plan.samples == Samples::Rest
    }
}
