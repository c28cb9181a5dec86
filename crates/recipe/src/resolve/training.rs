//! What is trained and how: adapters or every weight, the storage of frozen weights, the loop, a coordinator's labels.

use crate::enums::LINEAR_MODULES;
use crate::plan::{Base, LoraPlan, QuantizationPlan, RouterPlan, TrainPlan, TrainingMethod};
use crate::raw::{Lora, QuantizationKind, ROUTER_LABELS, RawMethod, RawQuantization, Recipe, Targets, Train};
use crate::resolve::Resolver;
use crate::suggest::alternatives;

impl Resolver<'_> {
    pub(crate) fn router(&mut self, recipe: &Recipe, generated: bool) -> Option<RouterPlan> {
        let labels = match &recipe.router {
            Some(router) => router.labels.clone(),
            None if generated => ROUTER_LABELS.map(str::to_owned).to_vec(),
            None => return None,
        };
        for (index, label) in labels.iter().enumerate() {
            let key = format!("router.labels.{index}");
            if label.is_empty()
                || !label
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
            {
                self.refuse_value(&key, format!("a label must be one plain word, found `{label}`"), None);
            } else if labels[..index].contains(label) {
                self.refuse_value(&key, format!("the label `{label}` is listed twice"), None);
            } else if generated && !ROUTER_LABELS.contains(&label.as_str()) {
                let message = format!("generated routing rows have no label `{label}`");
                self.refuse_value(
                    &key,
                    message,
                    Some(format!("their labels are {}", alternatives(ROUTER_LABELS))),
                );
            }
        }
        Some(RouterPlan { labels })
    }

    pub(crate) fn method(&mut self, recipe: &Recipe, base: &Base) -> TrainingMethod {
        match recipe.train.method {
            RawMethod::Full => {
                for (section, given) in [
                    ("lora", recipe.lora.is_some()),
                    ("quantization", recipe.quantization.is_some()),
                ] {
                    if given {
                        let message = format!("`{section}` has no meaning with `train.method: full`");
                        self.refuse_key(
                            section,
                            message,
                            Some(format!("remove `{section}`, or train adapters with `method: lora`")),
                        );
                    }
                }
                TrainingMethod::Full
            }
            RawMethod::Lora => {
                if matches!(base, Base::FromScratch(_)) {
                    let message = "adapters need a trained base, and this one starts from scratch";
                    self.refuse_value(
                        "base",
                        message,
                        Some("train every weight with `train.method: full`".to_owned()),
                    );
                }
                TrainingMethod::Lora(self.lora(&recipe.lora.clone().unwrap_or_default()))
            }
        }
    }

    fn lora(&mut self, written: &Lora) -> LoraPlan {
        let mut targets: Vec<String> = match &written.targets {
            Targets::Word(_) => LINEAR_MODULES.map(str::to_owned).to_vec(),
            Targets::Modules(modules) => modules.iter().map(|module| module.name().to_owned()).collect(),
        };
        targets.sort();
        if let Some(pair) = targets.windows(2).find(|pair| pair[0] == pair[1]) {
            self.refuse_value("lora.targets", format!("`{}` is listed twice", pair[0]), None);
        }
        #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^52")]
        let alpha = written.alpha.unwrap_or(2.0 * written.rank as f64);
        LoraPlan {
            rank: written.rank,
            alpha,
            dropout: written.dropout,
            targets,
            rslora: written.rslora,
        }
    }
}

pub(crate) fn quantization(written: Option<&RawQuantization>) -> QuantizationPlan {
    match written {
        Some(RawQuantization {
            kind: QuantizationKind::Nf4,
            block_size,
            double_quant,
        }) => QuantizationPlan::Nf4 {
            block_size: *block_size,
            double_quant: *double_quant,
        },
        _ => QuantizationPlan::None,
    }
}

pub(crate) fn train(written: &Train) -> TrainPlan {
    TrainPlan {
        epochs: written.epochs,
        max_steps: written.max_steps,
        batch_size: written.batch_size,
        gradient_accumulation: written.gradient_accumulation,
        max_seq_len: written.max_seq_len,
        learning_rate: written.learning_rate,
        scheduler: written.scheduler,
        warmup_ratio: written.warmup_ratio,
        weight_decay: written.weight_decay,
        max_grad_norm: written.max_grad_norm,
        adam_beta1: written.adam_beta1,
        adam_beta2: written.adam_beta2,
        adam_epsilon: written.adam_epsilon,
        loss_on: written.loss_on,
        packing: written.packing,
        overlong: written.overlong,
        recompute: written.recompute,
        compute_dtype: written.compute_dtype,
        seed: written.seed,
        checkpoint_every: written.checkpoint_every,
    }
}
