//! The data half of a recipe: what each source's name stands for, how many rows each gives, and
//! which rows may not be trained on.

use std::path::{Path, PathBuf};

use crate::enums::Format;
use crate::plan::{DataPlan, LimitsPlan, Location, RequestsPlan, Samples, SourcePlan};
use crate::raw::{Limits, RawSamples, Recipe, SamplesWord, Source};
use crate::registry::Registry;
use crate::resolve::Resolver;
use crate::resolve::location::ROUTING;
use crate::suggest::{alternatives, nearest};

/// Resolves `data:` and the keys that go with it. `requests` are those of each source: other recipes, resolved before.
pub(crate) fn data_plan(
    resolver: &mut Resolver<'_>,
    recipe: &Recipe,
    registry: Option<&Registry>,
    requests: Vec<Vec<RequestsPlan>>,
    default_held_out: u64,
) -> DataPlan {
    let sources = recipe.data.iter().zip(requests).enumerate();
    let sources = sources
        .map(|(index, (source, requests))| SourcePlan {
            requests,
            ..resolver.source_plan(&format!("data.{index}"), source, registry)
        })
        .collect();
    resolver.check_sample_counts(recipe);
    if let Some(most) = recipe.filters.max_chars
        && most < recipe.filters.min_chars
    {
        let message = format!(
            "`filters.max_chars` is below `filters.min_chars`: {most} and {}",
            recipe.filters.min_chars
        );
        resolver.refuse_value("filters.max_chars", message, Some("no row would be left".to_owned()));
    }
    DataPlan {
        sources,
        total: recipe.total,
        strict: recipe.strict,
        seed: recipe.seed.unwrap_or(recipe.train.seed),
        held_out: recipe.held_out.unwrap_or(default_held_out),
        min_chars: recipe.filters.min_chars,
        max_chars: recipe.filters.max_chars,
        dedupe: recipe.filters.dedupe,
        near_duplicates: recipe.filters.near_duplicates,
        decontaminate: recipe.filters.decontaminate,
        benchmarks: resolver.benchmarks(recipe),
    }
}

/// The limits as they are written; the schema has checked them.
pub(crate) fn limits_plan(written: &Limits) -> LimitsPlan {
    LimitsPlan {
        truncated: written.truncated,
        tokens_lost: written.tokens_lost,
        dropped: written.dropped,
        duplicates: written.duplicates,
        contaminated: written.contaminated,
        trained: written.trained,
    }
}

impl Resolver<'_> {
    /// Further benchmarks; they are of use only where something is kept out.
    fn benchmarks(&mut self, recipe: &Recipe) -> Vec<PathBuf> {
        let filters = &recipe.filters;
        if !filters.benchmarks.is_empty() && !filters.decontaminate {
            let hint = "add `decontaminate: true`".to_owned();
            let message = "`benchmarks` are read only to keep them out of training";
            self.refuse_key("filters.benchmarks", message, Some(hint));
        }
        let files = filters.benchmarks.iter().enumerate();
        files
            .map(|(index, file)| self.existing_file(&format!("filters.benchmarks.{index}"), file))
            .collect()
    }

    /// Whether the sources' numbers of rows and `total` go together.
    fn check_sample_counts(&mut self, recipe: &Recipe) {
        let rest: Vec<usize> = (0..recipe.data.len())
            .filter(|index| matches!(recipe.data[*index].samples, RawSamples::Word(SamplesWord::Rest)))
            .collect();
        let counted: u64 = recipe
            .data
            .iter()
            .map(|source| match source.samples {
                RawSamples::Count(count) => count,
                RawSamples::Word(_) => 0,
            })
            .fold(0, u64::saturating_add);
        if let Some(again) = rest.get(1) {
            self.refuse_value(
                &format!("data.{again}.samples"),
                "only one source can take the rest",
                None,
            );
        }
        match (rest.first(), recipe.total) {
            (Some(first), None) => {
                let hint = "add `total:`, the number of training rows over all sources";
                self.refuse_value(
                    &format!("data.{first}.samples"),
                    "`samples: rest` needs `total`",
                    Some(hint.to_owned()),
                );
            }
            (None, Some(_)) => {
                let hint = "let one source say `samples: rest`, or remove `total`";
                self.refuse_key(
                    "total",
                    "`total` has nothing to fill: no source says `samples: rest`",
                    Some(hint.to_owned()),
                );
            }
            (Some(_), Some(total)) if counted >= total => {
                let message = format!(
                    "the sources' samples add up to {counted}, which leaves nothing of `total: {total}` to the rest"
                );
                self.refuse_value("total", message, None);
            }
            _ => {}
        }
    }

    fn source_plan(&mut self, key: &str, source: &Source, registry: Option<&Registry>) -> SourcePlan {
        let entry = registry.and_then(|registry| {
            let by_name = registry.datasets.get(&source.dataset);
            by_name.or_else(|| registry.by_id(&source.dataset).map(|(_, entry)| entry))
        });
        let location = if source.dataset == ROUTING {
            self.check_generated(key, source);
            Location::Routing
        } else if let Some(entry) = entry {
            self.registry_location(key, source, entry)
        } else {
            self.unregistered_location(key, source, registry)
        };
        let format = source.format.or(entry.map(|entry| entry.format));
        self.check_column_map(key, source, format);
        let held_out_file = source
            .held_out_file
            .as_ref()
            .map(|file| self.existing_file(&format!("{key}.held_out_file"), file));
        SourcePlan {
            dataset: source.dataset.clone(),
            location,
            samples: match source.samples {
                RawSamples::Word(SamplesWord::All) => Samples::All,
                RawSamples::Word(SamplesWord::Rest) => Samples::Rest,
                RawSamples::Count(count) => Samples::Count(count),
            },
            split: source.split.0.clone(),
            format,
            map: source.map.clone(),
            system_prompt: source.system_prompt.clone(),
            held_out_file,
            license: source
                .license
                .clone()
                .or_else(|| entry.map(|entry| entry.license.clone())),
            requests: Vec::new(),
        }
    }

    /// A map may only rename fields that the format has.
    fn check_column_map(&mut self, key: &str, source: &Source, format: Option<Format>) {
        let Some(format) = format else { return };
        for field in source
            .map
            .keys()
            .filter(|field| !format.fields().contains(&field.as_str()))
        {
            let hint = match nearest(field, format.fields().iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its fields are {}", alternatives(format.fields().iter().copied())),
            };
            let message = format!("the format `{}` has no field `{field}`", format.id());
            self.refuse_key(&format!("{key}.map.{field}"), message, Some(hint));
        }
    }

    pub(crate) fn existing_file(&mut self, key: &str, written: &Path) -> PathBuf {
        let file = self.input(key, written);
        if !file.is_file() {
            self.refuse_value(key, format!("no such file: {}", file.display()), None);
        }
        file
    }
}
