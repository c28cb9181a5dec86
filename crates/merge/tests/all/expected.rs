//! Merges of the fixtures equal what numpy computed densely in float64 (tests/fixtures/make_fixtures.py).

use half::bf16;
use serde_json::Value;
use synapse_checkpoint::{DType, ModelFolder, TensorFiles};
use synapse_merge::{Input, MergeRequest, merge};

use tempfile::TempDir;

use crate::fixture;

/// Tensors of a merge in float64, and the request that its metadata describe.
struct Expected {
    files: TensorFiles,
    request: Value,
}

impl Expected {
    fn read(name: &str) -> Self {
        let files = TensorFiles::open(vec![fixture(&format!("expected/{name}.safetensors"))]).unwrap();
        let request = serde_json::from_str(&files.metadata()["request"]).unwrap();
        Self { files, request }
    }

    fn values(&self, tensor: &str) -> Vec<f64> {
        let mut bytes = Vec::new();
        self.files.read_bytes(tensor, &mut bytes).unwrap();
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f64::from_le_bytes(bytes))
            .collect()
    }

    /// The request, on the fixtures' own folders.
    fn request(&self, folder: &TempDir, dtype: DType) -> MergeRequest {
        let text = |key: &str| self.request[key].as_str().unwrap();
        let mut request = MergeRequest::new(
            text("method").parse().unwrap(),
            fixture("base"),
            folder.path().join("out"),
        );
        let names = self.request["inputs"].as_array().unwrap();
        let weights = self.request["weights"].as_array().unwrap();
        for (name, weight) in names.iter().zip(weights) {
            let name = name.as_str().unwrap();
            let input = Input {
                name: name.to_owned(),
                path: fixture(name),
                weight: weight.as_f64().unwrap(),
            };
            let list = if name.starts_with("full") {
                &mut request.models
            } else {
                &mut request.adapters
            };
            list.push(input);
        }
        if self.request.get("trim").is_some() {
            request.trim = text("trim").parse().unwrap();
            request.ties.sign = text("sign").parse().unwrap();
            request.ties.tie_break = text("zero_sign").parse().unwrap();
        }
        request.normalize = self.request["normalize"].as_bool().unwrap();
        request.lambda = self.request["lambda"].as_f64().unwrap();
        request.dtype = Some(dtype);
        request
    }
}

/// Merges in f32 and in bf16 and compares every entry.
fn check(name: &str) {
    let expected = Expected::read(name);
    let folder = tempfile::tempdir().unwrap();
    merge(&expected.request(&folder, DType::F32), &|_| {}).unwrap();
    let merged = ModelFolder::open(&folder.path().join("out")).unwrap();
    let mut tensors = 0;
    for tensor in merged.names() {
        tensors += 1;
        for (at, (got, wanted)) in merged
            .read_f32(tensor)
            .unwrap()
            .iter()
            .zip(expected.values(tensor))
            .enumerate()
        {
            // A dropped or extra entry would differ by its whole change, about 1e-2; rounding differs by 1e-9.
            let error = (f64::from(*got) - wanted).abs();
            assert!(
                error <= 2e-8 + 2e-7 * wanted.abs(),
                "{name} {tensor}[{at}]: {got} instead of {wanted}"
            );
        }
    }
    assert_eq!(tensors, expected.files.names().count());

    merge(&expected.request(&folder, DType::BF16), &|_| {}).unwrap();
    let merged = ModelFolder::open(&folder.path().join("out")).unwrap();
    for tensor in merged.names() {
        assert_eq!(merged.info(tensor).unwrap().dtype, DType::BF16);
        for (got, wanted) in merged.read_bf16(tensor).unwrap().iter().zip(expected.values(tensor)) {
            // Rounded once: within half a step of bf16 (8 bits), give or take f32's own error.
            let error = (f64::from(got.to_f32()) - wanted).abs();
            assert!(
                error <= wanted.abs() / 256.0 * 1.0001,
                "{name} {tensor}: {got} instead of {wanted}"
            );
            let nearest = bf16::from_f32(wanted as f32);
            let near_half = (f64::from(nearest.to_f32()) - wanted).abs() > wanted.abs() / 1024.0;
            assert!(
                *got == nearest || near_half,
                "{name} {tensor}: {got} instead of {nearest}"
            );
        }
    }
}

#[test]
fn ties_by_frequency() {
    check("ties-frequency");
}

#[test]
fn ties_by_total_with_weights_and_lambda() {
    check("ties-total");
}

#[test]
fn ties_with_draws_to_the_positive_side() {
    check("ties-positive");
}

#[test]
fn task_arithmetic() {
    check("task-arithmetic");
}

#[test]
fn linear_of_adapters() {
    check("linear");
}

#[test]
fn linear_of_checkpoints() {
    check("linear-models");
}

#[test]
fn ties_of_checkpoints() {
    check("ties-models");
}

#[test]
fn the_report_counts_what_happened() {
    let expected = Expected::read("ties-frequency");
    let folder = tempfile::tempdir().unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let mut request = expected.request(&folder, DType::F32);
    request.dtype = None;
    let report = merge(&request, &|progress| {
        seen.borrow_mut()
            .push((progress.done, progress.total, progress.bytes == progress.total_bytes));
    })
    .unwrap();
    let names: Vec<&str> = report.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["math", "code", "general", "coordinator"]);
    assert_eq!((report.tensors.len(), report.copied), (14, 12));
    assert_eq!(seen.borrow().last(), Some(&(26, 26, true)));
    let up = report
        .tensors
        .iter()
        .find(|tensor| tensor.name == "model.layers.1.mlp.up_proj.weight")
        .unwrap();
    assert_eq!(up.inputs, names);
    // 96 entries, of which 19 are kept: 96 − ceil(76.8).
    assert!(up.kept_share.iter().all(|share| (share - 19.0 / 96.0).abs() < 1e-12));
    let voters = up.voters;
    assert!((voters.none + voters.one + voters.several - 1.0).abs() < 1e-12);
    assert_eq!(up.cosine.len(), 6);
    assert!(up.energy_lost.trim > 0.1 && up.energy_lost.trim < 0.9);
    assert!(up.energy_lost.rounding > 0.0 && up.energy_lost.rounding < 0.1);
    let read =
        synapse_merge::MergeReport::from_json(&std::fs::read(folder.path().join("out/merge_report.json")).unwrap());
    assert_eq!(read.unwrap(), report);
}
