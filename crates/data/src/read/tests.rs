//! Each format gives the same rows, and broken files say where.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
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
    file.read(Wanted::Columns(&columns), &mut |place, record| {
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
    let wanted = ["score".to_owned(), "other".to_owned()];
    file.read(Wanted::Columns(&wanted), &mut |_, record| {
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
    assert_eq!(
        error_of("x.jsonl", "{}\n[1]\n"),
        "x.jsonl:2: expected an object, found [1]"
    );
    assert_eq!(
        error_of("x.jsonl", "[1]\n"),
        "x.jsonl: row 1: expected an object, found 1"
    );
    let error = error_of("x.json", "[{\"a\": 1},\n {\"a\" 2}]");
    assert_eq!(error, "x.json:2: row 2: not valid JSON: expected `:` (column 7)");
    assert_eq!(error_of("x.json", "[1]"), "x.json: row 1: expected an object, found 1");
    assert!(error_of("x.json", "[{\"a\": 1}").starts_with("x.json:1: row 2: not valid JSON: EOF"));
    assert!(error_of("x.csv", "a,b\n1,2\n3\n").starts_with("x.csv:3: not a valid table"));
    assert!(error_of("x.xml", "").starts_with("x.xml: unknown ending `xml`"));
}

#[test]
fn columns_are_those_of_all_rows() {
    let columns = |name: &str, text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let of = |most| {
            RowFile {
                path: &path,
                name,
                most,
            }
            .columns()
            .unwrap()
        };
        (of(None), of(Some(2)))
    };
    let lines = "{\"a\": 1}\n{\"b\": NaN}\n\n{\"a\": 2, \"c\\n\": [{\"d\": 1}]}\n";
    assert_eq!(
        columns("x.jsonl", lines),
        (
            ["a", "b", "c\n"].map(Into::into).into(),
            ["a", "b"].map(Into::into).into()
        )
    );
    let array = "[{\"a\": \"]\"}, {\"b\": [1]},{\"c\": {}}]";
    assert_eq!(
        columns("x.json", array),
        (
            ["a", "b", "c"].map(Into::into).into(),
            ["a", "b"].map(Into::into).into()
        )
    );
}

#[test]
fn an_array_is_split_where_its_elements_end() {
    let texts = rows_of("x.json", b"\xef\xbb\xbf [\"a\\\"]\", \"b\"\n]\n").unwrap();
    let texts: Vec<&Value> = texts.iter().map(|(_, record)| &record["text"]).collect();
    assert_eq!(
        texts,
        ["a\"]", "b"],
        "an array of texts is one of documents, as in datasets"
    );
    for (text, message) in [
        (
            "[{} {}]",
            "x.json:1: row 2: not valid JSON: expected `,` or `]` (column 5)",
        ),
        ("[{},]", "x.json:1: row 2: not valid JSON: expected value (column 5)"),
        ("[,{}]", "x.json:1: row 1: not valid JSON: expected value (column 2)"),
        (
            "[{}] x",
            "x.json:1: row 2: not valid JSON: trailing characters (column 6)",
        ),
        (
            "[{},\n",
            "x.json:2: row 2: not valid JSON: EOF while parsing a list (column 0)",
        ),
        (
            "[\n {\n  \"a\" 1}]",
            "x.json:3: row 1: not valid JSON: expected `:` (column 7)",
        ),
        (
            "[{\"a\": [1}]",
            "x.json:1: row 1: not valid JSON: expected `,` or `]` (column 10)",
        ),
    ] {
        assert_eq!(error_of("x.json", text), message);
    }
}

#[test]
fn literals_that_cannot_be_kept_are_refused_where_they_are_used() {
    let read = |wanted: &[&str], text: &str, name: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let wanted: Vec<String> = wanted.iter().map(|&column| column.to_owned()).collect();
        let mut rows = Vec::new();
        let file = RowFile {
            path: &path,
            name,
            most: None,
        };
        let outcome = file.read(Wanted::Columns(&wanted), &mut |_, record| {
            rows.push(Value::Object(record));
            Ok(())
        });
        outcome.map(|()| rows).map_err(|error| error.to_string())
    };
    let lines = "{\"a\":\"x\",\"score\":NaN}\n{\"a\":\"y\",\"score\":-Infinity}\n";
    let rows = read(&["a"], lines, "x.jsonl").unwrap();
    assert_eq!(rows[1], serde_json::json!({"a": "y", "score": null}));
    // datasets 5.2.0: load_dataset("json") of such lines gives None for NaN among texts, and nan and inf among numbers.
    let error = read(&["a", "score"], lines, "x.jsonl").unwrap_err();
    assert_eq!(
        error,
        "x.jsonl:2: column `score`: `-Infinity` is not JSON; write null, or leave the key out"
    );
    let error = read(&["a"], "{\"a\": [NaN]}", "x.jsonl").unwrap_err();
    assert_eq!(
        error,
        "x.jsonl:1: column `a`: `NaN` is not JSON; write null, or leave the key out"
    );
    let array = "[{\"a\": \"x\", \"n\": 1},\n {\"a\": \"y\", \"n\": 123456789012345678901}]";
    assert_eq!(read(&["a"], array, "x.json").unwrap().len(), 2);
    let error = read(&["n"], array, "x.json").unwrap_err();
    assert!(
        error.starts_with("x.json: row 2: column `n`: the integer 123456789012345678901 has"),
        "{error}"
    );
    let error = read(&["a"], "{\"a\": NaN, }", "x.jsonl").unwrap_err();
    assert_eq!(error, "x.jsonl:1: not valid JSON: expected value (column 7)");
}

#[test]
fn compressed_texts_are_read_and_other_compressions_are_named() {
    let gzip = |text: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut writer, text).unwrap();
        writer.finish().unwrap()
    };
    let zstandard = |text: &[u8]| zstd::stream::encode_all(text, 0).unwrap();
    let lines = b"{\"a\": \"1\"}\n{\"a\": \"2\"}\n";
    // Two members or frames one after the other are one text.
    let twice = [gzip(lines), gzip(lines)].concat();
    assert_eq!(rows_of("x.jsonl.gz", &twice).unwrap()[3].0, "x.jsonl.gz:4");
    let twice = [zstandard(lines), zstandard(lines)].concat();
    assert_eq!(rows_of("x.jsonl.zst", &twice).unwrap().len(), 4);
    assert_eq!(
        rows_of("x.json.gz", &gzip(b"[{\"a\": 1}]")).unwrap()[0].0,
        "x.json.gz: row 1"
    );
    assert_eq!(rows_of("x.csv.zst", &zstandard(b"a,b\n1,2\n")).unwrap()[0].1["b"], "2");
    assert_eq!(
        rows_of("x.txt.gz", &gzip(b"\xef\xbb\xbfa\r\nb\r")).unwrap()[0].1["text"],
        "a\nb\n"
    );
    // The bytes decide, not the name: some downloads have decompressed the file already.
    assert_eq!(rows_of("x.jsonl.gz", lines).unwrap().len(), 2);
    assert_eq!(rows_of("x.jsonl", &gzip(lines)).unwrap().len(), 2);

    let cut = gzip(lines);
    let error = rows_of("x.jsonl.gz", &cut[..cut.len() - 12]).unwrap_err().to_string();
    assert!(error.contains("x.jsonl.gz:2: "), "{error}");
    let error = rows_of("x.jsonl.bz2", b"BZh91AY&SY").unwrap_err().to_string();
    assert!(
        error.contains("unknown ending `bz2`") && error.contains("(.gz, .zst)"),
        "{error}"
    );
    let error = rows_of("x.jsonl", b"PK\x03\x04").unwrap_err().to_string();
    assert!(error.ends_with("this is a zip archive; unpack it"), "{error}");
    let error = rows_of("x.csv", b"\xff\xfea\0").unwrap_err().to_string();
    assert!(error.contains("the text is UTF-16"), "{error}");
    assert!(
        rows_of("x.parquet.gz", b"")
            .unwrap_err()
            .to_string()
            .contains("decompress the file")
    );
}

#[test]
fn a_column_that_is_there_twice_is_refused() {
    assert_eq!(
        error_of("x.csv", "a,b,a\n1,2,3\n"),
        "x.csv: two columns are called `a`; rename one"
    );
}

#[test]
fn objects_over_several_lines_are_rows() {
    let text = "\n{\n  \"a\": \"}\",\n  \"b\": [1]\n}\n{ \"a\": 2 }\n";
    let rows = rows_of("x.json", text.as_bytes()).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[1].0.as_str(), &rows[1].1["a"]), ("x.json: row 2", &2.into()));
    assert_eq!(
        error_of("x.json", "{\n\"a\" 1}"),
        "x.json:2: row 1: not valid JSON: expected `:` (column 5)"
    );
    assert_eq!(
        error_of("x.json", "{\n\"a\": 1"),
        "x.json:2: row 1: not valid JSON: EOF while parsing an object (column 6)"
    );
    assert_eq!(
        error_of("x.json", "{\n}\n,{}"),
        "x.json:3: row 2: not valid JSON: expected value (column 1)"
    );
    // datasets 5.2.0 refuses this too.
    assert_eq!(
        error_of("x.jsonl", "{\"a\": 1, \"a\": 2}"),
        "x.jsonl:1: the key `a` is there twice"
    );
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
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), ending in "jsonl|json|csv|parquet|arrow|txt|jsonl\\.gz") {
        let _ = rows_of(&format!("x.{ending}"), &bytes);
    }

    #[test]
    fn an_array_has_the_rows_that_a_parser_finds(text in "[\\[\\]{}\",:a1 \\\\]{0,11}") {
        let text = format!("[{text}");
        if let Ok(Value::Array(values)) = serde_json::from_str(&text) {
            let all_rows = values.iter().all(|value| value.is_object() || value.is_string());
            let rows = rows_of("x.json", text.as_bytes());
            prop_assert_eq!(rows.is_ok(), all_rows);
            prop_assert_eq!(rows.map_or(values.len(), |rows| rows.len()), values.len());
        } else {
            prop_assert!(rows_of("x.json", text.as_bytes()).is_err());
        }
    }

    #[test]
    fn no_damage_to_json_makes_a_reader_panic(cut in 0usize..60, byte: u8, ending in "jsonl|json") {
        let mut bytes = "[{\"messages\": [{\"role\": \"user\", \"content\": \"\\u00e9\"}]}, {}]".as_bytes().to_vec();
        let place = cut % bytes.len();
        bytes[place] = byte;
        let _ = rows_of(&format!("x.{ending}"), &bytes);
    }
}

#[test]
fn a_literal_that_would_be_rounded_is_refused_beside_another_and_null_where_nobody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, "{\"score\": NaN, \"id\": 123456789012345678901}\n").unwrap();
    let file = RowFile {
        path: &path,
        name: "rows.jsonl",
        most: None,
    };
    let refused = file.read(Wanted::Columns(&["id".to_owned()]), &mut |_, _| Ok(()));
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("rows.jsonl:1") && message.contains("column `id`"),
        "{message}"
    );
    let mut rows = Vec::new();
    let read = file.read(Wanted::All, &mut |_, record| {
        rows.push(Value::Object(record));
        Ok(())
    });
    read.unwrap();
    assert_eq!(rows, [serde_json::json!({"score": null, "id": null})]);
    assert!(rows_of("twice.jsonl", b"{\"a\": NaN, \"a\": 1}\n").is_err());
}

#[test]
fn the_first_texts_of_an_array_are_read_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    std::fs::write(&path, "[\"a\\\"]\", \"b\"").unwrap();
    let file = RowFile {
        path: &path,
        name: "rows.json",
        most: Some(2),
    };
    let mut rows = Vec::new();
    let read = file.read(Wanted::All, &mut |_, record| {
        rows.push(record["text"].clone());
        Ok(())
    });
    read.unwrap();
    assert_eq!(rows, ["a\"]", "b"]);
}
