//! Values of Arrow's types, from parquet and from Arrow files. The files of `datasets` are in tests/data/columns.rs.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::collections::HashMap;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, Date32Array, Date64Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int32Array, LargeListArray, ListArray, ListViewArray, StringArray, StringViewArray, StructArray,
    TimestampSecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{Fields, Schema};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn column(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

fn as_json(field: Field) -> Field {
    field.with_metadata(HashMap::from([(
        "ARROW:extension:name".to_owned(),
        JSON_TYPE.to_owned(),
    )]))
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn with_footer(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn rows(name: &str, bytes: &[u8], wanted: Wanted<'_>) -> std::result::Result<Vec<Value>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = RowFile {
        path: &path,
        name,
        most: None,
    };
    let mut rows = Vec::new();
    file.read(wanted, &mut |_, record| {
        rows.push(Value::Object(record));
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    Ok(rows)
}

/// The rows of a batch, the same from all three kinds of file.
fn all_rows(batch: &RecordBatch) -> std::result::Result<Vec<Value>, String> {
    let names: Vec<String> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let wanted = Wanted::Columns(&names);
    let found = rows("x.arrow", &stream(batch), wanted);
    assert_eq!(rows("x.arrow", &with_footer(batch), wanted), found);
    if !batch
        .schema()
        .fields()
        .iter()
        .any(|field| matches!(field.data_type(), DataType::ListView(_)))
    {
        assert_eq!(
            rows("x.parquet", &parquet(batch), wanted),
            found.map_err(|error| error.replace(".arrow", ".parquet"))
        );
        return rows("x.parquet", &parquet(batch), wanted);
    }
    found
}

#[test]
fn a_null_in_a_struct_is_an_absent_key_and_one_in_json_stays() {
    let fields: Fields = vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("zone", DataType::Utf8, true),
        as_json(Field::new("more", DataType::Utf8, true)),
    ]
    .into();
    let calls = StructArray::new(
        fields,
        vec![
            Arc::new(StringArray::from(vec![Some("Rome"), None, None])),
            Arc::new(StringArray::from(vec![None, Some("CET"), None])),
            Arc::new(StringArray::from(vec![Some("{\"a\": null}"), Some("null"), None])),
        ],
        None,
    );
    let item = Arc::new(Field::new("item", calls.data_type().clone(), true));
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), Arc::new(calls), None);
    let json = StringArray::from(vec![Some("[{\"b\": null}, 1.50]"), None]);
    let json = (
        as_json(Field::new("tools", DataType::Utf8, true)),
        Arc::new(json) as ArrayRef,
    );
    let batch = batch(vec![column("calls", Arc::new(lists)), json]);
    assert_eq!(
        all_rows(&batch).unwrap(),
        [
            json!({"calls": [{"city": "Rome", "more": {"a": null}}, {"zone": "CET", "more": null}], "tools": [{"b": null}, 1.5]}),
            json!({"calls": [{}], "tools": null}),
        ]
    );
}

#[test]
fn every_type_that_a_text_or_a_list_may_have() {
    let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
    let large = LargeListArray::new(
        item(DataType::Utf8),
        OffsetBuffer::from_lengths([2, 1]),
        texts.clone(),
        None,
    );
    // A key may point to a null, which is no empty text.
    let dictionary = DictionaryArray::<Int8Type>::new(
        Int8Array::from(vec![1, 0]),
        Arc::new(StringArray::from(vec![Some("a"), None])),
    );
    let numbers = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![0, 0]), Arc::new(Int32Array::from(vec![7])));
    let batch_of_all = batch(vec![
        column("large", Arc::new(large)),
        column(
            "view",
            Arc::new(StringViewArray::from(vec!["a text of more than twelve bytes", "b"])),
        ),
        column("dictionary", Arc::new(dictionary)),
        column("numbers", Arc::new(numbers)),
        column(
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(1250), None])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        column("date", Arc::new(Date32Array::from(vec![Some(19_727), None]))),
        column(
            "date64",
            Arc::new(Date64Array::from(vec![Some(19_727 * 86_400_000), None])),
        ),
        column("float", Arc::new(Float32Array::from(vec![0.1, f32::NAN]))),
    ]);
    // python3: str(decimal.Decimal("12.50")), str(datetime.date(2024, 1, 5)), also of pyarrow.date64(), pyarrow.array([0.1], "float32").to_pylist()
    assert_eq!(
        all_rows(&batch_of_all).unwrap()[0],
        json!({"large": ["a", null], "view": "a text of more than twelve bytes", "dictionary": null, "numbers": 7,
               "decimal": "12.50", "date": "2024-01-05", "date64": "2024-01-05", "float": 0.100_000_001_490_116_12})
    );
    assert_eq!(all_rows(&batch_of_all).unwrap()[1]["dictionary"], "a");
    assert_eq!(
        all_rows(&batch_of_all).unwrap()[1]["float"],
        Value::Null,
        "what pandas writes for a missing value"
    );

    let views = ListViewArray::new(
        item(DataType::Utf8),
        ScalarBuffer::from(vec![1, 0]),
        ScalarBuffer::from(vec![2, 0]),
        texts,
        Some(NullBuffer::from(vec![true, false])),
    );
    let views = batch(vec![column("views", Arc::new(views))]);
    assert_eq!(
        all_rows(&views).unwrap(),
        [json!({"views": [null, "b"]}), json!({"views": null})]
    );
}

#[test]
fn what_is_no_text_is_refused_where_it_is_wanted() {
    let times = column("when", Arc::new(TimestampSecondArray::from(vec![0])));
    let score = column("score", Arc::new(Float64Array::from(vec![f64::INFINITY])));
    let tools = StringArray::from(vec!["{"]);
    let tools = (
        as_json(Field::new("tools", DataType::Utf8, true)),
        Arc::new(tools) as ArrayRef,
    );
    for (column, message) in [
        (
            times,
            "x.parquet: row 1: column `when`: values of type Timestamp(s) are not text, numbers, lists or structs",
        ),
        (
            score,
            "x.parquet: row 1: column `score`: inf cannot be written as JSON; replace it by a null",
        ),
        (
            tools,
            "x.parquet: row 1: column `tools`: not valid JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        let batch = batch(vec![column]);
        assert_eq!(all_rows(&batch).unwrap_err(), message);
        // Whoever reads a benchmark wants its texts, not each of its columns.
        let name = batch.schema().field(0).name().clone();
        assert_eq!(
            rows("x.parquet", &parquet(&batch), Wanted::All).unwrap(),
            [json!({name: null})]
        );
    }
}

proptest! {
    #[test]
    fn no_damage_to_an_arrow_file_makes_a_reader_panic(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        footer: bool,
    ) {
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), texts, None);
        let batch = batch(vec![column("lists", Arc::new(lists))]);
        let mut bytes = if footer { with_footer(&batch) } else { stream(&batch) };
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        let _ = rows("x.arrow", &bytes, Wanted::All);
    }
}

/// Found by fuzzing: parquet's reader takes the bytes of some pages for text without a look at them. With debug assertions it
/// panics there instead.
#[test]
fn bytes_that_are_no_text_are_refused() {
    if cfg!(debug_assertions) {
        return;
    }
    for dictionary in [true, false] {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a needle in it", "another", "a needle in it"]));
        let properties = ::parquet::file::properties::WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .build();
        let batch = batch(vec![column("text", texts)]);
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        while let Some(place) = bytes.windows(6).position(|part| part == b"needle") {
            bytes[place] = 0xff;
        }
        let error = rows("x.parquet", &bytes, Wanted::Columns(&["text".into()])).unwrap_err();
        assert!(error.to_lowercase().contains("utf-8"), "{error}");
    }
}
