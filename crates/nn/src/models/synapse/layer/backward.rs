//! The backward pass of a layer: from the gradient of its output to those of its input and of its weights.

use std::cmp::Ordering;

use synapse_kernels::norm;

use super::{DispatchActivations, DispatchedModule, Layer, Normed, Routed, SavedActivations, SequentialActivations};
use crate::models::synapse::{
    experts,
    linear::Weights,
    routing::{AuxiliaryScales, RouterLoad},
    sequence_module::{ModuleGradients, ModuleInput, SequenceModule},
};

/// What the backward pass of all layers has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackwardContext<'a> {
    pub(crate) weights: Weights<'a>,
    pub(crate) lengths: &'a [usize],
    pub(crate) auxiliary: AuxiliaryScales,
}

/// The backward pass through the modules that tokens were dispatched to.
struct DispatchedGradients<'a> {
    /// The weights of a token's modules, `[t, k]`.
    chosen: &'a [f32],
    /// The gradient of the layer's output, `[t, hidden]`.
    dx: &'a [f32],
    dweights: Vec<f32>, // [t, k]
    du: Vec<f32>,       // [t, hidden] of what the modules saw
    hidden: usize,
}

impl<'a> DispatchedGradients<'a> {
    fn new(chosen: &'a [f32], dx: &'a [f32], hidden: usize) -> Self {
        Self {
            chosen,
            dx,
            dweights: vec![0.0; chosen.len()],
            du: vec![0.0; dx.len()],
            hidden,
        }
    }

    /// One module: `backward` gets its rows, its saved activations and the gradient of its output, and adds to the gradient
    /// of its input.
    fn through<K>(
        &mut self,
        run: &mut DispatchedModule<K>,
        backward: impl FnOnce(ModuleInput<'_>, &mut K, &[f32], &mut [f32]),
    ) {
        let DispatchedModule { dispatch, u, y, saved } = run;
        let dy = dispatch.split_gradient(self.dx, y, self.chosen, &mut self.dweights, self.hidden);
        let mut d = vec![0.0; u.len()];
        let input = ModuleInput {
            u,
            lengths: &dispatch.lengths,
        };
        backward(input, saved, &dy, &mut d);
        dispatch.add(&d, &mut self.du, self.hidden);
    }
}

impl Layer {
    /// From the gradient of the output to that of the input; adds to the weights' gradients.
    pub(crate) fn backward(
        &self,
        context: BackwardContext<'_>,
        x: &[f32],
        saved: &mut SavedActivations,
        dy: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, RouterLoad) {
        match saved {
            SavedActivations::Dispatch(saved) => self.dispatch_backward(context, x, saved, dy, gradients),
            SavedActivations::Sequential(saved) => self.sequence_backward(context, x, saved, dy, gradients),
        }
    }

    fn dispatch_backward(
        &self,
        context: BackwardContext<'_>,
        x: &[f32],
        saved: &mut DispatchActivations,
        mut dx: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, RouterLoad) {
        let weights = context.weights;
        let mut modules = DispatchedGradients::new(&saved.routed.choices.weights, &dx, self.hidden);
        if let Some(run) = &mut saved.language {
            modules.through(run, |input, saved, dy, du| {
                let gradients = ModuleGradients {
                    du,
                    parameters: &mut *gradients,
                };
                self.language.backward(weights, input, saved, dy, gradients);
            });
        }
        self.experts_backward(weights, &mut saved.experts, &mut modules, gradients);
        if let Some(run) = &mut saved.memory {
            modules.through(run, |input, saved, dy, du| {
                let gradients = ModuleGradients {
                    du,
                    parameters: &mut *gradients,
                };
                self.memory.backward(weights, input, saved, dy, gradients);
            });
        }
        let DispatchedGradients { dweights, mut du, .. } = modules;
        let load = self.route_backward(
            context,
            &saved.normed.u,
            &mut saved.routed,
            &dweights,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 0, x, &saved.normed, &du, (&mut dx, gradients));
        (dx, load)
    }

    fn sequence_backward(
        &self,
        context: BackwardContext<'_>,
        x: &[f32],
        saved: &mut SequentialActivations,
        mut dx: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, RouterLoad) {
        let (weights, lengths) = (context.weights, context.lengths);
        let mut du = vec![0.0; x.len()];
        let input = ModuleInput {
            u: &saved.third.u,
            lengths,
        };
        let targets = ModuleGradients {
            du: &mut du,
            parameters: gradients,
        };
        self.memory.backward(weights, input, &mut saved.memory, &dx, targets);
        self.norm_backward(weights, 2, &saved.between[1], &saved.third, &du, (&mut dx, gradients));

        let mut modules = DispatchedGradients::new(&saved.routed.choices.weights, &dx, self.hidden);
        self.experts_backward(weights, &mut saved.experts, &mut modules, gradients);
        let DispatchedGradients { dweights, mut du, .. } = modules;
        let load = self.route_backward(
            context,
            &saved.second.u,
            &mut saved.routed,
            &dweights,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 1, &saved.between[0], &saved.second, &du, (&mut dx, gradients));

        du.fill(0.0);
        let input = ModuleInput {
            u: &saved.first.u,
            lengths,
        };
        let targets = ModuleGradients {
            du: &mut du,
            parameters: gradients,
        };
        self.language
            .backward(weights, input, &mut saved.language, &dx, targets);
        self.norm_backward(weights, 0, x, &saved.first, &du, (&mut dx, gradients));
        (dx, load)
    }

    fn norm_backward(
        &self,
        weights: Weights<'_>,
        index: usize,
        x: &[f32],
        normed: &Normed,
        du: &[f32],
        (dx, gradients): (&mut [f32], &mut [f32]),
    ) {
        let range = self.norms[index].clone();
        norm::backward(x, weights.of(&range), &normed.inverse, du, dx);
        norm::backward_weight(x, &normed.inverse, du, &mut gradients[range]);
    }

    fn route_backward(
        &self,
        context: BackwardContext<'_>,
        u: &[f32],
        routed: &mut Routed,
        dweights: &[f32],
        (du, gradients): (&mut [f32], &mut [f32]),
    ) -> RouterLoad {
        let mut dlogits = vec![0.0; routed.logits.len()];
        routed.choices.backward(dweights, self.choices(), &mut dlogits);
        let load = routed.choices.auxiliary(
            &routed.logits,
            self.choices(),
            self.balanced_choices(),
            Some((context.auxiliary, &mut dlogits)),
        );
        // the gradient of `u + r` goes to both
        let dcontext = if self.relay { du.to_vec() } else { vec![0.0; du.len()] };
        self.router.backward(
            context.weights,
            (u, context.lengths),
            &mut routed.saved,
            (&dlogits, dcontext),
            (du, gradients),
        );
        load
    }

    fn experts_backward(
        &self,
        weights: Weights<'_>,
        parts: &mut [Option<DispatchedModule<experts::SavedActivations>>],
        modules: &mut DispatchedGradients<'_>,
        gradients: &mut [f32],
    ) {
        for (expert, run) in self.experts.iter().zip(parts) {
            let Some(run) = run else { continue };
            modules.through(run, |input, saved, dy, du| {
                expert.backward(weights, input.u, saved, dy, (du, &mut *gradients));
            });
        }
    }

    /// Moves the selection bias by `rate` towards the balanced choices whose load is below average.
    pub(crate) fn post_step(&self, values: &mut [f32], counts: &[u64], rate: f32) {
        let Some(range) = self.selection_bias.clone() else {
            return;
        };
        let choices = self.balanced_choices();
        let (bias, counts) = (&mut values[range][choices.clone()], &counts[choices]);
        let total: u64 = counts.iter().sum();
        for (bias, &count) in bias.iter_mut().zip(counts) {
            match (count * counts.len() as u64).cmp(&total) {
                Ordering::Less => *bias += rate,
                Ordering::Greater => *bias -= rate,
                Ordering::Equal => {}
            }
        }
    }
}
