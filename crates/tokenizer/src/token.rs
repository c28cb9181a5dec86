//! A token with the bytes of the text it stands for.

use std::ops::Range;

/// A token id and its byte range in the tokenized text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenSpan {
    pub(crate) id: u32,
    pub(crate) range: Range<usize>,
}

impl TokenSpan {
    pub(crate) fn new(id: u32, range: Range<usize>) -> Self {
        Self { id, range }
    }

    /// The same token of a text that begins `offset` bytes later.
    pub(crate) fn shifted(self, offset: usize) -> Self {
        Self::new(self.id, self.range.start + offset..self.range.end + offset)
    }
}

pub(crate) fn ids(tokens: &[TokenSpan]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}
