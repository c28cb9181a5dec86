//! The auxiliary files of a model folder.

use std::fs;

use serde_json::{Value, json};
use synapse_checkpoint::DType;
use synapse_export::{ConfigChanges, copy_auxiliary_files, copy_tokenizer_files, write_config};
use tempfile::tempdir;

use crate::model_folder;

#[test]
fn tokenizer_template_and_settings_are_copied() {
    let root = tempdir().unwrap();
    let base = model_folder("qwen2", root.path());
    fs::write(base.join("LICENSE"), "Apache").unwrap();
    let out = root.path().join("out");
    fs::create_dir(&out).unwrap();
    let written = copy_tokenizer_files(&base, &out).unwrap();
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
        copy_tokenizer_files(&base, root.path()).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("chat_template.jinja")).unwrap(),
            expected
        );
    }
    fs::remove_file(base.join("tokenizer.json")).unwrap();
    assert!(
        copy_tokenizer_files(&base, root.path())
            .unwrap_err()
            .to_string()
            .contains("`tokenizer.json` does not exist")
    );
}

#[test]
fn config_declares_the_type_of_the_stored_weights() {
    let root = tempdir().unwrap();
    let base = model_folder("llama", root.path());
    let read = || serde_json::from_slice::<Value>(&fs::read(root.path().join("config.json")).unwrap()).unwrap();
    let original: Value = serde_json::from_slice(&fs::read(base.join("config.json")).unwrap()).unwrap();
    let dtype = |dtype| ConfigChanges {
        dtype: Some(dtype),
        ..ConfigChanges::default()
    };
    write_config(&base, root.path(), &dtype(DType::F32)).unwrap();
    let mut expected = original.clone();
    expected["torch_dtype"] = json!("float32");
    assert_eq!(read(), expected);

    let mut new = original;
    new.as_object_mut().unwrap().remove("torch_dtype");
    new["dtype"] = json!("float32");
    new["of_another_tool"] = json!([1]);
    fs::write(base.join("config.json"), new.to_string()).unwrap();
    write_config(&base, root.path(), &dtype(DType::BF16)).unwrap();
    new["dtype"] = json!("bfloat16");
    assert_eq!(read(), new);
    assert!(
        write_config(&base, root.path(), &dtype(DType::U8))
            .unwrap_err()
            .to_string()
            .contains("cannot be U8")
    );
}

#[test]
fn config_changes_nothing_else() {
    let root = tempdir().unwrap();
    let (base, out) = (root.path().join("base"), root.path().join("out"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&out).unwrap();
    let made = |text: &str, dtype, num_hidden_layers| {
        fs::write(base.join("config.json"), text).unwrap();
        let changes = ConfigChanges {
            dtype,
            num_hidden_layers,
            ..ConfigChanges::default()
        };
        write_config(&base, &out, &changes).unwrap();
        fs::read_to_string(out.join("config.json")).unwrap()
    };
    let text = r#"{"a": 1, "torch_dtype": "bfloat16", "b": 1e-05, "num_hidden_layers": 2, "layer_types": ["x", "x"]}"#;
    assert_eq!(made(text, None, None), text);
    assert_eq!(made(text, Some(DType::BF16), None), text);
    let changed = made(text, Some(DType::F32), Some(3));
    assert!(changed.contains("\"torch_dtype\": \"float32\"") && changed.contains("\"num_hidden_layers\": 3"));
    assert!(changed.contains("\"b\": 0.00001"), "{changed}");
    assert_eq!(changed.matches("\"x\"").count(), 3);
    let newer = made(r#"{"dtype": "float16"}"#, Some(DType::F32), None);
    assert_eq!(newer, "{\n  \"dtype\": \"float32\"\n}\n");
}

#[test]
fn a_base_without_a_tokenizer_still_gives_its_other_files() {
    let root = tempdir().unwrap();
    let (base, out) = (root.path().join("base"), root.path().join("out"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(base.join("NOTICE"), "n").unwrap();
    assert_eq!(copy_auxiliary_files(&base, &out).unwrap(), ["NOTICE"]);
    assert_eq!(fs::read(out.join("NOTICE")).unwrap(), b"n");
}
