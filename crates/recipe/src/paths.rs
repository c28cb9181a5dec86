//! Paths of a recipe: where they start from, and whether two of them get in each other's way.

use std::path::{Component, Path, PathBuf};

/// Takes `.` and `folder/..` out of a path without asking the file system.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    if tidy.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        tidy
    }
}

/// Whether one path is, or lies inside, the other.
pub(crate) fn overlap(left: &Path, right: &Path) -> bool {
    let full = |path: &Path| tidy(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let (left, right) = (full(left), full(right));
    left.starts_with(&right) || right.starts_with(&left)
}

/// The folder a run lives in, beside what it publishes.
pub(crate) fn run_dir(output: &Path) -> PathBuf {
    let parent = output.parent().unwrap_or(Path::new(""));
    parent.join("runs").join(output.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tidied_without_the_file_system() {
        assert_eq!(tidy(Path::new("recipes/../data/./x")), Path::new("data/x"));
        assert_eq!(tidy(Path::new("../../x")), Path::new("../../x"));
        assert_eq!(tidy(Path::new("a/..")), Path::new("."));
        assert_eq!(tidy(Path::new("/../a")), Path::new("/../a"));
        assert_eq!(run_dir(Path::new("outputs/math")), Path::new("outputs/runs/math"));
        assert!(overlap(Path::new("a/b"), Path::new("a")) && !overlap(Path::new("a/b"), Path::new("a/c")));
    }
}
