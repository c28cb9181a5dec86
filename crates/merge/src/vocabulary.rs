//! Whether all models have one vocabulary, token by token. Embeddings are merged row by row, so a row must be the same token
//! everywhere: other vocabularies are refused, unless the file says `tokenizer_source: base`; then each model's rows are
//! taken by the base's tokens, as mergekit takes them.
//!
//! What this is not: the tokenizer of the output, which is always the base's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::{Input, MergeRequest};

/// Templates that mergekit knows by name and this program does not include.
const NAMED_TEMPLATES: [&str; 4] = ["alpaca", "llama3", "mistral", "exaone"];
/// Differing tokens that a message shows.
const SHOWN: usize = 3;

/// The tokens of one tokenizer.json.
struct Vocabulary {
    /// By id.
    tokens: BTreeMap<usize, String>,
    /// What added tokens say of themselves, by content.
    added: BTreeMap<String, Vec<(&'static str, bool)>>,
}

/// Where a model's rows of the embedding come from, by the base's rows: a row of the model, or the base's own.
pub(crate) type RowMap = Vec<Option<usize>>;

/// Why a request's tokenizer or chat template cannot be used.
pub(crate) fn problems(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(template) = &request.chat_template
        && (NAMED_TEMPLATES.contains(&template.as_str()) || !template.contains('{') && !known_template(template))
    {
        problems.push(format!(
            "unknown chat_template `{template}`; write `auto`, `chatml`, or the template itself"
        ));
    }
    let by_token = takes_rows_by_token(request);
    let unread = |name: &str, folder: &Path| {
        let file = folder.join("tokenizer.json");
        format!(
            "{name}: tokenizer_source takes rows by token, but {} has no readable vocabulary",
            file.display()
        )
    };
    let Some(base) = Vocabulary::read(&request.base) else {
        problems.extend((by_token && !request.models.is_empty()).then(|| unread("base", &request.base)));
        return problems;
    };
    for input in &request.models {
        let Some(own) = Vocabulary::read(&input.path) else {
            problems.extend(by_token.then(|| unread(&input.name, &input.path)));
            continue;
        };
        if own.tokens == base.tokens {
            continue;
        }
        if by_token {
            // Without a base, what a row is that only some models have depends on how many have it.
            if !request.uses_base && request.models.len() > 2 && !own.has_all(&base) {
                problems.push(format!(
                    "{}: tokenizer_source `base` needs a base_model that takes part, because the model lacks tokens: {}",
                    input.name,
                    base.differences(&own, &input.name)
                ));
            }
            continue;
        }
        let way_out = match &request.tokenizer {
            None if request.slices.is_empty() => {
                "to keep the base's vocabulary and take each model's rows by token, write `tokenizer_source: base` in a \
                 merge file"
                    .to_owned()
            }
            None => "convert the models to one vocabulary first".to_owned(),
            Some(source) => format!(
                "tokenizer_source `{source}` cannot join them; `base` can, for models that are not stacked"
            ),
        };
        problems.push(format!(
            "{}: its vocabulary is not the base's, and embeddings are merged row by row: {}; {way_out}",
            input.name,
            base.differences(&own, &input.name)
        ));
    }
    problems
}

/// What the user should know of tokenizers that share their ids: only the base's comes with the output.
#[must_use]
pub fn tokenizer_notes(request: &MergeRequest) -> Vec<String> {
    let Some(base) = Vocabulary::read(&request.base) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for input in request.inputs() {
        let Some(own) = Vocabulary::read(&input.path) else {
            continue;
        };
        if own.tokens != base.tokens {
            notes.push(format!(
                "{}: its tokenizer differs from the base's, which the output has: {}",
                input.name,
                base.differences(&own, &input.name)
            ));
        } else if let Some(difference) = base.added_difference(&own, &input.name) {
            notes.push(format!(
                "{}: its tokenizer differs from the base's, which the output has: {difference}",
                input.name
            ));
        }
    }
    notes
}

/// Whether the request asks for the base's vocabulary, whatever the models' own are.
fn takes_rows_by_token(request: &MergeRequest) -> bool {
    let is_base = |source: &str| source == "base" || source == request.reference_of(&request.base);
    request.tokenizer.as_deref().is_some_and(is_base) && request.slices.is_empty()
}

/// Where a checkpoint's rows of `rows` of the embedding come from; `None` where they are in the base's order.
pub(crate) fn row_map(request: &MergeRequest, input: &Input, rows: usize, own_rows: usize) -> Option<RowMap> {
    if !takes_rows_by_token(request) {
        return None;
    }
    let (base, own) = (Vocabulary::read(&request.base)?, Vocabulary::read(&input.path)?);
    if base.tokens == own.tokens && rows == own_rows {
        return None;
    }
    let ids: BTreeMap<&str, usize> = own.tokens.iter().map(|(&id, token)| (token.as_str(), id)).collect();
    let of_row = |row: usize| {
        let own_row = match base.tokens.get(&row) {
            Some(token) => ids.get(token.as_str()).copied(),
            // Rows without a token only pad the matrix.
            None => Some(row).filter(|row| !own.tokens.contains_key(row)),
        };
        own_row.filter(|&row| row < own_rows)
    };
    Some((0..rows).map(of_row).collect())
}

fn known_template(name: &str) -> bool {
    ["auto", "chatml"].contains(&name)
}

impl Vocabulary {
    /// The tokens of a folder's tokenizer.json; `None` without such a file, or where it is not readable.
    fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join("tokenizer.json")).ok()?;
        let root: Value = serde_json::from_slice(&text).ok()?;
        let mut read = Self {
            tokens: BTreeMap::new(),
            added: BTreeMap::new(),
        };
        match root.pointer("/model/vocab")? {
            Value::Object(vocabulary) => {
                let token = |(token, id): (&String, &Value)| Some((as_id(id)?, token.clone()));
                read.tokens.extend(vocabulary.iter().filter_map(token));
            }
            Value::Array(vocabulary) => {
                let token = |(id, entry): (usize, &Value)| Some((id, entry.get(0)?.as_str()?.to_owned()));
                read.tokens.extend(vocabulary.iter().enumerate().filter_map(token));
            }
            _ => return None,
        }
        for added in root.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(token), Some(id)) = (
                added.get("content").and_then(Value::as_str),
                added.get("id").and_then(as_id),
            ) {
                let flag = |name: &'static str| (name, added[name] == true);
                let flags = ["special", "single_word", "lstrip", "rstrip", "normalized"].map(flag);
                read.tokens.insert(id, token.to_owned());
                read.added.insert(token.to_owned(), flags.to_vec());
            }
        }
        Some(read)
    }

    /// Whether it has every token of another one.
    fn has_all(&self, other: &Self) -> bool {
        let own: std::collections::BTreeSet<&String> = self.tokens.values().collect();
        other.tokens.values().all(|token| own.contains(token))
    }

    /// The first ids that stand for other tokens, and how many do.
    fn differences(&self, own: &Self, name: &str) -> String {
        let ids: std::collections::BTreeSet<usize> = self.tokens.keys().chain(own.tokens.keys()).copied().collect();
        let differing: Vec<usize> = ids
            .into_iter()
            .filter(|id| self.tokens.get(id) != own.tokens.get(id))
            .collect();
        let shown = |token: Option<&String>| token.map_or_else(|| "no token".to_owned(), |token| format!("`{token}`"));
        let mut text = String::new();
        for (index, id) in differing.iter().take(SHOWN).enumerate() {
            let before = if index == 0 { "" } else { ", " };
            let (base, own) = (shown(self.tokens.get(id)), shown(own.tokens.get(id)));
            // Writing to a String cannot fail.
            let _ = write!(text, "{before}id {id} is {base} in the base and {own} in {name}");
        }
        match differing.len().saturating_sub(SHOWN) {
            0 => text,
            more => format!("{text}, and {more} more"),
        }
    }

    /// The first added token that the two treat differently.
    fn added_difference(&self, own: &Self, name: &str) -> Option<String> {
        let tokens = self.added.keys().chain(own.added.keys());
        tokens
            .into_iter()
            .find_map(|token| match (self.added.get(token), own.added.get(token)) {
                (Some(base), Some(other)) => {
                    let (&(flag, is), _) = base.iter().zip(other).find(|(base, other)| base != other)?;
                    let (on, off) = if is { ("the base", name) } else { (name, "the base") };
                    Some(format!("`{token}` is `{flag}` in {on} and not in {off}"))
                }
                (Some(_), None) => Some(format!("`{token}` is an added token in the base and not in {name}")),
                (None, _) => Some(format!("`{token}` is an added token in {name} and not in the base")),
            })
    }
}

fn as_id(id: &Value) -> Option<usize> {
    usize::try_from(id.as_u64()?).ok()
}
