//! Merges in memory against the folders that the same numbers publish.

use std::collections::BTreeMap;

use synapse_checkpoint::{DType, ModelFolder};
use synapse_merge::{AdapterInput, InMemoryMerger, MergeCandidate, MergeRequest, Method};

use crate::fixture;

#[test]
fn a_merge_in_memory_is_the_merge_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    for method in [Method::Ties, Method::DareTies, Method::TaskArithmetic] {
        let mut request = MergeRequest::new(method, fixture("base"), &out);
        request.dtype = Some(DType::BF16);
        request.adapters = ["math", "code", "general"]
            .map(|name| AdapterInput {
                name: name.to_owned(),
                path: fixture(name),
                weight: 1.0,
            })
            .into();
        let mut merger = InMemoryMerger::open(&request).unwrap();
        // The third goes back to a trim whose selection is known, with other weights.
        let tried = [
            ("0.8", 1.0, [1.0; 3]),
            ("0.5", 1.5, [1.0, 0.5, 2.0]),
            ("0.8", 0.7, [2.0, 1.0, 1.0]),
        ];
        for (trim, lambda, weights) in tried {
            let candidate = MergeCandidate {
                trim: trim.parse().unwrap(),
                lambda,
                weights: weights.to_vec(),
            };
            let mut made = BTreeMap::new();
            merger
                .merge(&candidate, |name, dtype, bytes| {
                    assert_eq!(dtype, DType::BF16);
                    assert!(made.insert(name.to_owned(), bytes.to_vec()).is_none());
                })
                .unwrap();
            let mut published = request.clone();
            (published.trim, published.lambda) = (candidate.trim, lambda);
            for (adapter, weight) in published.adapters.iter_mut().zip(weights) {
                adapter.weight = weight;
            }
            synapse_merge::merge(&published, &|_| {}).unwrap();
            let merged = ModelFolder::open(&out).unwrap();
            let base = ModelFolder::open(&fixture("base")).unwrap();
            for name in merged.names() {
                let mut expected = Vec::new();
                DType::BF16.extend_bytes(&merged.read_f32(name).unwrap(), &mut expected);
                match made.get(name) {
                    Some(bytes) => assert!(*bytes == expected, "{method} {name}"),
                    None => assert_eq!(
                        merged.read_f32(name).unwrap(),
                        base.read_bf16(name)
                            .unwrap()
                            .iter()
                            .map(|x| x.to_f32())
                            .collect::<Vec<_>>(),
                        "{method} {name}"
                    ),
                }
            }
            assert!(!made.is_empty());
        }
    }
    let nothing = MergeRequest::new(Method::Ties, fixture("base"), &out);
    assert!(InMemoryMerger::open(&nothing).is_err(), "nothing to merge is refused");
}
