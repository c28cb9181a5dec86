//! Checks that all models have the same vocabulary. Embeddings are merged row by row, so another tokenizer than the
//! base's is accepted only with the same tokens.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::MergeRequest;

/// Templates that mergekit knows by name and this program does not include.
const NAMED_TEMPLATES: [&str; 4] = ["alpaca", "llama3", "mistral", "exaone"];

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
    let Some(tokenizer) = &request.tokenizer else {
        return problems;
    };
    let Some(base) = tokens(&request.base) else {
        return problems;
    };
    for input in &request.models {
        let Some(own) = tokens(&input.path).filter(|own| *own != base) else {
            continue;
        };
        let differs = own.iter().find(|(token, id)| base.get(*token) != Some(id));
        let missing = base.iter().find(|(token, _)| !own.contains_key(*token));
        let example = differs.or(missing).map_or("", |(token, _)| token.as_str());
        problems.push(format!(
            "tokenizer_source {tokenizer}: the vocabularies of {} and the base differ ({} and {} tokens; `{example}`, for \
             example), but embeddings are merged row by row; convert both to one vocabulary first",
            input.name,
            own.len(),
            base.len()
        ));
    }
    problems
}

fn known_template(name: &str) -> bool {
    ["auto", "chatml"].contains(&name)
}

/// Every token of a folder's tokenizer.json and its id; `None` without such a file.
fn tokens(folder: &Path) -> Option<BTreeMap<String, u64>> {
    let text = std::fs::read(folder.join("tokenizer.json")).ok()?;
    let root: Value = serde_json::from_slice(&text).ok()?;
    let mut tokens = BTreeMap::new();
    match root.pointer("/model/vocab")? {
        Value::Object(vocabulary) => {
            tokens.extend(
                vocabulary
                    .iter()
                    .filter_map(|(token, id)| Some((token.clone(), id.as_u64()?))),
            );
        }
        Value::Array(vocabulary) => {
            let token = |(id, entry): (usize, &Value)| Some((entry.get(0)?.as_str()?.to_owned(), id as u64));
            tokens.extend(vocabulary.iter().enumerate().filter_map(token));
        }
        _ => return None,
    }
    for added in root.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(token), Some(id)) = (
            added.get("content").and_then(Value::as_str),
            added.get("id").and_then(Value::as_u64),
        ) {
            tokens.insert(token.to_owned(), id);
        }
    }
    Some(tokens)
}
