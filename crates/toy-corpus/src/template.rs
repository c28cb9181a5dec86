//! Which templates may be used, and filling their blanks.

/// Training and held-out rows come from different templates, not only from different numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Templates that training may see.
    Train,
    /// Templates kept for evaluation.
    HeldOut,
}

impl Split {
    /// Whether the combination of part `left` with part `right` belongs to this split: one in four is held out.
    /// Both parts occur in training, each with other partners.
    pub(crate) fn takes(self, left: usize, right: usize) -> bool {
        let held_out = (left + right) % 4 == 3;
        held_out == (self == Self::HeldOut)
    }
}

/// Replaces every `{key}` by its value.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| {
        text.replace(&format!("{{{key}}}"), value)
    })
}

/// The text with its first letter in upper case.
pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `a` or `an`, as the word asks for.
pub(crate) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
