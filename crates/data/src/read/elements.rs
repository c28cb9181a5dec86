//! Splits one JSON array, or JSON objects one after the other, into the texts of its elements, so that a file of any size
//! is read row by row.
//!
//! What this is not: a parser. Brackets and strings are followed, and what an element says is not looked at.

use std::io::BufRead;

use super::{BOM, Place, RowFile};
use crate::{DataError, Result};

/// The text of one row and where it begins.
pub(super) struct RowText<'t> {
    pub(super) place: Place<'t>,
    pub(super) text: &'t [u8],
    /// Line and column of its first byte, from 1.
    pub(super) start: (u64, usize),
}

/// Takes the rows of a file one after the other.
pub(super) type RowTextVisitor<'e> = dyn FnMut(&RowText<'_>) -> Result<()> + 'e;

/// Passes every element to `each`, and reads no further than the last one that is wanted. `array` says whether they stand
/// in one.
pub(super) fn each(file: &RowFile<'_>, array: bool, each: &mut RowTextVisitor<'_>) -> Result<()> {
    let mut splitter = Splitter {
        file,
        each,
        array,
        line: 1,
        column: 0,
        number: 0,
        state: if array { State::Before } else { State::Between },
        depth: 0,
        quoted: false,
        escaped: false,
        text: Vec::new(),
        start: (1, 1),
    };
    let mut reader = file.open()?;
    let failed = |error| DataError::io(file.path, error);
    if reader.fill_buf().map_err(failed)?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    loop {
        let buffer = reader.fill_buf().map_err(failed)?;
        if buffer.is_empty() {
            return splitter.end();
        }
        let length = buffer.len();
        for byte in buffer {
            if file.is_past(splitter.number + 1) {
                return Ok(());
            }
            splitter.take(*byte)?;
        }
        reader.consume(length);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside an object, where there is no array.
    Between,
    /// Before the array.
    Before,
    /// After `[`.
    First,
    /// Before an element that a comma announced.
    Next,
    Inside,
    /// After an element.
    After,
    /// After `]`.
    Closed,
}

struct Splitter<'a, 'f, 'e> {
    file: &'a RowFile<'f>,
    each: &'a mut RowTextVisitor<'e>,
    array: bool,
    /// Of the byte that was taken last, from 1.
    line: u64,
    column: usize,
    /// Elements so far.
    number: u64,
    state: State,
    /// Open brackets and braces of the element.
    depth: u64,
    quoted: bool,
    escaped: bool,
    text: Vec<u8>,
    start: (u64, usize),
}

impl Splitter<'_, '_, '_> {
    fn take(&mut self, byte: u8) -> Result<()> {
        self.column += 1;
        match (self.state, byte) {
            (State::Inside, _) => self.inside(byte)?,
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Before, b'[') => self.state = State::First,
            (State::First | State::After, b']') => self.state = State::Closed,
            (State::After, b',') => self.state = State::Next,
            (State::First | State::Next, byte) | (State::Between, byte @ b'{') if byte != b',' && byte != b']' => {
                self.start = (self.line, self.column);
                self.state = State::Inside;
                self.inside(byte)?;
            }
            (State::Before | State::Closed, _) => return Err(self.broken("trailing characters")),
            (State::After, _) => return Err(self.broken("expected `,` or `]`")),
            (State::First | State::Next | State::Between, _) => return Err(self.broken("expected value")),
        }
        if byte == b'\n' {
            self.line += 1;
            self.column = 0;
        }
        Ok(())
    }

    /// A byte of an element, or the one that ends it.
    fn inside(&mut self, byte: u8) -> Result<()> {
        if self.quoted {
            self.text.push(byte);
            if std::mem::take(&mut self.escaped) {
                return Ok(());
            }
            match byte {
                b'\\' => self.escaped = true,
                b'"' => {
                    self.quoted = false;
                    // a text ends here, and what follows may not be on this disk
                    if self.depth == 0 {
                        self.state = State::After;
                        return self.finish();
                    }
                }
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b',' | b']' if self.depth == 0 => {
                self.state = if byte == b',' { State::Next } else { State::Closed };
                return self.finish();
            }
            b'"' => self.quoted = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.text.push(byte);
                    self.state = if self.array { State::After } else { State::Between };
                    return self.finish();
                }
            }
            _ => {}
        }
        self.text.push(byte);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.number += 1;
        let text = std::mem::take(&mut self.text);
        (self.each)(&RowText {
            place: self.file.row(self.number),
            text: &text,
            start: self.start,
        })?;
        self.text = text;
        self.text.clear();
        Ok(())
    }

    /// The end of the file.
    fn end(&self) -> Result<()> {
        match self.state {
            State::Closed | State::Between => Ok(()),
            _ if self.file.is_past(self.number + 1) => Ok(()),
            State::Inside if self.depth > 0 => Err(self.broken("EOF while parsing an object")),
            _ => Err(self.broken("EOF while parsing a list")),
        }
    }

    fn broken(&self, words: &str) -> DataError {
        let place = format!("{}:{}", self.file.name, self.line);
        let (number, column) = (self.number + 1, self.column);
        DataError::malformed(
            &place,
            format!("row {number}: not valid JSON: {words} (column {column})"),
        )
    }
}
