//! The kinds of YAML file in this project.

/// The kinds of file, told apart by a key only one of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Recipe,
    Pipeline,
    StageList,
    Registry,
}

impl Kind {
    /// What a mapping with these keys must be.
    pub(crate) fn of(keys: &[&str]) -> Self {
        let has = |key: &str| keys.contains(&key);
        if has("recipes") {
            Self::Pipeline
        } else if has("stages") && !has("base") {
            Self::StageList
        } else if has("datasets") && !has("base") {
            Self::Registry
        } else {
            Self::Recipe
        }
    }

    /// The name of its definition in the schema.
    pub(crate) fn definition(self) -> &'static str {
        match self {
            Self::Recipe => "Recipe",
            Self::Pipeline => "Pipeline",
            Self::StageList => "StageList",
            Self::Registry => "Registry",
        }
    }
}
