//! The JSON Schema of everything YAML in this project, generated from the types.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::raw::{Pipeline, Recipe, StageList};
use crate::registry::Registry;

/// The JSON Schema of recipes, pipelines, stage lists and the dataset registry.
///
/// Editors read it from `recipes/schema.json`; validation walks the same value.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    generator.subschema_for::<Recipe>();
    generator.subschema_for::<Pipeline>();
    generator.subschema_for::<StageList>();
    generator.subschema_for::<Registry>();
    let definitions: serde_json::Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    let reference = |kind: Kind| json!({ "$ref": format!("#/$defs/{}", kind.definition()) });
    let marked_by = |key: &str, never: &str| json!({ "required": [key], "not": { "required": [never] } });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Synapse recipes and pipelines",
        "type": "object",
        "if": { "required": ["recipes"] },
        "then": reference(Kind::Pipeline),
        "else": {
            "if": marked_by("stages", "base"),
            "then": reference(Kind::StageList),
            "else": {
                "if": marked_by("datasets", "base"),
                "then": reference(Kind::Registry),
                "else": reference(Kind::Recipe),
            },
        },
        "$defs": definitions,
    })
}
