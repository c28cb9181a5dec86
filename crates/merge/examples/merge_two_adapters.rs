//! Merges two LoRA adapters of one base into a model folder:
//!
//! ```text
//! cargo run --release -p synapse-merge --example merge_two_adapters -- BASE ADAPTER ADAPTER OUT
//! ```

use std::path::Path;

use synapse_merge::{Input, MergeReport, MergeRequest, Method, Result, merge};

/// Merges by TIES, with 80 % of each change trimmed and equal weights.
fn merge_two_adapters(base: &Path, adapters: [&Path; 2], out: &Path) -> Result<MergeReport> {
    let mut request = MergeRequest::new(Method::Ties, base, out);
    let [first, second] = adapters;
    request.adapters = vec![Input::new("first", first), Input::new("second", second)];
    merge(&request, &|_| {})
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, first, second, out] = arguments.as_slice() else {
        return Err("usage: merge_two_adapters BASE ADAPTER ADAPTER OUT".into());
    };
    merge_two_adapters(base.as_ref(), [first.as_ref(), second.as_ref()], out.as_ref())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;

    #[test]
    fn merges_the_fixtures() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("merged");
        let (math, code) = (fixtures.join("math"), fixtures.join("code"));
        let report = merge_two_adapters(&fixtures.join("base"), [&math, &code], &out).unwrap();
        assert_eq!((report.inputs.len(), report.method.as_str()), (2, "ties"));
        for file in ["config.json", "model.safetensors", "merge.yaml", "merge_report.json"] {
            assert!(out.join(file).is_file(), "{file}");
        }
    }
}
