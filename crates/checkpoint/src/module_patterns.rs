//! How adapter_config.json says which modules are meant: suffixes, names and regular expressions, by PEFT's own rules.
//! They are written for Python's `re`; fancy-regex reads the same syntax, lookaround included, and what it cannot read
//! is refused by name.
//!
//! Source: PEFT's `get_pattern_key`, `check_target_module_exists` and `_maybe_include_all_linear_layers`.

use std::cell::RefCell;
use std::collections::HashMap;

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

/// PEFT's shorthand for every linear module except the output head.
const ALL_LINEAR: &str = "all-linear";

/// `target_modules` or `exclude_modules`: a list of names and suffixes, or one regular expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`target_modules` and `exclude_modules` take a list of names or one pattern"
)]
pub enum ModuleNames {
    /// Full names, or the last parts of them.
    List(Vec<String>),
    /// A regular expression for whole names, or `all-linear`.
    Pattern(String),
}

impl ModuleNames {
    /// Whether a module of this full name is meant.
    ///
    /// # Errors
    /// Why the pattern is no regular expression.
    pub(crate) fn contains(&self, module: &str) -> Result<bool, String> {
        match self {
            Self::List(names) => Ok(names.iter().any(|name| {
                module == name
                    || module
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
            })),
            Self::Pattern(word) if word == ALL_LINEAR => Ok(!["lm_head", "model.embed_tokens"].contains(&module)),
            Self::Pattern(pattern) => matches(&format!("^(?:{pattern})$"), module),
        }
    }

    /// The last parts of the names; a pattern stands for itself.
    #[must_use]
    pub fn suffixes(&self) -> Vec<&str> {
        match self {
            Self::Pattern(pattern) => vec![pattern],
            Self::List(names) => {
                let mut suffixes: Vec<&str> = names.iter().filter_map(|name| name.rsplit('.').next()).collect();
                suffixes.sort_unstable();
                suffixes.dedup();
                suffixes
            }
        }
    }
}

/// `rank_pattern` or `alpha_pattern`: values for the modules whose name a key matches, in the order of the file. A key is
/// a regular expression for the whole name or for what follows one of its dots, and the first that matches counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModulePatterns<T>(Vec<(String, T)>);

impl<T> ModulePatterns<T> {
    /// Adds a key behind the others.
    pub fn insert(&mut self, key: impl Into<String>, value: T) {
        self.0.push((key.into(), value));
    }

    /// The value for a module, by its full name. A key that cannot be matched with it matches nothing; whoever opens an
    /// adapter is told of it ([`crate::AdapterConfig::check_target`]).
    #[must_use]
    pub fn get(&self, module: &str) -> Option<&T> {
        let found = self.0.iter().find(|(key, _)| key_matches(key, module).unwrap_or(false));
        found.map(|(_, value)| value)
    }

    /// The first key that cannot be matched with a module's name, with the reason: it is no regular expression, or takes too
    /// long.
    pub(crate) fn unreadable(&self, module: &str) -> Option<(&str, String)> {
        self.0
            .iter()
            .find_map(|(key, _)| Some((key.as_str(), key_matches(key, module).err()?)))
    }
}

impl<T: Serialize> Serialize for ModulePatterns<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for ModulePatterns<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
        let entry = |(key, value)| match serde_json::from_value(value) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(serde::de::Error::custom(format!("`{key}`: {error}"))),
        };
        Ok(Self(
            entries
                .unwrap_or_default()
                .into_iter()
                .map(entry)
                .collect::<Result<_, _>>()?,
        ))
    }
}

/// PEFT's rule for a key: `re.match(rf"(.*\.)?({key})$", module)`.
fn key_matches(key: &str, module: &str) -> Result<bool, String> {
    let (anchored, literal) = match key.strip_prefix('^') {
        Some(literal) => (true, literal),
        None => (false, key),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !literal.bytes().all(plain) {
        return matches(&format!(r"^(.*\.)?({key})$"), module);
    }
    // Adapters with a key for every module are common, and such keys need no regular expression.
    let Some(start) = module.len().checked_sub(literal.len()) else {
        return Ok(false);
    };
    let (before, end) = module.as_bytes().split_at(start);
    let same = literal
        .bytes()
        .zip(end)
        .all(|(wanted, &found)| wanted == b'.' || wanted == found);
    Ok(same && (before.is_empty() || (!anchored && before.ends_with(b"."))))
}

/// The number behind the first dot-separated part that `pattern` matches.
pub(crate) fn layer_index(module: &str, pattern: &str) -> Result<Option<usize>, String> {
    with_regex(&format!(r"^(?:.*?\.)?{pattern}\.(\d+)\."), |regex| {
        let found = regex.captures(module)?;
        Ok(found.and_then(|found| found.iter().last()??.as_str().parse().ok()))
    })
}

/// Whether a module is one of `modules_to_save`, or lies within one.
pub(crate) fn is_within(name: &str, module: &str) -> Result<bool, String> {
    matches(&format!(r"^(?:.*\.)?{name}(?:$|\..*)"), module)
}

fn matches(pattern: &str, module: &str) -> Result<bool, String> {
    with_regex(pattern, |regex| regex.is_match(module))
}

/// Compiled patterns that are kept.
const KEPT: usize = 256;

thread_local! {
    /// The same few patterns are matched with every module of an adapter.
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn with_regex<T>(pattern: &str, find: impl FnOnce(&Regex) -> fancy_regex::Result<T>) -> Result<T, String> {
    COMPILED.with_borrow_mut(|compiled| {
        if !compiled.contains_key(pattern) {
            if compiled.len() >= KEPT {
                compiled.clear();
            }
            let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
            compiled.insert(pattern.to_owned(), regex);
        }
        find(&compiled[pattern]).map_err(|error| error.to_string())
    })
}
