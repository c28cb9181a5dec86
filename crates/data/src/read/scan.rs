//! Where rows end in bytes that arrive one after the other: enough to know how much of a file is needed, without
//! understanding what is in the rows.

/// Counts rows as bytes go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// One row a line; blank ones are none.
    Lines {
        /// Whether this line is blank so far.
        blank: bool,
    },
    /// Elements of one JSON array, or objects one after the other.
    Array {
        /// Open brackets outside an element.
        outside: u64,
        /// Open brackets and braces.
        depth: u64,
        /// Inside a string.
        quoted: bool,
        /// After a backslash.
        escaped: bool,
    },
    /// Rows of a table below its header; quoted fields may have lines of their own.
    Table {
        /// Whether the header has ended.
        header: bool,
        /// Inside quotes.
        quoted: bool,
        /// Whether this row is blank so far.
        blank: bool,
    },
}

impl Scan {
    pub(super) fn lines() -> Self {
        Self::Lines { blank: true }
    }

    pub(super) fn array() -> Self {
        Self::elements(1)
    }

    pub(super) fn objects() -> Self {
        Self::elements(0)
    }

    fn elements(outside: u64) -> Self {
        Self::Array {
            outside,
            depth: 0,
            quoted: false,
            escaped: false,
        }
    }

    pub(super) fn table() -> Self {
        Self::Table {
            header: false,
            quoted: false,
            blank: true,
        }
    }

    /// Whether a row ends with this byte.
    pub(crate) fn ends_row(&mut self, byte: u8) -> bool {
        match self {
            Self::Lines { blank } => {
                if byte == b'\n' {
                    return !std::mem::replace(blank, true);
                }
                *blank &= byte.is_ascii_whitespace();
                false
            }
            Self::Array {
                outside,
                depth,
                quoted,
                escaped,
            } => {
                if std::mem::take(escaped) {
                    return false;
                }
                match byte {
                    b'\\' if *quoted => *escaped = true,
                    b'"' => {
                        *quoted = !*quoted;
                        // an element of an array may be a text
                        return !*quoted && *outside == 1 && *depth == 1;
                    }
                    b'[' | b'{' if !*quoted => *depth += 1,
                    b']' | b'}' if !*quoted => {
                        *depth = depth.saturating_sub(1);
                        return *depth == *outside;
                    }
                    _ => {}
                }
                false
            }
            Self::Table { header, quoted, blank } => {
                match byte {
                    // Two quotes in a quoted field leave it and enter it again.
                    b'"' => *quoted = !*quoted,
                    b'\n' if !*quoted => return !std::mem::replace(blank, true) && std::mem::replace(header, true),
                    _ => {}
                }
                *blank &= byte.is_ascii_whitespace();
                false
            }
        }
    }

    /// Whether an element is open here, outside its strings.
    pub(super) fn is_open(self) -> bool {
        matches!(
            self,
            Self::Array {
                depth: 1..,
                quoted: false,
                ..
            }
        )
    }

    /// Whether the end of the file would end a row too.
    pub(crate) fn is_inside_row(self) -> bool {
        match self {
            Self::Lines { blank } => !blank,
            Self::Array { .. } => false,
            Self::Table { header, blank, .. } => header && !blank,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mut scan: Scan, text: &str) -> usize {
        let ended = text.bytes().filter(|&byte| scan.ends_row(byte)).count();
        ended + usize::from(scan.is_inside_row())
    }

    #[test]
    fn rows_are_counted_where_they_end() {
        assert_eq!(rows(Scan::lines(), "{}\n\n {}\r\n{}"), 3);
        assert_eq!(rows(Scan::array(), r#"[{"a": "]}\"}", "b": [{}]}, {"a": [1]}]"#), 2);
        assert_eq!(rows(Scan::array(), r#"[{"a": 1}, {"a""#), 1);
        assert_eq!(rows(Scan::array(), r#"["a\"]", "b"]"#), 2);
        assert_eq!(rows(Scan::objects(), "{\n\"a\": [1]\n}\n{\n\"a\": {}\n}"), 2);
        assert_eq!(rows(Scan::table(), "a,b\n1,\"x\ny\"\n\n2,\"say \"\"so\"\"\"\n3,4"), 3);
        assert_eq!(rows(Scan::table(), "a,b"), 0);
    }
}
