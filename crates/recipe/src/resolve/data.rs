//! The data half of a recipe: what each source's name stands for, how many rows each gives, and
//! which rows may not be trained on.

use std::path::{Path, PathBuf};

use crate::document::Source as Document;
use crate::enums::Format;
use crate::plan::{DataPlan, LimitsPlan, Location, Portion, RequestsPlan, Samples, SourcePlan, SpecialistPlan};
use crate::raw::{Limits, Recipe, SamplesWord, SamplesWritten, Source};
use crate::registry::{Registry, RegistryEntry};
use crate::resolve::Resolver;
use crate::resolve::base::hub_id;
use crate::resolve::specialist;
use crate::schema::Kind;
use crate::suggest::{alternatives, nearest};

/// The name of generated routing rows.
const ROUTING: &str = "routing";
/// Endings of files whose rows can be read.
/// Labels whose requests specialists answer.
const DOMAINS: [&str; 3] = ["math", "code", "general"];
const EXTENSIONS: [&str; 8] = ["parquet", "json", "jsonl", "ndjson", "csv", "tsv", "txt", "md"];

/// Resolves `data:` and the keys that go with it.
pub(crate) fn data_plan(
    resolver: &mut Resolver<'_>,
    recipe: &Recipe,
    registry: Option<&Registry>,
    default_held_out: u64,
) -> DataPlan {
    let sources = recipe
        .data
        .iter()
        .enumerate()
        .map(|(index, source)| resolver.source_plan(&format!("data.{index}"), source, registry))
        .collect();
    resolver.mixture(recipe);
    if let Some(most) = recipe.filters.max_chars
        && most < recipe.filters.min_chars
    {
        let message = format!(
            "`filters.max_chars` is below `filters.min_chars`: {most} and {}",
            recipe.filters.min_chars
        );
        resolver.value("filters.max_chars", message, Some("no row would be left".to_owned()));
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

impl RequestsPlan {
    /// A recipe's requests for one label; none if it asks nothing.
    pub(crate) fn of(label: &str, recipe: &SpecialistPlan) -> Option<Self> {
        let mut data = recipe.data.clone();
        data.sources.retain(|source| source.format != Some(Format::Text));
        let questions = recipe.evaluate.questions().filter(|_| data.decontaminate);
        let questions = questions
            .map(|(suite, file)| (suite, file.map(Path::to_owned)))
            .collect();
        (!data.sources.is_empty()).then(|| Self {
            label: label.to_owned(),
            recipe: recipe.name.clone(),
            file: recipe.file.clone(),
            data,
            questions,
        })
    }
}

impl Resolver<'_> {
    /// Further benchmarks; they are of use only where something is kept out.
    fn benchmarks(&mut self, recipe: &Recipe) -> Vec<PathBuf> {
        let filters = &recipe.filters;
        if !filters.benchmarks.is_empty() && !filters.decontaminate {
            let hint = "add `decontaminate: true`".to_owned();
            let message = "`benchmarks` are read only to keep them out of training";
            self.key("filters.benchmarks", message, Some(hint));
        }
        let files = filters.benchmarks.iter().enumerate();
        files
            .map(|(index, file)| self.existing_file(&format!("filters.benchmarks.{index}"), file))
            .collect()
    }

    /// Whether the sources' numbers of rows and `total` go together.
    fn mixture(&mut self, recipe: &Recipe) {
        let rest: Vec<usize> = (0..recipe.data.len())
            .filter(|index| matches!(recipe.data[*index].samples, SamplesWritten::Word(SamplesWord::Rest)))
            .collect();
        let counted: u64 = recipe
            .data
            .iter()
            .map(|source| match source.samples {
                SamplesWritten::Count(count) => count,
                SamplesWritten::Word(_) => 0,
            })
            .fold(0, u64::saturating_add);
        if let Some(again) = rest.get(1) {
            self.value(
                &format!("data.{again}.samples"),
                "only one source can take the rest",
                None,
            );
        }
        match (rest.first(), recipe.total) {
            (Some(first), None) => {
                let hint = "add `total:`, the number of training rows over all sources";
                self.value(
                    &format!("data.{first}.samples"),
                    "`samples: rest` needs `total`",
                    Some(hint.to_owned()),
                );
            }
            (None, Some(_)) => {
                let hint = "let one source say `samples: rest`, or remove `total`";
                self.key(
                    "total",
                    "`total` has nothing to fill: no source says `samples: rest`",
                    Some(hint.to_owned()),
                );
            }
            (Some(_), Some(total)) if counted >= total => {
                let message = format!(
                    "the sources' samples add up to {counted}, which leaves nothing of `total: {total}` to the rest"
                );
                self.value("total", message, None);
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
            self.generated(key, source);
            Location::Routing
        } else if let Some(entry) = entry {
            self.registered(key, source, entry)
        } else {
            self.unregistered(key, source, registry)
        };
        let format = source.format.or(entry.map(|entry| entry.format));
        self.columns(key, source, format);
        let held_out_file = source
            .held_out_file
            .as_ref()
            .map(|file| self.existing_file(&format!("{key}.held_out_file"), file));
        SourcePlan {
            dataset: source.dataset.clone(),
            location,
            samples: match source.samples {
                SamplesWritten::Word(SamplesWord::All) => Samples::All,
                SamplesWritten::Word(SamplesWord::Rest) => Samples::Rest,
                SamplesWritten::Count(count) => Samples::Count(count),
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
            requests: self.requests(key, source),
        }
    }

    /// The recipes whose requests generated rows are made of.
    fn requests(&mut self, key: &str, source: &Source) -> Vec<RequestsPlan> {
        if source.dataset != ROUTING && !source.requests.is_empty() {
            let message = "`requests` are for generated rows (`dataset: routing`)";
            self.key(&format!("{key}.requests"), message, None);
            return Vec::new();
        }
        let mut plans = Vec::new();
        for (label, written) in &source.requests {
            let key = format!("{key}.requests.{label}");
            if !DOMAINS.contains(&label.as_str()) {
                let hint = format!("the specialists' labels are {}", alternatives(DOMAINS));
                self.key(&key, format!("no specialist answers `{label}`"), Some(hint));
                continue;
            }
            let file = self.existing_file(&key, written);
            if file.is_file() {
                plans.extend(self.requests_of(&key, label, &file));
            }
        }
        plans
    }

    fn requests_of(&mut self, key: &str, label: &str, file: &Path) -> Option<RequestsPlan> {
        let mut recipe = match Document::read(file) {
            Ok(recipe) => recipe,
            Err(diagnostics) => {
                self.problems.extend(diagnostics.problems);
                return None;
            }
        };
        if recipe.kind() != Kind::Recipe {
            self.value(key, format!("{} is not a recipe", file.display()), None);
            return None;
        }
        // Also keeps a recipe from asking itself.
        if recipe.names_dataset(ROUTING) {
            let message = format!(
                "the rows of {} are generated; they are nobody's requests",
                file.display()
            );
            self.value(key, message, None);
            return None;
        }
        let plan = match specialist(&mut recipe, Vec::new()) {
            Ok(plan) => plan,
            Err(diagnostics) => {
                self.problems.extend(diagnostics.problems);
                return None;
            }
        };
        RequestsPlan::of(label, &plan).or_else(|| {
            self.value(
                key,
                format!("{} has plain text only, which asks for nothing", file.display()),
                None,
            );
            None
        })
    }

    /// Generated rows have neither files nor an end.
    fn generated(&mut self, key: &str, source: &Source) {
        let given = [
            ("split", source.split.0 != "train"),
            ("files", !source.files.is_empty()),
            ("config", source.config.is_some()),
            ("shards", source.shards.is_some()),
            ("revision", source.revision.is_some()),
            ("first_rows", source.first_rows.is_some()),
            ("format", source.format.is_some()),
            ("map", !source.map.is_empty()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            self.key(
                &format!("{key}.{name}"),
                format!("routing rows are generated, `{name}` has no meaning for them"),
                None,
            );
        }
        if matches!(source.samples, SamplesWritten::Word(SamplesWord::All)) {
            let hint = "a number of rows, or `rest`";
            self.value(
                &format!("{key}.samples"),
                "routing rows are generated without end; `samples` must say how many",
                Some(hint.to_owned()),
            );
        }
    }

    fn registered(&mut self, key: &str, source: &Source, entry: &RegistryEntry) -> Location {
        if source.split.0 != "train" {
            self.refuse_split(
                key,
                source,
                if entry.files.test.is_empty() {
                    "it has only `train`"
                } else {
                    "train on `train`"
                },
            );
        }
        for (index, pattern) in source.files.iter().enumerate() {
            if entry.reaches_test_files(pattern) {
                let message = format!(
                    "`{pattern}` reaches the test split of {}, which is never trained on",
                    entry.id
                );
                let hint = format!(
                    "its training files are {}",
                    alternatives(entry.files.train.iter().map(String::as_str))
                );
                self.value(&format!("{key}.files.{index}"), message, Some(hint));
            }
        }
        if source.config.is_some() {
            let message = format!(
                "the registry names the files of {}, so `config` has no meaning",
                entry.id
            );
            let hint = "name other files under `files:`".to_owned();
            self.key(&format!("{key}.config"), message, Some(hint));
        }
        // Files named one by one are all wanted.
        let shards = if source.files.is_empty() { entry.shards } else { None };
        Location::Hub {
            id: entry.id.clone(),
            revision: source.revision.clone().or_else(|| entry.revision.clone()),
            files: if source.files.is_empty() {
                entry.files.train.clone()
            } else {
                source.files.clone()
            },
            config: None,
            portion: Portion {
                shards: source.shards.or(shards),
                first_rows: source.first_rows.or(entry.first_rows),
            },
        }
    }

    fn refuse_split(&mut self, key: &str, source: &Source, hint: &str) {
        let message = match source.split.0.as_str() {
            "test" => format!(
                "the test split of {} measures models and is never trained on",
                source.dataset
            ),
            other => format!("{} has no split `{other}` to train on", source.dataset),
        };
        self.value(&format!("{key}.split"), message, Some(hint.to_owned()));
    }

    /// A local file, a hub id, or a name nobody knows.
    fn unregistered(&mut self, key: &str, source: &Source, registry: Option<&Registry>) -> Location {
        let name = source.dataset.as_str();
        let value_key = format!("{key}.dataset");
        let path = self.input(&value_key, Path::new(name));
        let extension = Path::new(name)
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default()
            .to_lowercase();
        let known = EXTENSIONS.contains(&extension.as_str());
        if known || path.is_file() || name.starts_with(['.', '/', '~']) {
            return self.local(key, source, path, known);
        }
        if let Some((id, revision)) = hub_id(name) {
            if source.split.0.contains("test") {
                self.refuse_split(key, source, "train on `train`");
            }
            for (index, pattern) in source.files.iter().enumerate() {
                let mut words = pattern.split(|letter: char| !letter.is_ascii_alphanumeric());
                if words.any(|word| word.eq_ignore_ascii_case("test")) {
                    let message =
                        format!("`{pattern}` names a test split, which measures models and is never trained on");
                    let hint = "name its training files".to_owned();
                    self.value(&format!("{key}.files.{index}"), message, Some(hint));
                }
            }
            if !source.files.is_empty() {
                let given = [
                    ("config", source.config.is_some()),
                    ("split", source.split.0 != "train"),
                ];
                for (name, _) in given.iter().filter(|(_, given)| *given) {
                    let message = format!("`files` already says which files are read, so `{name}` has no meaning");
                    self.key(
                        &format!("{key}.{name}"),
                        message,
                        Some(format!("remove `files` or `{name}`")),
                    );
                }
            }
            return Location::Hub {
                id,
                revision: source.revision.clone().or(revision),
                files: source.files.clone(),
                config: source.config.clone(),
                portion: Portion {
                    shards: source.shards,
                    first_rows: source.first_rows,
                },
            };
        }
        let names = registry.map(|registry| {
            registry
                .datasets
                .keys()
                .map(String::as_str)
                .chain([ROUTING])
                .collect::<Vec<_>>()
        });
        let hint = match &names {
            Some(names) => match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "known names are {}; hub ids (organization/name) and local files work too",
                    alternatives(names.iter().copied())
                ),
            },
            None => "there is no data/registry.yaml here or above; use a hub id (organization/name) or a local file"
                .to_owned(),
        };
        self.value(&value_key, format!("unknown dataset `{name}`"), Some(hint));
        Location::File(path)
    }

    fn local(&mut self, key: &str, source: &Source, path: PathBuf, known: bool) -> Location {
        let value_key = format!("{key}.dataset");
        if path.is_dir() {
            self.value(
                &value_key,
                format!("expected a file, {} is a folder", path.display()),
                None,
            );
        } else if !path.is_file() {
            self.value(&value_key, format!("no such file: {}", path.display()), None);
        } else if !known {
            let hint = format!("files end in {}", alternatives(EXTENSIONS));
            self.value(
                &value_key,
                format!("cannot tell what is in {}", path.display()),
                Some(hint),
            );
        }
        let given = [
            ("split", source.split.0 != "train"),
            ("files", !source.files.is_empty()),
            ("config", source.config.is_some()),
            ("shards", source.shards.is_some()),
            ("first_rows", source.first_rows.is_some()),
            ("revision", source.revision.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            self.key(
                &format!("{key}.{name}"),
                format!("`{name}` has no meaning for a local file"),
                None,
            );
        }
        Location::File(path)
    }

    /// A map may only rename fields that the format has.
    fn columns(&mut self, key: &str, source: &Source, format: Option<Format>) {
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
            self.key(&format!("{key}.map.{field}"), message, Some(hint));
        }
    }

    pub(crate) fn existing_file(&mut self, key: &str, written: &Path) -> PathBuf {
        let file = self.input(key, written);
        if !file.is_file() {
            self.value(key, format!("no such file: {}", file.display()), None);
        }
        file
    }
}
