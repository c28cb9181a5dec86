//! What an adapter does to embedding and output head, above all where the base ties the two. The rule is the crate
//! checkpoint's ([`HeadChange`]); here it meets an adapter's tensors.
//!
//! Source: PEFT. Its wrappers hold copies or factors of their own for one of the two modules, so the other stays as it is,
//! unless `ensure_weight_tying` makes the second share the first's. Plain copies of the base's weights
//! (`save_embedding_layers`) are loaded into the base itself, where a tied pair is one tensor.

use synapse_checkpoint::{CheckpointError, EMBEDDING, HEAD, HeadChange, ModelFolder};

use super::{ModuleTensors, PeftAdapter, WEIGHTS};
use crate::{MergeError, Result};

impl PeftAdapter {
    /// Forgets tensors that are stored whole and hold the base's own values: they change nothing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn forget_copies(&mut self, base: &ModelFolder) -> Result<()> {
        for (tensor, part) in &mut self.parts {
            let stored = part.whole.as_ref();
            if let Some(stored) = stored
                && base.info(tensor).is_some()
                && base.holds(tensor, &self.files, stored)?
            {
                part.whole = None;
                self.copies.insert(tensor.clone());
            }
        }
        let nothing = ModuleTensors::default();
        self.parts.retain(|_, part| {
            ModuleTensors {
                module: String::new(),
                ..part.clone()
            } != nothing
        });
        Ok(())
    }

    /// What it does to a tied head.
    ///
    /// # Errors
    /// It holds two different copies of the one tensor that embedding and head are.
    pub(crate) fn head_change(&self) -> Result<HeadChange> {
        let (embedding, head) = (self.parts.get(EMBEDDING), self.parts.get(HEAD));
        let is_copy = |part: &ModuleTensors| part.whole.is_some() && !self.config.saves(&part.module);
        Ok(match (embedding, head) {
            (None, None) => HeadChange::Follows,
            (Some(embedding), Some(head)) if is_copy(embedding) && is_copy(head) => {
                let values =
                    |part: &ModuleTensors| part.whole.as_ref().map(|name| self.files.read_f32(name)).transpose();
                if values(embedding)? != values(head)? {
                    return Err(self.two_copies(head));
                }
                HeadChange::Follows
            }
            // The other one was stored too, and is the base's.
            (Some(only), None) if is_copy(only) && self.has_copy(HEAD) => return Err(self.two_copies(only)),
            (None, Some(only)) if is_copy(only) && self.has_copy(EMBEDDING) => return Err(self.two_copies(only)),
            (Some(only), None) | (None, Some(only)) if is_copy(only) => HeadChange::Follows,
            _ if self.config.ensure_weight_tying => HeadChange::Follows,
            _ => HeadChange::Separates,
        })
    }

    /// Whether the base's own values are stored for a tensor, and not as a module that was trained.
    fn has_copy(&self, tensor: &str) -> bool {
        let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
        self.copies.contains(tensor) && !self.config.saves(module)
    }

    fn two_copies(&self, part: &ModuleTensors) -> MergeError {
        let name = part.whole.as_deref().unwrap_or(&part.module);
        let problem = "differs from the copy of the other one of embedding and head, but the base ties the two";
        CheckpointError::tensor(&self.path.join(WEIGHTS), name, problem).into()
    }

    /// Lets a change of embedding and head as one count for both tensors of a base that ties them, or for the one that the
    /// output has.
    pub(crate) fn follow_head(&mut self, output_ties: bool) {
        let shared = self.parts.get(EMBEDDING).or_else(|| self.parts.get(HEAD)).cloned();
        let Some(shared) = shared else {
            return;
        };
        self.parts.insert(EMBEDDING.to_owned(), shared.clone());
        if output_ties {
            self.parts.remove(HEAD);
        } else {
            self.parts.insert(HEAD.to_owned(), shared);
        }
    }
}
