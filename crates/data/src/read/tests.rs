//! Each format gives the same rows, and broken files say where.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow::array::{ArrayRef, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use proptest::prelude::*;

use super::*;

/// Writes a file and reads it back.
fn rows_of(name: &str, bytes: &[u8]) -> Result<Vec<(String, Record)>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = RowFile {
        path: &path,
        name,
        most: None,
    };
    let columns = file.columns()?;
    let mut rows = Vec::new();
    file.read(&columns, &mut |place, record| {
        rows.push((place.to_string(), record));
        Ok(())
    })?;
    Ok(rows)
}

fn error_of(name: &str, text: &str) -> String {
    rows_of(name, text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn json_csv_and_text_give_rows_and_places() {
    let lines = "\u{feff}{\"a\": \"1\"}\n\n{\"a\": \"2\"}";
    let places = |rows: &[(String, Record)]| rows.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>();
    let rows = rows_of("x.jsonl", lines.as_bytes()).unwrap();
    assert_eq!(places(&rows), ["x.jsonl:1", "x.jsonl:3"]);
    assert_eq!(rows_of("x.json", lines.as_bytes()).unwrap().len(), 2);
    let rows = rows_of("x.json", b" \n[{\"a\": \"1\"}, {\"a\": \"2\"}]\n").unwrap();
    assert_eq!(places(&rows), ["x.json: row 1", "x.json: row 2"]);
    let rows = rows_of("x.csv", b"a,b\n1,\"two\nlines\"\n3,4\n").unwrap();
    assert_eq!(places(&rows), ["x.csv:2", "x.csv:4"]);
    assert_eq!(rows[0].1["b"], "two\nlines");
    assert_eq!(rows_of("x.txt", "é".as_bytes()).unwrap()[0].1["text"], "é");
    assert!(rows_of("x.jsonl", b"").unwrap().is_empty());
    assert!(rows_of("x.json", b"[]").unwrap().is_empty());
}

#[test]
fn parquet_gives_only_the_columns_asked_for() {
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("x"), None]);
    list.append_null();
    let columns: [(&str, ArrayRef); 3] = [
        ("question", Arc::new(StringArray::from(vec![Some("q"), None]))),
        ("score", Arc::new(Float64Array::from(vec![0.5, 1.0]))),
        ("tags", Arc::new(list.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let rows = rows_of("x.parquet", &bytes).unwrap();
    assert_eq!(rows[0].0, "x.parquet: row 1");
    assert_eq!(
        Value::Object(rows[0].1.clone()),
        serde_json::json!({"question": "q", "score": 0.5, "tags": ["x", null]})
    );
    assert_eq!(rows[1].1["question"], Value::Null);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    std::fs::write(&path, &bytes).unwrap();
    let file = RowFile {
        path: &path,
        name: "x.parquet",
        most: None,
    };
    file.read(&["score".to_owned(), "other".to_owned()], &mut |_, record| {
        assert_eq!(record.keys().collect::<Vec<_>>(), ["score"]);
        Ok(())
    })
    .unwrap();
    bytes.truncate(bytes.len() / 2);
    assert!(
        rows_of("x.parquet", &bytes)
            .unwrap_err()
            .to_string()
            .starts_with("x.parquet: not a parquet file")
    );
}

#[test]
fn broken_files_say_where() {
    let error = error_of("x.jsonl", "{\"a\": 1}\n{\"a\": }\n");
    assert_eq!(error, "x.jsonl:2: not valid JSON: expected value (column 7)");
    assert_eq!(error_of("x.jsonl", "[1]\n"), "x.jsonl:1: expected an object, found [1]");
    let error = error_of("x.json", "[{\"a\": 1},\n {\"a\" 2}]");
    assert_eq!(error, "x.json:2: row 2: not valid JSON: expected `:` (column 7)");
    assert_eq!(error_of("x.json", "[1]"), "x.json: row 1: expected an object, found 1");
    assert!(error_of("x.json", "[{\"a\": 1}").starts_with("x.json:1: row 2: not valid JSON: EOF"));
    assert!(error_of("x.csv", "a,b\n1,2\n3\n").starts_with("x.csv:3: not a valid table"));
    assert!(error_of("x.xml", "").starts_with("x.xml: unknown ending `xml`"));
}

/// A small parquet file with texts, lists and numbers.
fn whole_parquet() -> Vec<u8> {
    let mut list = ListBuilder::new(StringBuilder::new());
    for index in 0..50 {
        list.values().append_value(format!("tag {index}"));
        list.append(true);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "question",
            Arc::new((0..50).map(|n| Some(format!("q{n}"))).collect::<StringArray>()),
        ),
        ("tags", Arc::new(list.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Where the library trusts a file most, every place is tried.
#[test]
fn no_single_damage_to_a_parquet_footer_makes_a_reader_panic() {
    let whole = whole_parquet();
    let end: [u8; 8] = *whole.last_chunk().unwrap();
    let footer = usize::try_from(parquet::footer_length(&end).unwrap()).unwrap();
    let mut refused = 0;
    for place in whole.len() - footer..whole.len() {
        for damage in [0x01, 0x1f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= damage;
            refused += usize::from(rows_of("x.parquet", &bytes).is_err());
        }
    }
    assert!(refused > footer, "{refused} of {} refused", 4 * footer);
}

proptest! {
    #[test]
    fn no_damage_to_parquet_makes_a_reader_panic(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = whole_parquet();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        let _ = rows_of("x.parquet", &bytes);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), ending in "jsonl|json|csv|parquet|txt") {
        let _ = rows_of(&format!("x.{ending}"), &bytes);
    }

    #[test]
    fn no_damage_to_json_makes_a_reader_panic(cut in 0usize..60, byte: u8, ending in "jsonl|json") {
        let mut bytes = "[{\"messages\": [{\"role\": \"user\", \"content\": \"\\u00e9\"}]}, {}]".as_bytes().to_vec();
        let place = cut % bytes.len();
        bytes[place] = byte;
        let _ = rows_of(&format!("x.{ending}"), &bytes);
    }
}
