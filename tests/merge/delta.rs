//! A merge as what it changes, put onto its base again: the folder that the merge writes, and nothing on another base.

use std::fs;

use synapse_merge::DeltaFile;

use super::support::Workplace;

const ALL: [&str; 4] = ["base", "math", "code", "general"];
const THREE: [&str; 6] = ["--adapter", "math", "--adapter", "code", "--adapter", "general"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    THREE.iter().chain(more).copied().collect()
}

#[test]
fn a_delta_on_its_base_is_the_merge() {
    let workplace = Workplace::with(&ALL);
    let cases: [&[&str]; 5] = [
        &[],
        &["--dtype", "bf16", "--trim", "0.95"],
        &["--dtype", "f16", "--rounding", "stochastic", "--seed", "3"],
        &["--method", "task_arithmetic", "--dtype", "f32"],
        &["--lambda", "0"],
    ];
    for case in cases {
        workplace
            .run(&with(&[case, &["--out", "merged"][..]].concat()))
            .exits(0);
        let delta = with(&[case, &["--format", "delta", "--out", "delta"][..]].concat());
        assert_eq!(workplace.run(&delta).exits(0).stdout(), "delta\n");
        let first = workplace.hashes("delta");
        workplace.run_with(&delta, &[("RAYON_NUM_THREADS", "1")]).exits(0);
        assert_eq!(workplace.hashes("delta"), first, "{case:?}");
        let applied = workplace.run(&["apply", "delta", "--out", "applied"]).exits(0);
        assert_eq!(applied.stdout(), "applied\n");
        assert_eq!(workplace.hashes("applied"), workplace.hashes("merged"), "{case:?}");
        workplace.run(&["verify", "applied"]).exits(0);
    }
    // λ = 0 was the last: nothing changes, and nothing is in it.
    let read = || -> DeltaFile { DeltaFile::read(&workplace.path("delta")).unwrap() };
    assert_eq!(read().tensors, []);
    // Three adapters that keep a twentieth each change three twentieths at most.
    let few = [
        "--dtype", "bf16", "--trim", "0.95", "--format", "delta", "--out", "delta",
    ];
    workplace.run(&with(&few)).exits(0);
    assert!(!read().tensors.is_empty());
    for tensor in read().tensors {
        let entries: usize = tensor.shape.iter().product();
        assert!(tensor.changed <= 3 * (entries / 20 + 1), "{tensor:?}");
    }
}

#[test]
fn refuses_another_base_and_what_is_damaged() {
    let workplace = Workplace::with(&ALL);
    workplace.run(&with(&["--format", "delta", "--out", "delta"])).exits(0);
    workplace.run(&with(&["--method", "linear", "--out", "other"])).exits(0);
    workplace
        .run(&["apply", "delta", "--base", "other", "--out", "applied"])
        .exits(2)
        .says("is another model");
    workplace
        .run(&["apply", "math", "--base", "base", "--out", "applied"])
        .exits(2)
        .says("is this a merge with --format delta?");
    workplace
        .run(&["apply", "delta", "--base", "base", "--out", "math"])
        .exits(2)
        .says("is not a merge");
    workplace
        .run(&["apply", "delta", "--base", "base", "--out", "delta"])
        .exits(2)
        .says("would replace the input");
    workplace
        .run(&with(&["--format", "delta", "--quant", "f16", "--out", "x"]))
        .exits(2)
        .says("--format delta takes neither");
    workplace.run(&with(&["--format", "gguf", "--out", "x"])).exits(2);
    // One bit more than there are values.
    let path = workplace.path("delta/delta.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let (_, place) = head
        .as_object()
        .unwrap()
        .iter()
        .find(|(name, _)| name.ends_with(".changed"))
        .unwrap();
    let start = 8 + header + place["data_offsets"][0].as_u64().unwrap() as usize;
    let at = bytes[start..].iter().position(|&byte| byte != 255).unwrap();
    bytes[start + at] |= 1 << bytes[start + at].trailing_ones();
    fs::write(&path, &bytes).unwrap();
    workplace
        .run(&["apply", "delta", "--out", "applied"])
        .exits(2)
        .says("is the file damaged?");
    fs::write(&path, whole).unwrap();
    workplace.edit("delta/delta.json", "\"format\": 1", "\"format\": 2");
    workplace
        .run(&["apply", "delta", "--out", "applied"])
        .exits(2)
        .says("use a newer program");
    assert!(!workplace.path("applied").exists());
}
