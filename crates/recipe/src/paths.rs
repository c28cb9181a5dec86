//! Paths of a recipe: normalized, compared, and the run folder beside an output.

use std::path::{Component, Path, PathBuf};

/// Removes `.` and `folder/..` from a path, without looking at the file system.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut normalize = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normalize.components().next_back(), Some(Component::Normal(_))) => {
                normalize.pop();
            }
            other => normalize.push(other),
        }
    }
    if normalize.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        normalize
    }
}

/// Whether one path is, or lies inside, the other.
pub(crate) fn overlap(left: &Path, right: &Path) -> bool {
    let full = |path: &Path| normalize(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let (left, right) = (full(left), full(right));
    left.starts_with(&right) || right.starts_with(&left)
}

/// The run's own folder, beside the published one.
pub(crate) fn run_dir(output: &Path) -> PathBuf {
    let parent = output.parent().unwrap_or(Path::new(""));
    parent.join("runs").join(output.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_without_the_file_system() {
        assert_eq!(normalize(Path::new("recipes/../data/./x")), Path::new("data/x"));
        assert_eq!(normalize(Path::new("../../x")), Path::new("../../x"));
        assert_eq!(normalize(Path::new("a/..")), Path::new("."));
        assert_eq!(normalize(Path::new("/../a")), Path::new("/../a"));
        assert_eq!(run_dir(Path::new("outputs/math")), Path::new("outputs/runs/math"));
        assert!(overlap(Path::new("a/b"), Path::new("a")) && !overlap(Path::new("a/b"), Path::new("a/c")));
    }
}
