//! The safetensors format: what is written reads back, and no bytes whatever make the reader panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use synapse_checkpoint::{DType, ShardedWriter, TensorFiles, write_safetensors};
use tempfile::{TempDir, tempdir};

use crate::support::message;

const DTYPES: [DType; 6] = [DType::F32, DType::BF16, DType::F16, DType::U8, DType::I64, DType::Bool];

fn tensors() -> impl Strategy<Value = Vec<(String, DType, Vec<usize>, Vec<u8>)>> {
    let tensor = (0..DTYPES.len(), prop::collection::vec(0_usize..5, 0..4), any::<u8>());
    prop::collection::vec(tensor, 0..8).prop_map(|tensors| {
        let name = |index: usize| format!("tensor.{index}.\"gewicht\\");
        let make = |(index, (dtype, shape, seed)): (usize, (usize, Vec<usize>, u8))| {
            let dtype = DTYPES[dtype];
            let length = dtype.size() * shape.iter().product::<usize>();
            let bytes = (0..length)
                .map(|byte| (byte as u8).wrapping_mul(31).wrapping_add(seed))
                .collect();
            (name(index), dtype, shape, bytes)
        };
        tensors.into_iter().enumerate().map(make).collect()
    })
}

fn written(
    tensors: &[(String, DType, Vec<usize>, Vec<u8>)],
    metadata: &BTreeMap<String, String>,
) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("tensors.safetensors");
    let borrowed: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.clone(), *dtype, shape.clone(), bytes.as_slice()))
        .collect();
    write_safetensors(&path, &borrowed, metadata).unwrap();
    (folder, path)
}

fn check(files: &TensorFiles, tensors: &[(String, DType, Vec<usize>, Vec<u8>)]) {
    assert_eq!(files.names().count(), tensors.len());
    for (name, dtype, shape, bytes) in tensors {
        let info = files.info(name).unwrap();
        assert_eq!((info.dtype, &info.shape), (*dtype, shape));
        let mut read = Vec::new();
        files.read_bytes(name, &mut read).unwrap();
        assert_eq!(&read, bytes);
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(tensors in tensors(), shard in 1_u64..400, reversed: bool) {
        let metadata = BTreeMap::from([("step".to_owned(), "12".to_owned())]);
        let (_folder, path) = written(&tensors, &metadata);
        let files = TensorFiles::open(vec![path]).unwrap();
        prop_assert_eq!(files.metadata(), &metadata);
        check(&files, &tensors);

        let folder = tempdir().unwrap();
        let layout: Vec<_> = tensors.iter().map(|(name, dtype, shape, _)| (name.clone(), *dtype, shape.clone())).collect();
        let mut writer = ShardedWriter::create(folder.path(), &layout, shard).unwrap();
        let mut order: Vec<_> = tensors.iter().collect();
        if reversed {
            order.reverse();
        }
        for (name, _, _, bytes) in order {
            writer.write(name, bytes).unwrap();
        }
        writer.finish().unwrap();
        let mut paths: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect();
        paths.sort();
        check(&TensorFiles::open(paths).unwrap(), &tensors);
    }

    #[test]
    fn corrupt_bytes_never_panic(tensors in tensors(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<Option<prop::sample::Index>>()) {
        let (_folder, path) = written(&tensors, &BTreeMap::new());
        let mut bytes = fs::read(&path).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        read_everything(path);
    }

    #[test]
    fn random_bytes_never_panic(size in 0_u64..200, text in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("random.safetensors");
        fs::write(&path, [size.to_le_bytes().to_vec(), text].concat()).unwrap();
        read_everything(path);
    }
}

/// Opens and, where that succeeds, reads every tensor in every way: errors are fine, panics are not.
fn read_everything(path: PathBuf) {
    let Ok(files) = TensorFiles::open(vec![path]) else {
        return;
    };
    let mut bytes = Vec::new();
    for name in files.names() {
        files.read_bytes(name, &mut bytes).unwrap();
        let weight = files.info(name).unwrap().dtype.is_weight();
        assert_eq!(files.read_f32(name).is_ok(), weight);
        assert_eq!(files.read_bf16(name).is_ok(), weight);
        drop(files.read_f32_rows(name, 0..1, &mut Vec::new()));
    }
}

fn open_header(header: &Value, data: usize) -> String {
    open_text(&header.to_string(), data)
}

fn open_text(header: &str, data: usize) -> String {
    let folder = tempdir().unwrap();
    let path = folder.path().join("made.safetensors");
    fs::write(
        &path,
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &vec![0; data],
        ]
        .concat(),
    )
    .unwrap();
    message(TensorFiles::open(vec![path]))
}

#[test]
fn malformed_headers_are_explained() {
    let entry = |from: u64, to: u64| json!({"dtype": "U8", "shape": [4], "data_offsets": [from, to]});
    let cases = [
        (
            json!({"a": entry(0, 4), "b": entry(2, 6)}),
            6,
            "tensor `b` overlaps the one before it",
        ),
        (
            json!({"a": entry(0, 4), "b": entry(6, 10)}),
            10,
            "tensor `b` leaves a hole before it",
        ),
        (json!({"a": entry(0, 4)}), 9, "is truncated or damaged"),
        (
            json!({"a": entry(0, 5)}),
            5,
            "of shape [4] and type U8 needs 4 bytes, its header entry says 5",
        ),
        (json!({"a": entry(4, 0)}), 4, "ends before it begins"),
        (
            json!({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 4]}}),
            4,
            "has the unsupported element type F4",
        ),
        (
            json!({"a": {"dtype": "U8", "shape": [u64::MAX, u64::MAX], "data_offsets": [0, 4]}}),
            4,
            "has an impossible shape",
        ),
        (
            json!({"a": {"dtype": "U8", "shape": [0, u64::MAX, u64::MAX], "data_offsets": [0, 0]}}),
            0,
            "has an impossible shape",
        ),
        (
            json!({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 4]}}),
            4,
            "tensor `a` has a damaged header entry",
        ),
        (
            json!({"a": {"dtype": "U8", "shape": [0], "data_offsets": [u64::MAX, u64::MAX]}}),
            0,
            "has an impossible shape",
        ),
        (json!([1]), 0, "has a damaged safetensors header"),
        (json!({"__metadata__": {"a": 1}}), 0, "has damaged metadata"),
    ];
    for (header, data, expected) in cases {
        let found = open_header(&header, data);
        assert!(found.contains(expected), "{header}: {found}");
    }
    let twice =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(open_text(twice, 1).contains("the name `a` appears twice"));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(open_text(&deep, 0).contains("damaged safetensors header"));

    let folder = tempdir().unwrap();
    let path = folder.path().join("absurd.safetensors");
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(message(TensorFiles::open(vec![path])).contains("its header would be 18446744073709551615 bytes long"));
}

#[test]
fn the_writer_keeps_to_its_layout() {
    let folder = tempdir().unwrap();
    let layout = vec![
        ("a".to_owned(), DType::U8, vec![2]),
        ("b".to_owned(), DType::F32, vec![1]),
    ];
    let mut writer = ShardedWriter::create(folder.path(), &layout, 100).unwrap();
    assert!(message(writer.write("c", &[])).contains("tensor `c` is not in the layout"));
    assert!(message(writer.write("a", &[1])).contains("tensor `a` takes 2 bytes, was given 1"));
    writer.write("a", &[1, 2]).unwrap();
    assert!(message(writer.write("a", &[1, 2])).contains("tensor `a` was already written"));
    assert!(message(writer.finish()).contains("tensor `b` was never written"));
    let twice = vec![layout[0].clone(), layout[0].clone()];
    assert!(message(ShardedWriter::create(folder.path(), &twice, 100)).contains("tensor `a` is in the layout twice"));
    let short = [("a".to_owned(), DType::F32, vec![2], &[0_u8; 4][..])];
    assert!(
        message(write_safetensors(&folder.path().join("x"), &short, &BTreeMap::new()))
            .contains("takes 8 bytes, was given 4")
    );
}

#[test]
fn the_same_name_in_two_files_is_an_error() {
    let tensor = [("a".to_owned(), DType::U8, vec![1], vec![1])];
    let (_one, first) = written(&tensor, &BTreeMap::new());
    let (_two, second) = written(&tensor, &BTreeMap::new());
    assert!(message(TensorFiles::open(vec![first, second])).contains("tensor `a` is also in "));
}
