//! The `evaluate:` section: suites, the files they read, and options that only some suites have.

use std::collections::BTreeMap;

use crate::enums::SuiteId;
use crate::plan::EvaluatePlan;
use crate::raw::Evaluate;
use crate::resolve::Resolver;
use crate::suggest::alternatives;

impl Resolver<'_> {
    pub(crate) fn evaluate(&mut self, key: &str, written: &Evaluate, default: Vec<SuiteId>) -> EvaluatePlan {
        let suites = match &written.suites {
            None => default,
            Some(suites) => {
                for (index, suite) in suites.iter().enumerate() {
                    if suites[..index].contains(suite) {
                        self.refuse_value(
                            &format!("{key}.suites.{index}"),
                            format!("the suite `{suite}` is listed twice"),
                            None,
                        );
                    }
                }
                suites.clone()
            }
        };
        EvaluatePlan {
            suites,
            every: written.every,
            limit: written.limit,
            max_new_tokens: written.max_new_tokens.unwrap_or(256),
            files: BTreeMap::new(),
            prompting: written.prompting,
            shots: written.shots,
            samples: written.samples.unwrap_or(1),
            temperature: written.temperature,
        }
    }

    /// The files that suites read, and what else only some suites heed.
    pub(crate) fn resolve_suite_inputs(&mut self, written: &Evaluate, plan: &mut EvaluatePlan) {
        for (suite, path) in &written.files {
            let key = format!("evaluate.files.{suite}");
            let reader = SuiteId::ALL
                .into_iter()
                .find(|known| known.id() == suite && known.reads_file());
            let Some(suite) = reader else {
                let known = SuiteId::ALL.into_iter().filter(|suite| suite.reads_file());
                let hint = format!("suites that read one are {}", alternatives(known.map(SuiteId::id)));
                self.refuse_value(&key, format!("the suite `{suite}` reads no file"), Some(hint));
                continue;
            };
            if !plan.suites.contains(&suite) {
                let hint = "add it to evaluate.suites, or leave its file out";
                self.refuse_value(&key, format!("the suite `{suite}` is not asked"), Some(hint.to_owned()));
            } else {
                let file = self.input(&key, path);
                if file.is_file() {
                    plan.files.insert(suite, file);
                } else {
                    self.refuse_value(&key, format!("no such file: {}", file.display()), None);
                }
            }
        }
        for suite in SuiteId::ALL.into_iter().filter(|suite| suite.needs_file()) {
            if plan.suites.contains(&suite) && !written.files.contains_key(suite.id()) {
                let hint = format!("name it under evaluate: files: {{ {suite}: FILE.jsonl }}");
                self.refuse_value(
                    "evaluate.suites",
                    format!("the suite `{suite}` needs a file"),
                    Some(hint),
                );
            }
        }
        if plan.shots > 0 && !plan.suites.contains(&SuiteId::Gsm8k) {
            let hint = "only gsm8k has worked examples".to_owned();
            self.refuse_value("evaluate.shots", "`evaluate.shots` has no suite to act on", Some(hint));
        }
        let sampled = plan.suites.iter().any(|suite| suite.is_sampled());
        if (plan.samples > 1 || plan.temperature > 0.0) && !sampled {
            let known = SuiteId::ALL.into_iter().filter(|suite| suite.is_sampled());
            let hint = format!(
                "suites that answer several times are {}",
                alternatives(known.map(SuiteId::id))
            );
            self.refuse_value(
                "evaluate.samples",
                "`evaluate.samples` has no suite to act on",
                Some(hint),
            );
        } else if plan.samples > 1 && plan.temperature == 0.0 {
            let hint = "such as evaluate.temperature: 0.8".to_owned();
            let message = format!("{} answers at temperature 0 are all the same", plan.samples);
            self.refuse_value("evaluate.samples", message, Some(hint));
        }
    }
}
