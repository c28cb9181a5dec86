//! Files and folders appear whole or not at all.

use std::fs;
use std::path::Path;

use synapse_checkpoint::{Staged, sha256_bytes, sha256_file, write_atomic};
use tempfile::tempdir;

use crate::support::message;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_published_folder_replaces_the_old_one_whole() {
    let root = tempdir().unwrap();
    let target = root.path().join("outputs/math");
    for (content, extra) in [("one", "first"), ("two", "second")] {
        let staged = Staged::beside(&target).unwrap();
        fs::write(staged.path().join("config.json"), content).unwrap();
        fs::create_dir(staged.path().join("inner")).unwrap();
        fs::write(staged.path().join("inner").join(extra), "").unwrap();
        staged.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("config.json")).unwrap(), content);
        assert_eq!(names(&target.join("inner")), [extra]);
        assert_eq!(names(&root.path().join("outputs")), ["math"]);
    }
}

#[test]
fn an_abandoned_folder_leaves_nothing_and_the_old_one_untouched() {
    let root = tempdir().unwrap();
    let target = root.path().join("math");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("a"), "old").unwrap();
    let staged = Staged::beside(&target).unwrap();
    fs::write(staged.path().join("a"), "new").unwrap();
    drop(staged);
    assert_eq!(names(root.path()), ["math"]);
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "old");
}

#[test]
fn what_a_killed_process_left_is_cleared_up() {
    let root = tempdir().unwrap();
    let target = root.path().join("math");
    // Killed while writing.
    fs::create_dir(root.path().join(".math.partial")).unwrap();
    fs::write(root.path().join(".math.partial/half"), "").unwrap();
    // Killed between the two renames of a swap.
    fs::create_dir(root.path().join(".math.old")).unwrap();
    fs::write(root.path().join(".math.old/a"), "old").unwrap();
    let staged = Staged::beside(&target).unwrap();
    assert!(names(staged.path()).is_empty());
    drop(staged);
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "old");
    assert_eq!(names(root.path()), ["math"]);
}

#[test]
fn folders_with_other_things_are_not_replaced() {
    let root = tempdir().unwrap();
    let target = root.path().join("home");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("thesis.tex"), "").unwrap();
    let staged = Staged::beside(&target).unwrap();
    fs::write(staged.path().join("config.json"), "").unwrap();
    assert!(message(staged.publish()).contains("home: already holds other things"));
    assert_eq!(names(root.path()), ["home"]);
    assert!(message(Staged::beside(&target.join("thesis.tex"))).contains("thesis.tex: is a file"));
    assert!(message(Staged::beside(Path::new("/"))).contains("has no name of its own"));
    assert!(message(Staged::beside(Path::new(".."))).contains("has no name of its own"));
}

#[test]
fn files_are_replaced_whole_and_hashed() {
    let root = tempdir().unwrap();
    let path = root.path().join("plan.json");
    write_atomic(&path, b"longer than the next").unwrap();
    write_atomic(&path, b"abc").unwrap();
    assert_eq!(names(root.path()), ["plan.json"]);
    // FIPS 180-4's example.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&path).unwrap(), expected);
    assert_eq!(sha256_bytes(b"abc"), expected);
    assert!(message(write_atomic(&root.path().join("none/plan.json"), b"")).contains("could not create "));
}
