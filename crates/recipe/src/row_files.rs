//! Names of files whose rows can be read: the endings of their formats, alone or with that of a compression.
//!
//! What this is not: the reading, which is the data crate's.

/// Endings of the formats.
pub const ROW_FILE_ENDINGS: [&str; 9] = ["parquet", "arrow", "json", "jsonl", "ndjson", "csv", "tsv", "txt", "md"];

/// Endings of the compressions that are read: gzip and Zstandard.
const COMPRESSIONS: [&str; 2] = ["gz", "zst"];

/// A file's name with the ending of its compression taken off, and that ending.
#[must_use]
pub fn without_compression(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((rest, ending)) if COMPRESSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known)) => {
            (rest, Some(ending))
        }
        _ => (name, None),
    }
}

/// The ending that names a file's format, in lower case: `jsonl` of `rows.jsonl` and of `rows.jsonl.gz`.
#[must_use]
pub fn row_file_ending(name: &str) -> String {
    let (name, _) = without_compression(name);
    let ending = std::path::Path::new(name).extension();
    ending.map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_no_format() {
        for (name, ending) in [
            ("rows.jsonl", "jsonl"),
            ("a.b/rows.JSONL.GZ", "jsonl"),
            ("rows.csv.zst", "csv"),
            ("rows.gz", ""),
            ("rows.jsonl.bz2", "bz2"),
            ("rows", ""),
        ] {
            assert_eq!(row_file_ending(name), ending, "{name}");
        }
        assert_eq!(without_compression("x.json.zst"), ("x.json", Some("zst")));
        assert_eq!(without_compression("x.json"), ("x.json", None));
    }
}
