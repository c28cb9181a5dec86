//! Giant files: only the bytes that hold the wanted rows and columns are asked for, and they are read as the file would be.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use synapse_data::{
    DataError, FirstRows, PrepareRequest, RemoteFile, SourceFile, SourceFiles, fetch_first_rows, prepare,
};
use synapse_recipe::Samples;

use crate::support::{chat, data_plan, source, train_plan};

/// A file far away: what is asked for is copied to the same place of a local file.
struct Far<'p> {
    whole: &'p Path,
    local: &'p Path,
    asked: RefCell<Vec<Range<u64>>>,
}

impl Far<'_> {
    fn begin(&self, rows: u64) -> Result<FirstRows, DataError> {
        let size = std::fs::metadata(self.whole).unwrap().len();
        let mut local = File::create(self.local).unwrap();
        local.set_len(size).unwrap();
        let part = RemoteFile {
            name: self.whole.file_name().unwrap().to_str().unwrap(),
            local: self.local,
            size,
            rows,
        };
        fetch_first_rows(&part, &source(self.whole, Samples::All), &mut |range: Range<u64>| {
            let mut far = File::open(self.whole).unwrap();
            far.seek(SeekFrom::Start(range.start)).unwrap();
            let mut bytes = Vec::new();
            far.take(range.end - range.start).read_to_end(&mut bytes).unwrap();
            local.seek(SeekFrom::Start(range.start)).unwrap();
            local.write_all(&bytes).unwrap();
            self.asked.borrow_mut().push(range);
            Ok(())
        })
    }

    /// Different bytes that were asked for.
    fn bytes(&self) -> u64 {
        let mut asked = self.asked.borrow().clone();
        asked.sort_by_key(|range| range.start);
        let (mut total, mut end) = (0, 0);
        for range in asked {
            total += range.end.saturating_sub(end.max(range.start));
            end = end.max(range.end);
        }
        total
    }

    /// Rows that preparation makes of the local file's beginning.
    fn documents(&self, rows: u64, sha256: String) -> (u64, u64) {
        let plan = data_plan(vec![source(self.whole, Samples::All)], 0);
        let out = tempfile::tempdir().unwrap();
        let name = self.whole.file_name().unwrap().to_string_lossy().into_owned();
        let local = self.local.to_owned();
        let files = vec![SourceFiles {
            files: vec![SourceFile { name, local, sha256 }],
            first_rows: Some(rows),
            ..SourceFiles::default()
        }];
        let request = PrepareRequest {
            plan: &plan,
            train: &train_plan(),
            system_prompt: None,
            files,
            request_files: Vec::new(),
            benchmarks: &[],
            chat: &chat(),
            out: out.path(),
        };
        let manifest = prepare(&request, &|_| {}).unwrap();
        assert_eq!(manifest.sources[0].first_rows, Some(rows));
        (manifest.sources[0].rows_read, manifest.train.documents)
    }
}

#[test]
fn of_lines_only_the_beginning_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, local) = (folder.path().join("rows.jsonl"), folder.path().join("part"));
    let lines: Vec<String> = (0..60_000)
        .map(|n| json!({"question": format!("q{n}"), "answer": format!("a{n} {}", "x".repeat(100))}).to_string())
        .collect();
    std::fs::write(&whole, lines.join("\n")).unwrap();
    let far = Far {
        whole: &whole,
        local: &local,
        asked: RefCell::default(),
    };
    let beginning = far.begin(100).unwrap();
    assert_eq!(beginning.rows, 100);
    assert!(
        far.bytes() <= 1 << 20,
        "{} of {}",
        far.bytes(),
        std::fs::metadata(&whole).unwrap().len()
    );
    assert_eq!(far.documents(100, beginning.sha256.clone()), (100, 100));
    assert_eq!(far.begin(100).unwrap(), beginning, "the same every time");

    // More rows than there are: all of them, and the last line needs no end.
    let all = far.begin(100_000).unwrap();
    assert_eq!(all.rows, 60_000);
    assert_eq!(std::fs::read(&local).unwrap(), std::fs::read(&whole).unwrap());
}

#[test]
fn of_parquet_only_needed_groups_and_columns_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, local) = (folder.path().join("rows.parquet"), folder.path().join("part"));
    let names = ["metadata", "text"];
    let schema = Arc::new(Schema::new(
        names.map(|name| Field::new(name, DataType::Utf8, false)).to_vec(),
    ));
    // Texts that do not compress away.
    let noise = |seed: usize| -> String {
        let mut state = seed as u64 + 1;
        (0..200)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(b'a' + (state >> 60) as u8)
            })
            .collect()
    };
    let column = |from: usize| -> Arc<StringArray> { Arc::new((from..from + 2000).map(|n| Some(noise(n))).collect()) };
    let batch = RecordBatch::try_new(schema.clone(), vec![column(1 << 20), column(0)]).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(250))
        .set_dictionary_enabled(false)
        .build();
    let mut writer = ArrowWriter::try_new(File::create(&whole).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let far = Far {
        whole: &whole,
        local: &local,
        asked: RefCell::default(),
    };
    // The first question is a guess at the footer's length, of which this small file has too little; the rest counts.
    let beginning = far.begin(300).unwrap();
    assert_eq!(beginning.rows, 300);
    let asked: u64 = far
        .asked
        .borrow()
        .iter()
        .skip(2)
        .map(|range| range.end - range.start)
        .sum();
    let size = std::fs::metadata(&whole).unwrap().len();
    assert!(
        asked < size / 5,
        "two of eight groups, one of two columns: {asked} of {size}"
    );
    assert_eq!(far.documents(300, beginning.sha256), (300, 300));
}

#[test]
fn of_arrays_and_tables_only_the_beginning_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("part");
    let answer = |n: usize| format!("a{n} {}", "]},\" ".repeat(20));
    let array: Vec<String> = (0..30_000)
        .map(|n| json!({"question": format!("q{n}"), "answer": answer(n)}).to_string())
        .collect();
    let table = |n: usize| format!("q{n},\"line\n{}\"", answer(n).replace('"', "\"\""));
    let table: Vec<String> = std::iter::once("question,answer".to_owned())
        .chain((0..30_000).map(table))
        .collect();
    for (name, text) in [
        ("rows.json", format!("[{}]", array.join(",\n"))),
        ("rows.csv", table.join("\n")),
    ] {
        let whole = folder.path().join(name);
        std::fs::write(&whole, &text).unwrap();
        let far = Far {
            whole: &whole,
            local: &local,
            asked: RefCell::default(),
        };
        let beginning = far.begin(100).unwrap();
        assert_eq!(beginning.rows, 100, "{name}");
        assert!(
            far.bytes() <= 1 << 20 && text.len() > 3 << 20,
            "{name}: {}",
            far.bytes()
        );
        assert_eq!(far.documents(100, beginning.sha256.clone()), (100, 100), "{name}");
        assert_eq!(far.begin(100).unwrap(), beginning, "the same every time");
        let all = far.begin(100_000).unwrap();
        assert_eq!(all.rows, 30_000, "{name}");
        assert_eq!(std::fs::read(&local).unwrap(), text.as_bytes(), "{name}");
        assert_eq!(far.documents(100_000, all.sha256), (30_000, 30_000), "{name}");
    }
}

#[test]
fn files_without_a_beginning_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, local) = (folder.path().join("book.txt"), folder.path().join("part"));
    std::fs::write(&whole, "a\nb\n").unwrap();
    let far = Far {
        whole: &whole,
        local: &local,
        asked: RefCell::default(),
    };
    let error = far.begin(1).unwrap_err().to_string();
    assert!(error.starts_with("book.txt: `first_rows` needs rows"), "{error}");
    let whole = folder.path().join("rows.jsonl.gz");
    let far = Far { whole: &whole, ..far };
    std::fs::write(&whole, "{}").unwrap();
    let error = far.begin(1).unwrap_err().to_string();
    assert!(error.starts_with("rows.jsonl.gz: `first_rows` needs rows"), "{error}");
    let whole = folder.path().join("rows.json");
    let far = Far { whole: &whole, ..far };
    std::fs::write(&whole, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    assert_eq!(far.begin(1).unwrap().rows, 1, "lines may be called json");
    let broken = folder.path().join("rows.parquet");
    std::fs::write(&broken, "no parquet at all").unwrap();
    let far = Far { whole: &broken, ..far };
    assert!(
        far.begin(1)
            .unwrap_err()
            .to_string()
            .contains("rows.parquet: not a parquet file")
    );
}
