//! The front matter of a dataset's README (its "dataset card"): configurations, splits, their files, and the license.
//! Where the card lists no files, the split is taken from the file names.
//!
//! What this is not: it reads no rows and fetches nothing.

use serde_json::{Map, Value};

use crate::glob::{PathPattern, matching};

/// Extensions of files that hold rows, in order of preference.
const ROW_FILES: [&str; 9] = ["parquet", "arrow", "jsonl", "ndjson", "json", "csv", "tsv", "txt", "md"];
/// Extensions of compressed text that come after those.
const COMPRESSIONS: [&str; 2] = [".gz", ".zst"];
/// Splits, and the words in file names that stand for them.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The parts of a README's front matter that select files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) license: Option<String>,
    configs: Vec<Config>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Config {
    name: String,
    default: bool,
    /// Split → globs.
    splits: Vec<(String, Vec<String>)>,
    folder: Option<String>,
}

/// Why no file could be selected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SelectionFailure {
    /// No configuration of that name, or several of which none was named; the existing ones.
    Config(Vec<String>),
    /// No such split; the existing ones.
    Split(Vec<String>),
    /// No file holds rows.
    NoRows,
    /// None of the card's globs matches.
    NoMatch(Vec<String>),
    /// A glob of the card is invalid.
    BadPattern(String),
}

impl Card {
    /// Reads a README; without front matter the card is empty.
    pub(crate) fn parse(readme: &str) -> Result<Self, String> {
        let Some(front) = front_matter(readme) else {
            return Ok(Self::default());
        };
        let card: Map<String, Value> = serde_yaml::from_str(&front).map_err(|error| error.to_string())?;
        let license = strings(card.get("license")).map(|licenses| licenses.join(", "));
        let configs = match card.get("configs") {
            Some(Value::Array(configs)) => configs.iter().map(config).collect::<Result<_, _>>()?,
            Some(Value::Null) | None => Vec::new(),
            Some(_) => return Err("`configs` is not a list".to_owned()),
        };
        Ok(Self { license, configs })
    }

    /// The files of a split, out of all files of the repository.
    pub(crate) fn files(
        &self,
        config: Option<&str>,
        split: &str,
        files: &[String],
    ) -> Result<Vec<String>, SelectionFailure> {
        if self.configs.is_empty() {
            return match config {
                Some(_) => Err(SelectionFailure::Config(Vec::new())),
                None => by_name(files.iter(), split),
            };
        }
        let known = || self.configs.iter().map(|config| config.name.clone()).collect();
        let named = |name: &str| self.configs.iter().find(|config| config.name == name);
        let chosen = match config {
            Some(name) => named(name),
            None => (self.configs.iter().find(|config| config.default))
                .or_else(|| named("default"))
                .or_else(|| Some(&self.configs[0]).filter(|_| self.configs.len() == 1)),
        };
        let chosen = chosen.ok_or_else(|| SelectionFailure::Config(known()))?;
        if chosen.splits.is_empty() {
            let folder = chosen.folder.as_deref().unwrap_or_default();
            return by_name(files.iter().filter(|file| file.starts_with(folder)), split);
        }
        let Some((_, globs)) = chosen.splits.iter().find(|(name, _)| name == split) else {
            return Err(SelectionFailure::Split(
                chosen.splits.iter().map(|(name, _)| name.clone()).collect(),
            ));
        };
        let globs: Vec<&str> = globs.iter().map(|glob| glob.trim_start_matches("./")).collect();
        let patterns = PathPattern::all(&globs).map_err(|error| SelectionFailure::BadPattern(error.to_string()))?;
        let found = matching(&patterns, files);
        if found.is_empty() {
            return Err(SelectionFailure::NoMatch(
                globs.iter().map(|glob| (*glob).to_owned()).collect(),
            ));
        }
        Ok(found)
    }
}

/// The text between the first two `---` lines, if the README begins with one.
fn front_matter(readme: &str) -> Option<String> {
    let mut lines = readme.trim_start_matches('\u{feff}').lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    let mut front = String::new();
    for line in lines {
        if line.trim_end() == "---" {
            return Some(front).filter(|front| !front.trim().is_empty());
        }
        front.push_str(line);
        front.push('\n');
    }
    None
}

fn config(value: &Value) -> Result<Config, String> {
    let name = match value.get("config_name") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Number(name)) => name.to_string(),
        None => "default".to_owned(),
        Some(_) => return Err("a `config_name` is not a name".to_owned()),
    };
    let folder = value.get("data_dir").and_then(Value::as_str);
    let folder = folder.map(|folder| format!("{}/", folder.trim_start_matches("./").trim_end_matches('/')));
    let mut splits = Vec::new();
    let files = value.get("data_files");
    if let Some(globs) = strings(files) {
        splits.push(("train".to_owned(), globs));
    } else {
        let wrong = || format!("`data_files` of the configuration `{name}` cannot be read");
        match files {
            None | Some(Value::Null) => {}
            Some(Value::Object(by_split)) => {
                for (split, globs) in by_split {
                    splits.push((split.clone(), strings(Some(globs)).ok_or_else(wrong)?));
                }
            }
            Some(Value::Array(entries)) => {
                for entry in entries {
                    let split = entry.get("split").and_then(Value::as_str).unwrap_or("train");
                    let globs = strings(entry.get("path")).ok_or_else(wrong)?;
                    splits.push((split.to_owned(), globs));
                }
            }
            Some(_) => return Err(wrong()),
        }
    }
    if let Some(folder) = folder.as_deref().filter(|_| !splits.is_empty()) {
        let inside = |glob: &mut String| glob.insert_str(0, folder);
        splits.iter_mut().flat_map(|(_, globs)| globs).for_each(inside);
    }
    Ok(Config {
        default: value.get("default").and_then(Value::as_bool).unwrap_or(false),
        name,
        splits,
        folder,
    })
}

/// A string, or a list of strings.
fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(texts) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// The split's files by the words in their names. If no name contains the word of a split, all files are `train`.
fn by_name<'f>(files: impl Iterator<Item = &'f String>, split: &str) -> Result<Vec<String>, SelectionFailure> {
    // `state.json` is written beside the Arrow files of `save_to_disk`.
    let documentation = [
        "README.md",
        "LICENSE.md",
        "LICENSE.txt",
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
    ];
    let visible = |file: &&String| {
        let name = file.rsplit('/').next().unwrap_or(file);
        !file.split('/').any(|part| part.starts_with(['.', '_'])) && !documentation.contains(&name)
    };
    let files: Vec<&String> = files.filter(visible).collect();
    let ending = |file: &str| {
        let lower = file.to_ascii_lowercase();
        let plain = COMPRESSIONS.iter().find_map(|ending| lower.strip_suffix(ending));
        let is_text = |ending: &str| !["parquet", "arrow"].contains(&ending);
        let (_, ending) = plain.unwrap_or(&lower).rsplit_once('.')?;
        Some(ending.to_owned()).filter(|ending| plain.is_none() || is_text(ending))
    };
    let of_ending = |wanted: &str| -> Vec<&String> {
        let fits = |file: &&&String| ending(file).as_deref() == Some(wanted);
        files.iter().filter(fits).copied().collect()
    };
    let rows = ROW_FILES
        .iter()
        .map(|wanted| of_ending(wanted))
        .find(|rows| !rows.is_empty());
    let rows = rows.ok_or(SelectionFailure::NoRows)?;
    let split_of = |file: &str| -> Option<&str> {
        let lower = file.to_ascii_lowercase();
        let mut words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.find_map(|word| {
            let named = SPLITS.iter().find(|(_, names)| names.contains(&word));
            named.map(|(split, _)| *split)
        })
    };
    let known: Vec<Option<&str>> = rows.iter().map(|file| split_of(file)).collect();
    let all = known.iter().all(Option::is_none) && split == "train";
    let found: Vec<String> = (rows.iter().zip(&known))
        .filter(|(_, known)| all || **known == Some(split))
        .map(|(file, _)| (*file).clone())
        .collect();
    if found.is_empty() {
        let mut splits: Vec<String> = known.iter().map(|known| known.unwrap_or("train").to_owned()).collect();
        splits.sort();
        splits.dedup();
        return Err(SelectionFailure::Split(splits));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        files.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn configurations_splits_and_folders_are_read() {
        let readme = "---\nlicense: mit\nconfigs:\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    \
                      path: main/train-*\n  - split: test\n    path: [main/test-*]\n- config_name: plain\n  data_dir: ./plain\n\
                      - config_name: mapped\n  data_files: { train: a.jsonl, dev: [b.jsonl] }\n- config_name: one\n  data_files: c.csv\n---\n# x\n";
        let card = Card::parse(readme).unwrap();
        assert_eq!(card.license.as_deref(), Some("mit"));
        let all = names(&[
            "README.md",
            "a.jsonl",
            "b.jsonl",
            "c.csv",
            "main/test-0.parquet",
            "main/train-0.parquet",
            "plain/x.json",
        ]);
        let files = |config: Option<&str>, split: &str| card.files(config, split, &all);
        assert_eq!(files(None, "train").unwrap(), ["main/train-0.parquet"]);
        assert_eq!(files(Some("plain"), "train").unwrap(), ["plain/x.json"]);
        assert_eq!(files(Some("mapped"), "dev").unwrap(), ["b.jsonl"]);
        assert_eq!(files(Some("one"), "train").unwrap(), ["c.csv"]);
        assert_eq!(
            files(Some("two"), "train"),
            Err(SelectionFailure::Config(names(&["main", "plain", "mapped", "one"])))
        );
        assert_eq!(
            files(None, "dev"),
            Err(SelectionFailure::Split(names(&["train", "test"])))
        );
    }

    #[test]
    fn without_a_card_the_file_names_decide() {
        let card = Card::parse("# no front matter\n---\n").unwrap();
        let files = |all: &[&str], split: &str| card.files(None, split, &names(all));
        let mixed = ["README.md", "data/test-0.parquet", "data/train-0.parquet", "extra.json"];
        assert_eq!(files(&mixed, "train").unwrap(), ["data/train-0.parquet"]);
        assert_eq!(
            files(&["b.json", "a.jsonl", ".cache/c.jsonl"], "train").unwrap(),
            ["a.jsonl"]
        );
        assert_eq!(
            files(&mixed, "validation"),
            Err(SelectionFailure::Split(names(&["test", "train"])))
        );
        assert_eq!(
            files(&["README.md", "model.bin"], "train"),
            Err(SelectionFailure::NoRows)
        );
        // Compressed texts are of the format that the ending before says.
        assert_eq!(
            files(&["train.jsonl.gz", "test.JSONL.ZST", "x.parquet.gz", "x.json"], "train").unwrap(),
            ["train.jsonl.gz"]
        );
        assert_eq!(
            files(
                &["data-00000-of-00001.arrow", "state.json", "dataset_info.json"],
                "train"
            )
            .unwrap(),
            ["data-00000-of-00001.arrow"]
        );
        // A word inside another word does not name a split.
        assert_eq!(files(&["latest.jsonl"], "train").unwrap(), ["latest.jsonl"]);
    }

    proptest! {
        #[test]
        fn no_front_matter_makes_it_panic(text in "[-a-z_:\\[\\]{}\"' \n*&!|>#,]{0,80}") {
            if let Ok(card) = Card::parse(&format!("---\nconfigs:\n{text}\n---\n")) {
                let _ = card.files(None, "train", &names(&["a.jsonl"]));
            }
        }
    }

    #[test]
    fn broken_front_matter_is_named_and_never_panics() {
        assert!(Card::parse("---\nconfigs: [\n---\n").is_err());
        assert!(Card::parse("---\nconfigs: 3\n---\n").is_err());
        assert!(Card::parse("---\nconfigs:\n- data_files: [{split: train}]\n---\n").is_err());
        assert_eq!(Card::parse("---\n\n---\n").unwrap(), Card::default());
    }
}
