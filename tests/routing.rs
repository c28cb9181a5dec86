//! The bundled coordinator on everyday requests: trained as the quickstart trains it, asked what people type first.

use crate::support::Root;

/// Share of the hand-written requests that must be routed to their label. 40 of 44 were seen with AVX2 (91 %); other
/// instruction sets round differently and move a request or two, so the test asks for less.
const SHARE: f64 = 0.8;

#[test]
fn everyday_requests_reach_their_specialist() {
    let root = Root::new();
    root.ok(&["run", "recipes/nano/coordinator.yaml", "--offline", "--until", "train"]);
    root.ok(&[
        "eval",
        "data/nano/base",
        "--adapter",
        "outputs/nano-coordinator",
        "--suite",
        "routing",
        "--data",
        "outputs/runs/nano-coordinator/data",
        "--out",
        "measured",
    ]);
    let everyday = std::fs::read_to_string(root.join("data/nano/held-out/everyday.jsonl")).unwrap();
    let everyday: Vec<String> = everyday
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["messages"][1]["content"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(everyday.len() >= 40);
    let (mut found, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(root.join("measured")).unwrap() {
        let path = entry.unwrap().path();
        // The exact answers have a log of their own.
        if !path.to_string_lossy().contains(".routing.") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let item: serde_json::Value = serde_json::from_str(line).unwrap();
            let Some(question) = item["question"].as_str() else {
                continue;
            };
            if everyday.iter().any(|asked| asked == question) {
                found += 1;
                if item["correct"] != true {
                    wrong.push(format!("{question} -> {}", item["chosen"]));
                }
            }
        }
    }
    assert_eq!(found, everyday.len(), "not every everyday request was asked");
    let share = 1.0 - wrong.len() as f64 / found as f64;
    assert!(share >= SHARE, "{:.1} % routed right; wrong: {wrong:#?}", share * 100.0);
}
