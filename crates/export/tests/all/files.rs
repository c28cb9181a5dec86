//! The files beside the weights.

use std::fs;

use serde_json::{Value, json};
use synapse_checkpoint::DType;
use synapse_export::{copy_model_folder_files, write_config};
use tempfile::tempdir;

use crate::model_folder;

#[test]
fn tokenizer_template_and_settings_travel_with_the_model() {
    let root = tempdir().unwrap();
    let base = model_folder("qwen2", root.path());
    fs::write(base.join("LICENSE"), "Apache").unwrap();
    let out = root.path().join("out");
    fs::create_dir(&out).unwrap();
    let written = copy_model_folder_files(&base, &out).unwrap();
    assert_eq!(
        written,
        [
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "LICENSE"
        ]
    );
    for name in &written {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(base.join(name)).unwrap());
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), written.len());
}

#[test]
fn a_template_kept_in_the_tokenizer_configuration_gets_its_own_file() {
    let root = tempdir().unwrap();
    let base = model_folder("qwen2", root.path());
    fs::remove_file(base.join("chat_template.jinja")).unwrap();
    let path = base.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let several = json!([{"name": "tool_use", "template": "b"}, {"name": "default", "template": "c"}]);
    for (template, expected) in [(json!("a"), "a"), (several, "c")] {
        config["chat_template"] = template;
        fs::write(&path, config.to_string()).unwrap();
        copy_model_folder_files(&base, root.path()).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("chat_template.jinja")).unwrap(),
            expected
        );
    }
    fs::remove_file(base.join("tokenizer.json")).unwrap();
    assert!(
        copy_model_folder_files(&base, root.path())
            .unwrap_err()
            .to_string()
            .contains("`tokenizer.json` does not exist")
    );
}

#[test]
fn the_configuration_says_what_the_weights_are_stored_as() {
    let root = tempdir().unwrap();
    let base = model_folder("llama", root.path());
    let read = || serde_json::from_slice::<Value>(&fs::read(root.path().join("config.json")).unwrap()).unwrap();
    let original: Value = serde_json::from_slice(&fs::read(base.join("config.json")).unwrap()).unwrap();
    write_config(&base, root.path(), DType::F32).unwrap();
    let mut expected = original.clone();
    expected["torch_dtype"] = json!("float32");
    assert_eq!(read(), expected);

    let mut new = original;
    new.as_object_mut().unwrap().remove("torch_dtype");
    new["dtype"] = json!("float32");
    new["of_another_tool"] = json!([1]);
    fs::write(base.join("config.json"), new.to_string()).unwrap();
    write_config(&base, root.path(), DType::BF16).unwrap();
    new["dtype"] = json!("bfloat16");
    assert_eq!(read(), new);
    assert!(
        write_config(&base, root.path(), DType::U8)
            .unwrap_err()
            .to_string()
            .contains("cannot be U8")
    );
}
