//! The way back through a layer: from the gradient of its output to that of its input and of what is trained.

use std::cmp::Ordering;

use synapse_kernels::norm;

use super::{Dispatched, Kept, Layer, Normed, Part, Routed, Sequenced};
use crate::{
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
        let mut du = vec![0.0; x.len()];
        let chosen = &kept.routed.choices.weights;
        let mut dweights = vec![0.0; chosen.len()];
        if let Some(part) = &mut kept.language {
            let dy = part
                .sent
                .split_gradient(&dx, &part.y, chosen, &mut dweights, self.hidden);
            let mut d = vec![0.0; part.u.len()];
            let rows = (part.u.as_slice(), part.sent.lengths.as_slice());
            self.language
                .backward(weights, rows, &mut part.kept, &dy, (&mut d, gradients));
            part.sent.add(&d, &mut du, self.hidden);
        }
        self.experts_backward(
            descent,
            &mut kept.experts,
            chosen,
            &dx,
            (&mut dweights, &mut du, gradients),
        );
        if let Some(part) = &mut kept.memory {
            let dy = part
                .sent
                .split_gradient(&dx, &part.y, chosen, &mut dweights, self.hidden);
            let mut d = vec![0.0; part.u.len()];
            let rows = (part.u.as_slice(), part.sent.lengths.as_slice());
            self.memory
                .backward(weights, rows, &part.kept, &dy, (&mut d, gradients));
            part.sent.add(&d, &mut du, self.hidden);
        }
        let load = self.route_backward(descent, &kept.normed.u, &kept.routed, &dweights, (&mut du, gradients));
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
            &kept.memory,
            &dx,
            (&mut du, gradients),
        );
        self.norm_backward(weights, 2, &kept.between[1], &kept.third, &du, (&mut dx, gradients));

        du.fill(0.0);
        let chosen = &kept.routed.choices.weights;
        let mut dweights = vec![0.0; chosen.len()];
        self.experts_backward(
            descent,
            &mut kept.experts,
            chosen,
            &dx,
            (&mut dweights, &mut du, gradients),
        );
        let load = self.route_backward(descent, &kept.second.u, &kept.routed, &dweights, (&mut du, gradients));
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
        routed: &Routed,
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
            &routed.kept,
            (&dlogits, dcontext),
            (du, gradients),
        );
        load
    }

    fn experts_backward(
        &self,
        descent: Descent<'_>,
        parts: &mut [Option<Part<experts::Kept>>],
        chosen: &[f32],
        dx: &[f32],
        (dweights, du, gradients): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        for (expert, part) in self.experts.iter().zip(parts) {
            let Some(part) = part else { continue };
            let dy = part.sent.split_gradient(dx, &part.y, chosen, dweights, self.hidden);
            let mut d = vec![0.0; part.u.len()];
            expert.backward(descent.weights, &part.u, &mut part.kept, &dy, (&mut d, gradients));
            part.sent.add(&d, du, self.hidden);
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
