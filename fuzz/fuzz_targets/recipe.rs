//! A recipe or pipeline: parsed, checked against the schema, resolved. Every problem is a diagnostic, none a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = synapse_fuzz::file("recipe.yaml", text.as_bytes());
    let _ = synapse_recipe::check(&path, &[]);
    if let Err(problems) = synapse_recipe::load(&path, &["train.max_steps=3".to_owned()]) {
        assert!(!problems.to_string().is_empty());
    }
});
