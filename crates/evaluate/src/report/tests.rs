//! The page holds what it was given, is safe whatever that is, and needs nothing from elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;
use crate::table::tests::reference_table;

/// A run in the shape of the 135M reference run.
fn example() -> ReportData {
    let curve = |name: &str, from: f64, to: f64| Curve {
        name: name.into(),
        points: (1..=90)
            .map(|step| {
                let share = step as f64 / 90.0;
                let noise = ((step * 37 % 11) as f64 - 5.0) / 90.0;
                CurvePoint {
                    step,
                    loss: to + (from - to) * (-4.0 * share).exp() + noise,
                    learning_rate: 2e-4 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
                    tokens_per_second: 2700.0 + 900.0 * noise,
                }
            })
            .collect(),
        held_out: vec![(1, from), (45, (from + to) / 2.0), (90, to + 0.02)],
    };
    let modules = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ];
    let names: Vec<(String, f64)> = (0..30)
        .flat_map(|layer| {
            modules.iter().enumerate().map(move |(m, module)| {
                let value = 0.2 + 0.15 * (f64::from(layer) / 5.0).sin() + 0.03 * m as f64;
                (format!("model.layers.{layer}.{module}.weight"), value)
            })
        })
        .collect();
    let answer = |model: &str, text: &str, correct| SampleAnswer {
        model: model.into(),
        text: text.into(),
        correct: Some(correct),
    };
    let stage = |name: &str, start, seconds, note: &str| StageTime {
        name: name.into(),
        start,
        seconds,
        note: note.into(),
    };
    ReportData {
        name: "smollm2".into(),
        subtitle: "SmolLM2-135M-Instruct, four specialists, TIES at trim 0.8".into(),
        command: "synapse-train run pipelines/smollm2.yaml".into(),
        recipes: vec![RecipeText {
            file: "pipelines/smollm2.yaml".into(),
            text: "name: smollm2\nmerge: { method: ties, trim: 0.8 }\n".into(),
        }],
        stages: vec![
            stage("math: fetch", 0.0, 4.0, "cached"),
            stage("math: train", 4.0, 1520.0, ""),
            stage("code: train", 1524.0, 1377.0, ""),
            stage("merge", 2901.0, 12.4, ""),
            stage("evaluate", 2913.4, 801.0, ""),
        ],
        curves: vec![
            curve("math", 1.34, 1.08),
            curve("code", 0.61, 0.49),
            curve("general", 1.72, 1.64),
            curve("coordinator", 2.3, 0.12),
        ],
        table: Some(reference_table()),
        gate: Some(crate::gate::GateDecision::Pass {
            message: "held-out-loss within 2 % of the base on math, code, general, coordinator".into(),
        }),
        samples: vec![Sample {
            domain: "math".into(),
            prompt: "A hen lays 6 eggs a week. How many eggs do 3 hens lay in 2 weeks?".into(),
            reference: Some("3 hens lay 3 * 6 = 18 eggs a week.\nIn 2 weeks: 18 * 2 = 36.\n#### 36".into()),
            answers: vec![
                answer("base", "Each hen lays 6 eggs, so 3 + 6 = 9.\n#### 9", false),
                answer("math", "3 * 6 * 2 = 36\n#### 36", true),
                answer("merge", "3 hens lay 18 eggs a week, 36 in two.\n#### 36", true),
            ],
        }],
        search: Some(SearchSummary {
            words: "9 merges & none better".into(),
            plot: "<svg fill=\"#fff\"><script>1</script></svg>".into(),
        }),
        merge_map: Some(HeatMap::of_layers(
            "Sign conflicts in the merge",
            "Share of kept entries whose sign was outvoted.",
            names.iter().map(|(name, value)| (name.as_str(), *value)),
        )),
        data: vec![DataSummary {
            domain: "math".into(),
            source: "openai/gsm8k".into(),
            revision: "740312add88f".into(),
            read: 7_473,
            kept: 7_000,
            held_out: 80,
            trained_tokens: 812_345,
            lengths: vec![10, 400, 90, 0, 12],
            longest_row: 512,
            tokens_lost: 345,
            license: "MIT".into(),
            note: "12 longer than 512 tokens".into(),
        }],
        licenses: vec![License {
            covers: "HuggingFaceTB/SmolLM2-135M-Instruct".into(),
            license: "Apache-2.0".into(),
            note: String::new(),
        }],
        resources: vec![
            Fact {
                name: "peak memory".into(),
                value: "2.4 GiB".into(),
            },
            Fact {
                name: "threads".into(),
                value: "2".into(),
            },
        ],
        ..ReportData::default()
    }
}

#[test]
fn the_page_holds_everything_and_needs_nothing() {
    let page = render(&example()).unwrap();
    assert_eq!(page.matches("<svg ").count(), 5, "three curves, a map and a histogram");
    for words in [
        "9 merges &amp; none better",
        "src=\"data:image/svg+xml,%3Csvg fill=%22%23fff%22%3E%3Cscript%3E",
        "synapse-train run pipelines/smollm2.yaml",
        "Gate: passed.",
        "gain kept",
        "3 hens lay 18 eggs a week",
        "Sign conflicts in the merge",
        "25 min 20 s",
        "openai/gsm8k",
        "812\u{202F}345",
        "Apache-2.0",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for foreign in ["<script", "http://", "https://", "@import", "url(", "<link", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let (sources, carried) = (page.matches("src=").count(), page.matches("src=\"data:").count());
    assert_eq!(sources, carried, "an image is in the page itself");
    for tag in [
        "section", "table", "div", "figure", "svg", "span", "article", "tr", "td", "th", "p",
    ] {
        let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert_eq!(page, render(&example()).unwrap(), "the same data give the same bytes");
    if let Some(path) = std::env::var_os("SYNAPSE_EXAMPLE_REPORT") {
        std::fs::write(path, page).unwrap();
    }
}

#[test]
fn what_models_say_is_only_text() {
    let mut data = example();
    data.name = "<b>run</b>".into();
    data.samples[0].answers[0].text = "</div><script>alert(1)</script>\u{7}".into();
    data.recipes[0].text = "a: \"<x>\" & 'y'".into();
    let page = render(&data).unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>run") && !page.contains('\u{7}'));
    assert!(page.contains("a: &quot;&lt;x&gt;&quot; &amp; &#39;y&#39;"));
}

#[test]
fn module_weights_are_drawn_under_the_answer() {
    let mut data = example();
    assert!(
        !render(&data).unwrap().contains("id=\"tokens\""),
        "no modules, no section"
    );
    data.traces = vec![TokenTrace {
        domain: "math".into(),
        model: "merge".into(),
        prompt: "What is 2 + 2?".into(),
        tokens: vec!["2 +".into(), "\n<4>".into()],
        modules: vec!["language".into(), "expert 0".into(), "memory".into()],
        weights: vec![vec![0.75, 0.25, 0.0], vec![0.0, 0.5, 0.5]],
        memory_writes: vec![0.0, 0.8],
        memory_reads: vec![0.0, 3.0],
    }];
    let page = render(&data).unwrap();
    for words in [
        "<section id=\"tokens\">",
        "What is 2 + 2?",
        "<b>2·+</b>",
        "<b>⏎&lt;4&gt;</b>",
        "Mean over the answer: language 38 %, expert 0 38 %, memory 25 %; the memory writes with strength 0.40.",
        "title=\"language 75 %, expert 0 25 %; memory writes 0.00, reads 0.00\"",
    ] {
        assert!(page.contains(words), "{words}");
    }
    // a token's cells: three modules, what the memory wrote, and what it read as a share of the most
    let cells = |values: [&str; 5]| {
        values
            .map(|value| format!("<i style=\"--weight:{value}\"></i>"))
            .concat()
    };
    assert!(page.contains(&cells(["0.75", "0.25", "0.00", "0.00", "0.00"])));
    assert!(page.contains(&cells(["0.00", "0.50", "0.50", "0.80", "1.00"])));
}

#[test]
fn an_empty_run_is_a_short_page_that_renews_itself() {
    let data = ReportData {
        name: "new".into(),
        refresh: Some((5, "math: train".into())),
        ..ReportData::default()
    };
    let page = render(&data).unwrap();
    assert!(
        page.contains("<meta http-equiv=\"refresh\" content=\"5\">") && page.contains("Still running: math: train")
    );
    assert!(!page.contains("<section") && !page.contains("<svg"));
}

#[test]
fn odd_curves_are_drawn() {
    let point = |step, loss| CurvePoint {
        step,
        loss,
        learning_rate: 0.0,
        tokens_per_second: 0.0,
    };
    for points in [
        vec![point(1, 2.0)],
        vec![point(1, f64::NAN)],
        vec![point(1, 1.0), point(2, 1.0)],
        (1..5000).map(|s| point(s, 1e-9)).collect(),
    ] {
        let curve = Curve {
            name: "odd".into(),
            points,
            held_out: Vec::new(),
        };
        let page = render(&ReportData {
            curves: vec![curve],
            ..ReportData::default()
        })
        .unwrap();
        assert!(page.len() < 60_000 && !page.contains("NaN"), "{}", page.len());
    }
}

#[test]
fn data_reads_back_from_json() {
    let mut data = example();
    data.merge_map = Some(HeatMap::of_layers(
        "map",
        "",
        [("model.layers.1.mlp.up_proj.weight", 0.5), ("model.norm.weight", 1.0)],
    ));
    let text = serde_json::to_string(&data).unwrap();
    for written in ["\"subjects\":[", "\"subject\":\"base\"", "\"licences\":["] {
        assert!(text.contains(written), "{written}");
    }
    let map = serde_json::from_str::<ReportData>(&text).unwrap().merge_map.unwrap();
    assert_eq!(
        (map.rows.as_slice(), map.columns.as_slice()),
        (
            ["0".to_owned(), "1".into()].as_slice(),
            ["mlp.up_proj".to_owned()].as_slice()
        )
    );
    assert!(map.values[0][0].is_nan() && map.values[1][0] == 0.5);
}

#[test]
fn samples_stand_side_by_side_by_id() {
    let record = |id: &str, answer: &str, correct: bool| {
        json!({"id": id, "question": "q", "reference": "r", "answer": answer, "correct": correct})
            .as_object()
            .unwrap()
            .clone()
    };
    let base = [record("a", "1", false), record("b", "2", true)];
    let merge = [record("b", "3", true), record("a", "4", true)];
    let samples = Sample::side_by_side("math", &[("base", &base), ("merge", &merge)], 1);
    assert_eq!(samples.len(), 1);
    let texts: Vec<&str> = samples[0].answers.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!((texts, samples[0].answers[1].correct), (vec!["1", "4"], Some(true)));
}
