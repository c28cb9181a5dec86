//! The templates of the routing data by label, each with a training and a held-out column, and the words that fill their
//! slots. The text itself is in phrases.json.
//!
//! The hard cases are deliberate. Numbers do not make a request math ("In what year …"), a programming language does
//! not make it code ("Who designed Python?"), an algorithm described in mathematical words is code, two requests of
//! one domain are not `several`, and naming a subject without asking anything is `none`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// All templates and fillers.
pub(super) static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    serde_json::from_str(include_str!("phrases.json")).expect("phrases.json is part of the program, and tests read it")
});

/// The content of phrases.json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phrases {
    pub(super) math: Templates,
    pub(super) code: Templates,
    pub(super) general: Templates,
    /// Joins two requests; `{1l}` and `{2l}` are the requests inside a sentence.
    pub(super) joins: Templates,
    pub(super) small_talk: Templates,
    pub(super) statements: Templates,
    #[serde(rename = "unsafe")]
    pub(super) harmful: Templates,
    pub(super) loose_words: Templates,
    /// Put before a request.
    pub(super) openings: Vec<String>,
    /// Put after a request.
    pub(super) closings: Vec<String>,
    /// Slots that take a number, with its smallest and largest value.
    pub(super) numbers: HashMap<String, (usize, usize)>,
    /// Slots that take one of these texts, which may have slots themselves.
    pub(super) words: HashMap<String, Vec<String>>,
}

/// Templates of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Templates {
    pub(super) train: Vec<String>,
    /// Never used for training prompts.
    pub(super) held_out: Vec<String>,
}
