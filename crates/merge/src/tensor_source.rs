//! The tensors of a merge, each with the inputs that contribute to it, to be read tile by tile.
//!
//! What this is not: the arithmetic of a method. The base is quantized to NF4 where the request says so, and adapters
//! become one change where their factors are merged first.

use crate::inputs::{Inputs, StoredTensor, on_weights};
use crate::nf4::Nf4Rows;
use crate::options::BaseView;
use crate::parameters::TensorParameters;
use crate::plan::{PlannedInput, TensorPlan};
use crate::select::RankError;
use crate::tiles::{Representation, RowSource, TensorTiles, Workspace};
use crate::{MergeError, MergeRequest, Result};

/// One output tensor and the inputs that contribute to it.
pub(crate) struct TensorMerge<'a> {
    pub(crate) plan: &'a TensorPlan,
    pub(crate) inputs: Vec<&'a PlannedInput>,
}

impl TensorMerge<'_> {
    pub(crate) fn entries(&self) -> usize {
        self.plan.shape.iter().product()
    }

    /// Bytes of the changes of all inputs.
    pub(crate) fn delta_bytes(&self) -> usize {
        4 * self.entries() * self.inputs.len()
    }
}

/// The tensors of a merge. Any number of threads may read them, each with a workspace of its own.
pub(crate) struct TensorSource<'a> {
    pub(crate) request: &'a MergeRequest,
    pub(crate) inputs: &'a Inputs,
    /// In the plan's order.
    pub(crate) tensors: Vec<TensorMerge<'a>>,
    /// The method merges whole weights instead of changes to the base.
    pub(crate) on_weights: bool,
}

impl<'a> TensorSource<'a> {
    pub(crate) fn new(request: &'a MergeRequest, inputs: &'a Inputs, plans: &'a [TensorPlan]) -> Self {
        let contributing = |plan: &'a TensorPlan| TensorMerge {
            plan,
            inputs: plan.inputs.iter().filter(|input| inputs.contributes(input)).collect(),
        };
        Self {
            request,
            inputs,
            tensors: plans.iter().map(contributing).collect(),
            on_weights: on_weights(request, inputs),
        }
    }

    /// Tells the operating system that a tensor of the base will be read soon.
    pub(crate) fn prefetch(&self, index: usize) {
        self.inputs.base_rows(self.tensors[index].plan).prefetch();
    }

    /// The parameters that a tensor is merged with.
    pub(crate) fn parameters(&self, tensor: &TensorMerge<'a>) -> TensorParameters<'a> {
        TensorParameters {
            request: self.request,
            plan: tensor.plan,
        }
    }

    /// Whether the adapters' factors are merged first, so that the tensor has one change.
    pub(crate) fn merges_factors(&self, tensor: &TensorMerge<'_>) -> bool {
        self.request.ties.factors && tensor.inputs.len() > 1
    }

    /// Runs `work` on the tiles of a tensor: its base and every contributing input.
    pub(crate) fn with_tiles<T>(
        &self,
        workspace: &mut Workspace,
        tensor: &TensorMerge<'_>,
        work: impl FnOnce(&mut TensorTiles<'_>) -> Result<T>,
    ) -> Result<T> {
        let plan = tensor.plan;
        let stored = self.inputs.base_rows(plan);
        let nf4 = self.nf4(tensor, &stored)?;
        let base: &dyn RowSource = match &nf4 {
            Some(nf4) => nf4,
            None => &stored,
        };
        let rows = if self.merges_factors(tensor) {
            crate::factors::merge(self.request, self.inputs, plan, &tensor.inputs)?
        } else {
            let rows = tensor.inputs.iter().map(|input| self.inputs.rows(plan, input));
            rows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
        };
        let representation = if self.on_weights {
            Representation::Whole
        } else {
            Representation::Change
        };
        work(&mut TensorTiles::new(
            &plan.shape,
            representation,
            base,
            rows,
            workspace,
        ))
    }

    /// The base's adapted matrices as NF4 stores them, where the request asks for that.
    fn nf4(&self, tensor: &TensorMerge<'_>, stored: &StoredTensor<'_>) -> Result<Option<Nf4Rows>> {
        let plan = tensor.plan;
        let adapted = !tensor.inputs.is_empty() && plan.shape.len() == 2 && plan.name.starts_with("model.layers.");
        if self.request.base_view == BaseView::Nf4 && adapted {
            return Nf4Rows::of(stored, &plan.shape).map(Some);
        }
        Ok(None)
    }

    /// The error with the name of the input that cannot be ranked.
    pub(crate) fn rank_error(&self, tensor: &TensorMerge<'_>, error: RankError) -> MergeError {
        match error {
            RankError::Merge(error) => error,
            RankError::NotFinite(at) => MergeError::NotFinite {
                input: tensor
                    .inputs
                    .get(at)
                    .map_or_else(String::new, |input| self.inputs.name(input.input).to_owned()),
                tensor: tensor.plan.name.clone(),
            },
        }
    }
}
