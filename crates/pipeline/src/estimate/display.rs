//! An estimate as text for the terminal.

use std::fmt;

use super::Estimate;

/// `50 s`, `12 min`, `3.5 h` or `2.1 days`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} → {}", self.name, self.output)?;
        for recipe in &self.recipes {
            writeln!(out, "\n{} on {}", recipe.name, recipe.base)?;
            let number = |value: Option<u64>| {
                value.map_or_else(
                    || "not known before the data is there".to_owned(),
                    |value| value.to_string(),
                )
            };
            let how = if recipe.exact {
                ""
            } else if recipe.rows.is_some() {
                " at most"
            } else {
                ""
            };
            writeln!(out, "  rows    {}{how}", number(recipe.rows))?;
            writeln!(out, "  steps   {}{how}", number(recipe.steps))?;
            if let Some(tokens) = recipe.tokens {
                writeln!(out, "  tokens  {tokens} a pass")?;
            }
            match &recipe.memory {
                None => writeln!(out, "  memory  known once the base is fetched (`data fetch`)")?,
                Some(memory) => {
                    let mib = |bytes: u64| bytes / (1 << 20);
                    writeln!(
                        out,
                        "  memory  {} MiB: weights {}, trainable {}, activations {}, workspace {}, logits {}, \
                         process {}",
                        mib(memory.total),
                        mib(memory.weights),
                        mib(memory.trainable),
                        mib(memory.activations),
                        mib(memory.workspace),
                        mib(memory.logits),
                        mib(memory.process)
                    )?;
                    if memory.recompute {
                        writeln!(out, "          layers are computed again in the backward pass")?;
                    }
                }
            }
            if let Some(time) = &recipe.time {
                writeln!(
                    out,
                    "  time    about {} of training at {:.0} tokens/s, as measured here just now",
                    duration(time.seconds),
                    time.tokens_per_second
                )?;
            }
            for (dataset, license) in &recipe.sources {
                let license = license.as_deref().unwrap_or("no license stated");
                let remark = if synapse_data::is_non_commercial(license) {
                    " (not for commercial use)"
                } else {
                    ""
                };
                writeln!(out, "  data    {dataset}: {license}{remark}")?;
            }
            for note in &recipe.notes {
                writeln!(out, "  note    {note}")?;
            }
            if !recipe.recorded.is_empty() {
                let changed = if recipe.current {
                    ""
                } else {
                    ", for the recipe as it was then: what the changes touch runs again"
                };
                writeln!(out, "  done    {}{changed}", recipe.recorded.join(", "))?;
            }
        }
        Ok(())
    }
}
