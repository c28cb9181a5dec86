//! Whether an adapter fits a base: every tensor that it adapts is there, in the shape that its factors say.

use synapse_checkpoint::{HEAD, ModelFolder};

use super::{CONFIG, ModuleTensors, PeftAdapter, WEIGHTS};

impl PeftAdapter {
    /// Everything in it that does not fit a base, by name.
    pub(crate) fn problems(&self, base: &ModelFolder) -> Vec<String> {
        let weights = self.path.join(WEIGHTS);
        let shown = weights.display();
        let mut problems = Vec::new();
        for (tensor, part) in &self.parts {
            let module = &part.module;
            let known = |tensor: &str| tensor == HEAD || base.names().any(|name| name == tensor);
            let Some(info) = base.info(tensor).filter(|_| known(tensor)) else {
                problems.push(format!(
                    "{shown}: adapts `{module}`, but the base, a {} of {} layers, has no tensor {tensor}; was it trained on \
                     another base?",
                    base.config().architecture.class_name(),
                    base.config().num_hidden_layers
                ));
                continue;
            };
            problems.extend(
                self.shape_problems(tensor, part, &info.shape)
                    .into_iter()
                    .map(|problem| format!("{shown}: {problem}")),
            );
        }
        let stored = |tensor: &str| {
            let whole = self.parts.get(tensor).is_some_and(|part| part.whole.is_some());
            whole || self.copies.contains(tensor)
        };
        let saved = self.config.check_saved(&self.path.join(CONFIG), base.config(), stored);
        problems.extend(saved.err().map(|error| error.to_string()));
        // A wrong base causes many problems; the first few are enough.
        if problems.len() > 4 {
            let more = problems.len() - 3;
            problems.truncate(3);
            problems.push(format!("{shown}: and {more} more tensors do not fit the base"));
        }
        problems
    }

    fn shape_problems(&self, tensor: &str, part: &ModuleTensors, shape: &[usize]) -> Vec<String> {
        let module = &part.module;
        let mut problems = Vec::new();
        let mut expect = |name: &Option<String>, letter: &str, expected: Vec<usize>| match name {
            None => problems.push(format!("`{module}` has no {letter}")),
            Some(name) => match self.files.info(name) {
                Some(info) if !info.dtype.is_weight() => {
                    problems.push(format!("{name} has dtype {}, which weights cannot have", info.dtype));
                }
                Some(info) if info.shape != expected => problems.push(format!(
                    "{name}: expected {expected:?} to fit {tensor} {shape:?} of the base, found {:?}; \
                     was it trained on another base?",
                    info.shape
                )),
                _ => {}
            },
        };
        let rank = self.config.rank_of(module);
        if part.a.is_some() || part.b.is_some() {
            if let &[rows, columns] = shape {
                expect(&part.a, "lora_A", vec![rank, columns]);
                expect(&part.b, "lora_B", vec![rows, rank]);
                if part.magnitude.is_some() {
                    expect(&part.magnitude, "lora_magnitude_vector", vec![rows]);
                }
            } else {
                expect(&None, "matrix in the base", Vec::new());
            }
        } else if part.magnitude.is_some() {
            expect(&None, "lora_A beside its lora_magnitude_vector", Vec::new());
        }
        if let Some((a, b)) = &part.embedding
            && let &[rows, columns] = shape
        {
            expect(a, "lora_embedding_A", vec![rank, rows]);
            expect(b, "lora_embedding_B", vec![columns, rank]);
        }
        for name in [&part.bias, &part.whole] {
            if name.is_some() {
                expect(name, "tensor", shape.to_vec());
            }
        }
        if part.whole.is_some() && (part.a.is_some() || part.embedding.is_some()) {
            problems.push(format!(
                "`{module}` is trained whole and also adapted; only one of the two can be merged"
            ));
        }
        problems
    }
}
