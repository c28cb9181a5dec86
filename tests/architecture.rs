//! The edges between crates are those of the table in crates/README.md, and no others.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::repository;

/// Crate → what it may know, from the table's last column.
fn allowed() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(repository().join("crates/README.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| crate "));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let known = if cells[2] == "–" {
            Vec::new()
        } else {
            cells[2].split_whitespace().map(str::to_owned).collect()
        };
        (cells[0].to_owned(), known)
    })
    .collect()
}

fn folder_of(package: &str) -> String {
    if package == "synapse-train" {
        "cli".to_owned()
    } else {
        package.trim_start_matches("synapse-").to_owned()
    }
}

#[test]
fn edges_are_those_of_the_table() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = allowed();
    let mut seen = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = folder_of(package["name"].as_str().unwrap());
        let known = allowed
            .get(&name)
            .unwrap_or_else(|| panic!("crates/README.md has no line for `{name}`"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            // tests may use any crate
            if dependency["kind"] == "dev" || !target.starts_with("synapse-") {
                continue;
            }
            let target = folder_of(target);
            assert!(
                known.contains(&target) || known == &["all"],
                "`{name}` depends on `{target}`, which crates/README.md does not allow"
            );
        }
        seen.push(name);
    }
    for name in allowed.keys() {
        assert!(
            seen.contains(name),
            "crates/README.md lists `{name}`, which is not a crate"
        );
    }
}

#[test]
fn crates_without_candle_stay_without() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "-p",
            "synapse-merge",
            "-p",
            "synapse-server",
            "-p",
            "synapse-recipe",
            "-p",
            "synapse-tokenizer",
        ])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains("candle"),
        "a crate that must build without candle depends on it"
    );
}

/// The public types of one crate: `pub struct`, `enum`, `trait`, `type` and `union` outside of test modules.
fn public_types(source: &str) -> impl Iterator<Item = &str> {
    let tests = source.find("\nmod tests {").unwrap_or(source.len());
    source[..tests].lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
        let (kind, rest) = rest.split_once(' ')?;
        if !["struct", "enum", "trait", "type", "union"].contains(&kind) {
            return None;
        }
        rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .next()
    })
}

/// A reader who meets a name finds one thing behind it. Each crate's `Result` is the exception.
#[test]
fn no_two_public_types_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders = vec![repository().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(repository()).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if inside.ends_with(".rs") && inside.contains("/src/") {
                let source = std::fs::read_to_string(&path).unwrap();
                for name in public_types(&source) {
                    places.entry(name.to_owned()).or_default().push(inside.clone());
                }
            }
        }
    }
    assert!(places.len() > 300, "only {} public types were found", places.len());
    places.retain(|name, found| found.len() > 1 && name != "Result");
    assert!(places.is_empty(), "public types of one name: {places:#?}");
}
