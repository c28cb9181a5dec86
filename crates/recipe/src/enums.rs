//! The enumerations that mean the same in a recipe as written and in its plan.
//!
//! This crate owns the written words. The crates that carry them out have types of their own; whoever knows both
//! converts one into the other variant by variant.

/// Gives an enumeration its words, from one table: `ALL`, `id`, `Display` and `FromStr`.
macro_rules! words {
    ($name:ident, $noun:literal { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// Every value, in the order in which they are listed to a reader.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word used in YAML and on the command line.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.id())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.into_iter().find(|value| value.id() == text).ok_or_else(|| {
                    format!(
                        concat!("unknown ", $noun, " `{}`; expected {}"),
                        text,
                        $crate::suggest::alternatives(Self::ALL.map(Self::id))
                    )
                })
            }
        }
    };
}

mod data;
mod evaluation;
mod merging;
mod stage;
mod training;

pub use data::Format;
pub use evaluation::{Prompting, SuiteId};
pub use merging::{ExportDtype, GateAction, GgufQuantization, MergeMethod, SignVote};
pub use stage::Stage;
pub use training::{ComputeDtype, LINEAR_MODULES, LossOn, Overlong, Recompute, Scheduler};

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use serde::Serialize;

    use super::*;

    /// The word under which a value is written to plans and read from YAML.
    fn serialized(value: &impl Serialize) -> String {
        serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn words_are_those_that_plans_hold() {
        macro_rules! check {
            ($($name:ident),+) => {$(
                for value in $name::ALL {
                    assert_eq!(serialized(&value), value.id());
                    assert_eq!(value.id().parse::<$name>().unwrap(), value);
                }
            )+};
        }
        check!(
            ExportDtype,
            Format,
            GgufQuantization,
            MergeMethod,
            SignVote,
            Stage,
            SuiteId
        );
    }

    #[test]
    fn unknown_words_are_refused_with_the_known_ones() {
        assert_eq!(
            "trian".parse::<Stage>().unwrap_err(),
            "unknown stage `trian`; expected `fetch`, `prepare`, `train`, `evaluate`, `merge`, `gate` or `export`"
        );
    }
}
