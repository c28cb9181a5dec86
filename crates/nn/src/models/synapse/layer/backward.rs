//! The way back through a layer: from the gradient of its output to that of its input and of what is trained.

use std::cmp::Ordering;

use synapse_kernels::norm;

use super::{Dispatched, Kept, Layer, Normed, Part, Routed, Sequenced};
use crate::models::synapse::{
    experts,
    linear::Weights,
    routing::{Auxiliary, Load},
};

/// What the backward pass of all layers has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descent<'a> {
    pub(crate) weights: Weights<'a>,
    pub(crate) lengths: &'a [usize],
    pub(crate) auxiliary: Auxiliary,
}

/// The way back through the modules that tokens were sent to.
struct Back<'a> {
    /// The weights of a token's modules, `[t, k]`.
    chosen: &'a [f32],
    /// The gradient of the layer's output, `[t, hidden]`.
    dx: &'a [f32],
    dweights: Vec<f32>, // [t, k]
    du: Vec<f32>,       // [t, hidden] of what the modules saw
    hidden: usize,
}

impl<'a> Back<'a> {
    fn new(chosen: &'a [f32], dx: &'a [f32], hidden: usize) -> Self {
        Self {
            chosen,
            dx,
            dweights: vec![0.0; chosen.len()],
            du: vec![0.0; dx.len()],
            hidden,
        }
    }

    /// Through one module: `backward` gets its rows, what it kept and the gradient of its output, and adds to that of its
    /// input.
    fn through<K>(
        &mut self,
        part: &mut Part<K>,
        backward: impl FnOnce((&[f32], &[usize]), &mut K, &[f32], &mut [f32]),
    ) {
        let Part { sent, u, y, kept } = part;
        let dy = sent.split_gradient(self.dx, y, self.chosen, &mut self.dweights, self.hidden);
        let mut d = vec![0.0; u.len()];
        backward((u, &sent.lengths), kept, &dy, &mut d);
        sent.add(&d, &mut self.du, self.hidden);
    }
}

impl Layer {
    /// From the gradient of the output to that of the input; adds to the weights' gradients.
    pub(crate) fn backward(
        &self,
        descent: Descent<'_>,
        x: &[f32],
        kept: &mut Kept,
        dy: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, Load) {
        match kept {
            Kept::Dispatch(kept) => self.dispatch_backward(descent, x, kept, dy, gradients),
            Kept::Sequential(kept) => self.sequence_backward(descent, x, kept, dy, gradients),
        }
    }

    fn dispatch_backward(
        &self,
        descent: Descent<'_>,
        x: &[f32],
        kept: &mut Dispatched,
        mut dx: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, Load) {
        let weights = descent.weights;
        let mut back = Back::new(&kept.routed.choices.weights, &dx, self.hidden);
        if let Some(part) = &mut kept.language {
            back.through(part, |rows, kept, dy, d| {
                self.language.backward(weights, rows, kept, dy, (d, &mut *gradients));
            });
        }
        self.experts_backward(weights, &mut kept.experts, &mut back, gradients);
        if let Some(part) = &mut kept.memory {
            back.through(part, |rows, kept, dy, d| {
                self.memory.backward(weights, rows, kept, dy, (d, &mut *gradients));
            });
        }
        let Back { dweights, mut du, .. } = back;
        let load = self.route_backward(
            descent,
            &kept.normed.u,
            &mut kept.routed,
            &dweights,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 0, x, &kept.normed, &du, (&mut dx, gradients));
        (dx, load)
    }

    fn sequence_backward(
        &self,
        descent: Descent<'_>,
        x: &[f32],
        kept: &mut Sequenced,
        mut dx: Vec<f32>,
        gradients: &mut [f32],
    ) -> (Vec<f32>, Load) {
        let (weights, lengths) = (descent.weights, descent.lengths);
        let mut du = vec![0.0; x.len()];
        self.memory.backward(
            weights,
            (&kept.third.u, lengths),
            &mut kept.memory,
            &dx,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 2, &kept.between[1], &kept.third, &du, (&mut dx, gradients));

        let mut back = Back::new(&kept.routed.choices.weights, &dx, self.hidden);
        self.experts_backward(weights, &mut kept.experts, &mut back, gradients);
        let Back { dweights, mut du, .. } = back;
        let load = self.route_backward(
            descent,
            &kept.second.u,
            &mut kept.routed,
            &dweights,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 1, &kept.between[0], &kept.second, &du, (&mut dx, gradients));

        du.fill(0.0);
        self.language.backward(
            weights,
            (&kept.first.u, lengths),
            &mut kept.language,
            &dx,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 0, x, &kept.first, &du, (&mut dx, gradients));
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
        descent: Descent<'_>,
        u: &[f32],
        routed: &mut Routed,
        dweights: &[f32],
        (du, gradients): (&mut [f32], &mut [f32]),
    ) -> Load {
        let mut dlogits = vec![0.0; routed.logits.len()];
        routed.choices.backward(dweights, self.choices(), &mut dlogits);
        let load = routed.choices.auxiliary(
            &routed.logits,
            self.choices(),
            self.balanced_choices(),
            Some((descent.auxiliary, &mut dlogits)),
        );
        // what the modules asked of `u + r` goes to both
        let dcontext = if self.relay { du.to_vec() } else { vec![0.0; du.len()] };
        self.thalamus.backward(
            descent.weights,
            (u, descent.lengths),
            &mut routed.kept,
            (&dlogits, dcontext),
            (du, gradients),
        );
        load
    }

    fn experts_backward(
        &self,
        weights: Weights<'_>,
        parts: &mut [Option<Part<experts::Kept>>],
        back: &mut Back<'_>,
        gradients: &mut [f32],
    ) {
        for (expert, part) in self.experts.iter().zip(parts) {
            let Some(part) = part else { continue };
            back.through(part, |(u, _), kept, dy, d| {
                expert.backward(weights, u, kept, dy, (d, &mut *gradients));
            });
        }
    }

    /// Moves the selection's bias by `rate` towards the balanced choices that got less than an even share of what those got.
    pub(crate) fn adjust(&self, values: &mut [f32], counts: &[u64], rate: f32) {
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
