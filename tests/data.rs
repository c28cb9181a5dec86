//! `data fetch`, `data report` and `data inspect`: what training will see, before any training.

use crate::support::{Root, expect, stderr, stdout};

/// A recipe over a file with a duplicate, a row that is too long, and an answer that is not to be learned.
fn recipe(root: &Root, limits: &str) -> String {
    let base = Root::base();
    let long = "word ".repeat(200);
    let rows = [
        r#"{"messages": [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "first", "train": false}, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "second"}]}"#.to_owned(),
        r#"{"messages": [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "third"}]}"#.to_owned(),
        r#"{"messages": [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "third"}]}"#.to_owned(),
        format!(r#"{{"messages": [{{"role": "user", "content": "three?"}}, {{"role": "assistant", "content": "fourth {long}"}}]}}"#),
    ];
    root.write("rows.jsonl", &rows.join("\n"));
    let text = format!(
        "name: small\nbase: {}\ndata: [{{ dataset: ../rows.jsonl, license: CC-BY-NC-4.0 }}]\nheld_out: 0\n\
         evaluate: {{ suites: [] }}\nlimits: {limits}\n\
         train: {{ max_seq_len: 96, packing: false, overlong: truncate }}\noutput: outputs/small\n",
        base.display()
    );
    root.write("recipes/small.yaml", &text);
    "recipes/small.yaml".to_owned()
}

#[test]
fn the_report_counts_every_row_and_holds_the_limits() {
    let root = Root::new();
    let recipe = recipe(&root, "{ tokens_lost: 0.9 }");
    let report = stdout(&root.ok(&["data", "report", &recipe]));
    for part in [
        "4 read, 3 usable, 3 taken",
        "1 duplicate  (rows.jsonl:3)",
        "too long  1 documents",
        "warning: not for commercial use",
    ] {
        assert!(report.contains(part), "{part} in\n{report}");
    }
    let json = stdout(&root.ok(&["data", "report", &recipe, "--json"]));
    let manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(manifest["lengths"]["documents"], 3);
    assert_eq!(manifest["sources"][0]["examples"]["duplicate"][0], "rows.jsonl:3");

    let strict = [
        "data",
        "report",
        &recipe,
        "--set",
        "limits.duplicates=0.1",
        "--set",
        "limits.tokens_lost=0.01",
    ];
    let output = expect(root.train(&strict).output().unwrap(), 1);
    assert!(stdout(&output).contains("4 read"), "the report comes first");
    let said = stderr(&output);
    assert!(
        said.contains("`limits.duplicates`: 25.0 % duplicate rows, 10.0 % are allowed"),
        "{said}"
    );
    assert!(said.contains("`limits.tokens_lost`"), "{said}");
    // And training does not begin.
    let run = [&["run"][..], &strict[2..]].concat();
    let output = expect(root.train(&run).output().unwrap(), 1);
    assert!(stderr(&output).contains("breaks its limits"));
    assert!(!root.join("outputs/small").exists());
}

#[test]
fn a_row_is_shown_as_the_step_sees_it() {
    let root = Root::new();
    let recipe = recipe(&root, "{}");
    let mut shown = String::new();
    for row in ["0", "1", "2"] {
        shown += &stdout(&root.ok(&["data", "inspect", &recipe, "--row", row, "--color", "never"]));
    }
    assert!(shown.contains("【third") && shown.contains("rows.jsonl:2"), "{shown}");
    assert!(
        !shown.contains("【first"),
        "an answer that is not to be learned is only read\n{shown}"
    );
    assert!(shown.contains("first") && shown.contains("【second"), "{shown}");
    assert!(shown.contains("⟪") && shown.contains("tokens are cut off"), "{shown}");
    assert_eq!(shown.matches("learns to stop with").count(), 2, "{shown}");
    let colored = stdout(&root.ok(&["data", "inspect", &recipe, "--color", "always"]));
    assert!(colored.contains("\u{1b}[1;32m"), "{colored:?}");
    let json = stdout(&root.ok(&["data", "inspect", &recipe, "--json"]));
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(row["documents"][0]["tokens"][0]["text"].is_string());
    let output = expect(
        root.train(&["data", "inspect", &recipe, "--row", "3"])
            .output()
            .unwrap(),
        2,
    );
    assert!(stderr(&output).contains("small has 3 rows"), "{}", stderr(&output));
    let fetched = stdout(&root.ok(&["data", "fetch", &recipe]));
    assert!(fetched.contains("rows.jsonl sha256:"), "{fetched}");
}

#[test]
fn rows_longer_than_the_bases_positions_are_known_before_training() {
    let root = Root::new();
    let recipe = recipe(&root, "{}");
    let long = "word ".repeat(2000);
    let row = format!(
        r#"{{"messages": [{{"role": "user", "content": "five?"}}, {{"role": "assistant", "content": "{long}"}}]}}"#
    );
    let rows = std::fs::read_to_string(root.join("rows.jsonl")).unwrap();
    root.write("rows.jsonl", &format!("{rows}\n{row}\n"));
    let longer = ["--set", "train.max_seq_len=1024"];
    let with = |command: &[&str], length: &[&str]| {
        root.train(&[command, &[recipe.as_str()], length].concat())
            .output()
            .unwrap()
    };

    let may =
        "`train.max_seq_len` is 1024 and the base has 512 positions: a row of more than 512 tokens would stop the run";
    let planned = stdout(&expect(with(&["plan"], &longer), 0));
    assert!(planned.contains(may), "{planned}");
    let text = std::fs::read_to_string(root.join(&recipe)).unwrap();
    root.write(&recipe, &text.replace("max_seq_len: 96", "max_seq_len: 1024"));
    let checked = expect(with(&["check"], &[]), 0);
    assert!(stdout(&checked).contains("small.yaml: ok"), "{}", stdout(&checked));
    assert!(stderr(&checked).contains(may), "{}", stderr(&checked));

    let are = "1 training and 0 held-out documents are longer than the base's 512 positions, the longest 1024 tokens, the \
               first rows.jsonl:5";
    let reported = expect(with(&["data", "report"], &[]), 1);
    assert!(
        stdout(&reported).contains("5 read"),
        "the report comes first: {}",
        stdout(&reported)
    );
    let said = stderr(&reported);
    assert!(
        said.contains(are) && said.contains("set `train.max_seq_len` to 512 or less"),
        "{said}"
    );
    for command in ["plan", "check"] {
        let output = expect(with(&[command], &[]), 0);
        let said = stdout(&output) + &stderr(&output);
        assert!(
            said.contains(are) && said.contains("1 of 4 training documents are longer than"),
            "{command}: {said}"
        );
    }
    assert!(stderr(&expect(with(&["run"], &[]), 1)).contains(are));
    assert!(!root.join("outputs/small").exists());

    // With the remedy, and what it costs.
    let fits = ["--set", "train.max_seq_len=512"];
    expect(with(&["data", "report"], &fits), 0);
    let planned = stdout(&expect(with(&["plan"], &fits), 0));
    let cut = "1 of 4 training documents are longer than `train.max_seq_len: 512`, the longest ";
    assert!(
        planned.contains(cut) && planned.contains("the base has 512 positions"),
        "{planned}"
    );
    assert!(!planned.contains(may) && !planned.contains(are), "{planned}");
}
