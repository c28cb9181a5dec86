//! The Synapse architecture from the command line: trained, traced, served, with specialists over it that are merged.

use serde_json::{Value, json};

use crate::{
    serving::Server,
    support::{Root, expect, repository, stderr, stdout},
};

/// The bundled recipe, cut short.
const SHORT: [&str; 8] = [
    "run",
    "recipes/synapse-arch/nano.yaml",
    "--set",
    "train.max_steps=6",
    "--set",
    "held_out=16",
    "--set",
    "train.batch_size=8",
];

const MODEL: &str = "outputs/synapse-arch/nano";

fn read(root: &Root, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root.join(path)).unwrap()).unwrap()
}

/// A LoRA recipe over the trained model.
fn specialist(name: &str, data: &str) -> String {
    format!(
        "name: {name}
pipeline: ../pipelines/specialist.yaml
base: ../{MODEL}
data: [{{ dataset: ../data/nano/train/{data}, samples: 48 }}]
held_out: 8
filters: {{ min_chars: 1, dedupe: false }}
quantization: {{ type: none }}
lora: {{ rank: 4, alpha: 8, dropout: 0.1, targets: all-linear }}
train: {{ max_steps: 2, batch_size: 4, gradient_accumulation: 1, max_seq_len: 128, learning_rate: 1.0e-3, seed: 3 }}
evaluate: {{ suites: [held-out-loss] }}
output: outputs/{name}
"
    )
}

#[test]
fn a_model_of_modules_is_trained_traced_served_and_specialized() {
    let root = Root::new();
    root.ok(&SHORT);

    // what the routers did is in the metrics
    let metrics = std::fs::read_to_string(root.join("outputs/synapse-arch/runs/nano/metrics.jsonl")).unwrap();
    let last: Value = metrics
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .rfind(|line: &Value| line["router"].is_object())
        .unwrap();
    let router = &last["router"];
    assert_eq!(router["shares"].as_array().unwrap().len(), 4, "{router}");
    let shares: f64 = router["shares"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_f64().unwrap())
        .sum();
    assert!((shares - 2.0).abs() < 1e-6, "every token goes to two modules: {router}");
    assert!(router["load_entropy"].as_f64().unwrap() > 0.0);

    // a trace: every token, every layer, two modules each
    let answer = root.ok(&[
        "generate",
        MODEL,
        "--prompt",
        "What is 2 + 3?",
        "--max-tokens",
        "5",
        "--json",
        "--trace",
        "trace.json",
    ]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let trace = read(&root, "trace.json");
    assert_eq!(
        trace["modules"],
        json!(["language", "expert 0", "expert 1", "expert 2", "expert 3", "memory"])
    );
    let tokens = trace["tokens"].as_array().unwrap().len() as u64;
    let timings = &answer["timings"];
    assert_eq!(
        tokens,
        timings["prompt_tokens"].as_u64().unwrap() + answer["token_ids"].as_array().unwrap().len() as u64
    );
    for layer in trace["layers"].as_array().unwrap() {
        assert_eq!(layer["weights"].as_array().unwrap().len() as u64, tokens);
        for weights in layer["weights"].as_array().unwrap() {
            let fired = weights
                .as_array()
                .unwrap()
                .iter()
                .filter(|weight| weight.as_f64().unwrap() > 0.0);
            assert_eq!(fired.count(), 2);
        }
    }

    // the server says the same as the command line
    let server = Server::start(&root, &[MODEL]);
    let body = json!({
        "model": "nano", "messages": [{ "role": "user", "content": "What is 2 + 3?" }], "max_tokens": 5, "temperature": 0,
    });
    let (status, text) = server.request("POST", "/v1/chat/completions", &body.to_string());
    assert_eq!(status, 200, "{text}");
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reply["choices"][0]["message"]["content"], answer["text"]);
    let body = json!({ "messages": [{ "role": "user", "content": "What is 2 + 3?" }], "answer": answer["text"] });
    let (status, text) = server.request("POST", "/v1/models/trace", &body.to_string());
    assert_eq!(status, 200, "{text}");
    let looked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(looked["modules"], trace["modules"]);
    let asked = looked["answer_from"].as_u64().unwrap();
    assert_eq!(asked, timings["prompt_tokens"].as_u64().unwrap());
    let prompt = |trace: &Value| trace["layers"][3]["weights"].as_array().unwrap()[..asked as usize].to_vec();
    assert_eq!(
        prompt(&looked),
        prompt(&trace),
        "the same numbers as from the command line"
    );
    drop(server);

    // two specialists over it, their merge, and an answer from each
    for (name, data) in [("first", "math.parquet"), ("second", "code.json")] {
        root.write(&format!("recipes/{name}.yaml"), &specialist(name, data));
        root.ok(&["run", &format!("recipes/{name}.yaml")]);
    }
    root.ok(&[
        "generate",
        MODEL,
        "--adapter",
        "outputs/first",
        "--prompt",
        "What is 2 + 3?",
        "--max-tokens",
        "3",
    ]);
    let merged = root
        .merge(&[
            "--method",
            "ties",
            "--trim",
            "0.8",
            "--adapter",
            "outputs/first",
            "--adapter",
            "outputs/second",
            "--out",
            "outputs/merged",
        ])
        .output()
        .unwrap();
    expect(merged, 0);
    root.ok(&[
        "generate",
        "outputs/merged",
        "--prompt",
        "What is 2 + 3?",
        "--max-tokens",
        "3",
        "--trace",
        "merged.json",
    ]);
    assert_eq!(read(&root, "merged.json")["modules"], trace["modules"]);

    // their experts side by side in a larger model, which trains on
    let upcycled = root
        .merge(&[
            "upcycle",
            "--adapter",
            "outputs/first",
            "--adapter",
            "outputs/second",
            "--out",
            "outputs/upcycled",
        ])
        .output()
        .unwrap();
    assert!(stderr(&expect(upcycled, 0)).contains("8 experts per layer from 2 specialists"));
    let upcycled = synapse_checkpoint::ModelFolder::open(&root.join("outputs/upcycled")).unwrap();
    let base = synapse_checkpoint::ModelFolder::open(&root.join(MODEL)).unwrap();
    let expert = |folder: &synapse_checkpoint::ModelFolder, number: usize| {
        folder
            .read_f32(&format!("model.layers.1.experts.{number}.up_proj.weight"))
            .unwrap()
    };
    assert_ne!(
        expert(&upcycled, 2),
        expert(&base, 2),
        "the first specialist's change is in it"
    );
    assert_ne!(
        expert(&upcycled, 2),
        expert(&upcycled, 6),
        "the second specialist has an expert of its own"
    );
    root.write(
        "recipes/onwards.yaml",
        &specialist("onwards", "math.parquet")
            .replace(&format!("../{MODEL}"), "../outputs/upcycled")
            .replace(
                "quantization: { type: none }\nlora: { rank: 4, alpha: 8, dropout: 0.1, targets: all-linear }\n",
                "",
            )
            .replace("train: { ", "train: { method: full, "),
    );
    root.ok(&["run", "recipes/onwards.yaml"]);
}

/// The bundled pipeline with its recipes cut short: some rows, two steps, four questions.
#[test]
fn four_specialists_over_a_model_of_modules_are_merged_measured_traced_and_served_as_a_swarm() {
    let root = Root::new();
    let pipeline = "pipelines/synapse-arch.yaml";
    let early = root.train(&["run", pipeline, "--offline"]).output().unwrap();
    assert!(stderr(&expect(early, 2)).contains("run that one first"));
    root.ok(&SHORT);
    let domains = ["math", "code", "general", "coordinator"];
    for domain in domains {
        let path = root.join(&format!("recipes/synapse-arch/{domain}.yaml"));
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("samples: all", "samples: 48"),
            ("held_out: 200", "held_out: 6"),
            ("train:\n", "train:\n  max_steps: 2\n"),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{domain}: {from}");
            text = text.replace(from, to);
        }
        std::fs::write(&path, text).unwrap();
    }
    // two steps are worth nothing, which the gate says of a run that is not made to go on
    let short = ["--set", "evaluate.limit=4", "--set", "gate.action=stamp"];
    let output = root.ok(&[&["run", pipeline, "--offline"][..], &short].concat());
    let table = stdout(&output);
    assert!(table.contains("merge") && table.contains("gain kept"), "{table}");
    for place in ["math", "code", "general", "coordinator"] {
        assert!(
            root.join(&format!("outputs/synapse-arch/{place}/adapter_model.safetensors"))
                .is_file()
        );
    }
    assert!(root.join("outputs/synapse-arch/coordinator/router.json").is_file());
    let merged = synapse_checkpoint::ModelFolder::open(&root.join("outputs/synapse-arch/merged")).unwrap();
    let base = synapse_checkpoint::ModelFolder::open(&root.join(MODEL)).unwrap();
    assert_ne!(merged.content_hash().unwrap(), base.content_hash().unwrap());

    // an answer of every specialist and of the merge, with what fired for each of its tokens
    let run = "outputs/synapse-arch/runs/merged";
    let page = std::fs::read_to_string(root.join(&format!("{run}/report.html"))).unwrap();
    assert_eq!(page.matches("<article class=\"trace\">").count(), 2 * domains.len());
    for domain in domains {
        for subject in [domain, "merge"] {
            assert!(
                page.contains(&format!("<small>{domain} · {subject}</small>")),
                "{domain}, {subject}"
            );
            let sample = read(&root, &format!("{run}/evaluation/{domain}.trace.{subject}.json"));
            let tokens = sample["tokens"].as_array().unwrap();
            let from = sample["answer_from"].as_u64().unwrap() as usize;
            assert!(0 < from && from < tokens.len(), "{from} of {}", tokens.len());
            for layer in sample["layers"].as_array().unwrap() {
                assert_eq!(layer["weights"].as_array().unwrap().len(), tokens.len());
            }
        }
    }
    let own = std::fs::read_to_string(root.join("outputs/synapse-arch/runs/nano/report.html")).unwrap();
    assert_eq!(
        own.matches("<article class=\"trace\">").count(),
        1,
        "full training leaves one too"
    );

    // once the data is there a plan knows the micro-batches, and what an adapter over modules takes
    let recipe = "recipes/synapse-arch/math.yaml";
    let planned: Value = serde_json::from_slice(&root.ok(&["plan", recipe, "--json"]).stdout).unwrap();
    let planned = &planned["recipes"][0];
    assert!(
        planned["time"]["tokens_per_second"].as_f64().unwrap() > 0.0,
        "{planned}"
    );
    let longer = ["plan", recipe, "--json", "--set", "output=outputs/elsewhere"];
    let unprepared: Value = serde_json::from_slice(&root.ok(&longer).stdout).unwrap();
    let activations = |plan: &Value| plan["memory"]["activations"].as_u64().unwrap();
    assert!(
        activations(planned) < activations(&unprepared["recipes"][0]),
        "the rows there are, and full ones"
    );

    let server = Server::start(&root, &["--swarm", pipeline, "--swarm-threshold", "0"]);
    let body = json!({
        "model": "synapse-swarm", "messages": [{ "role": "user", "content": "What is 2 + 3?" }], "max_tokens": 4,
    });
    let (status, text) = server.request("POST", "/v1/chat/completions", &body.to_string());
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let routing = &answer["synapse"];
    let scores = routing["scores"].as_object().unwrap();
    assert_eq!(
        scores.keys().collect::<Vec<_>>(),
        ["math", "code", "general", "several", "none"]
    );
    let label = routing["label"].as_str().unwrap();
    let expected = if domains.contains(&label) { label } else { "base" };
    assert_eq!(routing["adapter"], expected, "{routing}");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 0);
}

/// What `bench train` measures of a Synapse model, and what it forecasts for it.
#[test]
fn a_step_of_a_model_of_modules_is_measured() {
    let root = Root::new();
    let config = "data/nano/fresh-synapse/config.json";
    let bench = |quantization: &str| {
        let shape = ["--batch", "4", "--seq", "64", "--rank", "8", "--steps", "1", "--json"];
        let folder = [
            "bench",
            "train",
            config,
            "--random-weights",
            "--quantization",
            quantization,
        ];
        root.train(&[&folder[..], &shape].concat()).output().unwrap()
    };
    let found: Value = serde_json::from_slice(&expect(bench("none"), 0).stdout).unwrap();
    let figure = |key: &str| found[key].as_f64().unwrap();
    assert!(
        figure("tokens_per_second") > 0.0 && figure("gflop_per_token") > 0.0,
        "{found}"
    );
    // the process holds its code and more besides
    assert!(
        figure("peak_rss_bytes") > 0.8 * figure("predicted_peak_bytes"),
        "{found}"
    );
    assert!(stderr(&expect(bench("nf4"), 1)).contains("--quantization none"));
}

#[test]
fn what_a_model_of_modules_does_not_do_is_refused() {
    let root = Root::new();
    root.ok(&SHORT);
    for (arguments, code, said) in [
        (
            vec!["export", MODEL, "--format", "gguf", "--out", "model.gguf"],
            1,
            "which GGUF cannot represent",
        ),
        (
            vec!["generate", MODEL, "--prompt", "Hi", "--quant", "nf4"],
            1,
            "without --quant",
        ),
    ] {
        let output = expect(root.train(&arguments).output().unwrap(), code);
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    root.write("recipes/first.yaml", &specialist("first", "math.parquet"));
    let elsewhere = ["run", "recipes/first.yaml", "--device", "candle-cpu"];
    let output = root.train(&elsewhere).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("--device cpu") || stderr(&output).contains("--features candle"),
        "{}",
        stderr(&output)
    );
    let output = root
        .train(&[
            "bench",
            "tasks",
            "--task",
            "parity",
            "--config",
            "data/nano/fresh/config.json",
            "--out",
            "tasks",
        ])
        .output()
        .unwrap();
    assert!(stderr(&expect(output, 2)).contains("is a Qwen2ForCausalLM"));
    assert!(!root.join("tasks").exists());

    let base = Root::base();
    let base = base.to_str().unwrap();
    let output = root
        .train(&[
            "generate",
            base,
            "--prompt",
            "Hi",
            "--max-tokens",
            "1",
            "--trace",
            "trace.json",
        ])
        .output()
        .unwrap();
    let output = expect(output, 2);
    assert!(stderr(&output).contains("model_type: synapse"), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "refused before anything is generated");
    assert!(!root.join("trace.json").exists());
}

#[test]
fn a_wrong_configuration_is_refused_with_its_field() {
    let root = Root::new();
    let path = root.join("data/nano/fresh-synapse/config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, said) in [
        ("\"modules_per_token\": 2", "\"modules_per_token\": 9", "at most 6"),
        (
            "\"language_num_heads\": 4",
            "\"language_num_heads\": 5",
            "language_num_heads",
        ),
        (
            "\"routing\": \"dispatch\"",
            "\"routing\": \"round-robin\"",
            "dispatch and sequential",
        ),
        ("\"num_experts\": 4", "\"num_experts\": 0", "num_experts"),
        (
            "\"memory_decay\"",
            "\"memory_decays\"",
            "`memory_decays` is not a field",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let output = root.train(&SHORT).output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        assert!(stderr(&output).contains(said), "{from}: {}", stderr(&output));
    }
}

#[test]
fn tasks_are_learned_by_both_architectures_and_drawn() {
    let root = Root::new();
    let arguments = [
        "bench",
        "tasks",
        "--task",
        "parity",
        "--steps",
        "3",
        "--batch",
        "2",
        "--length",
        "16",
        "--eval-lengths",
        "16,32",
        "--documents",
        "2",
        "--out",
        "tasks",
    ];
    let output = root.ok(&arguments);
    assert!(stdout(&output).contains("transformer"), "{}", stdout(&output));
    let results = read(&root, "tasks/results.json");
    let models = results["tasks"][0]["models"].as_array().unwrap();
    let parameters: Vec<f64> = models
        .iter()
        .map(|model| model["parameters"].as_f64().unwrap())
        .collect();
    assert!((parameters[0] / parameters[1] - 1.0).abs() < 0.01, "{parameters:?}");
    for model in models {
        assert_eq!(model["losses"].as_array().unwrap().len(), 3);
        let asked: Vec<u64> = model["accuracy"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| pair[0].as_u64().unwrap())
            .collect();
        assert_eq!(asked, [16, 32]);
    }
    for plot in ["loss.svg", "accuracy.svg"] {
        let text = std::fs::read_to_string(root.join(&format!("tasks/parity/{plot}"))).unwrap();
        assert!(text.starts_with("<svg") && text.contains("Synapse"));
    }
    let output = root
        .train(&["bench", "tasks", "--task", "sums", "--out", "tasks"])
        .output()
        .unwrap();
    assert!(stderr(&expect(output, 2)).contains("recall, parity, mod5"));
    let output = root
        .train(&["bench", "tasks", "--task", "recall", "--length", "20"])
        .output()
        .unwrap();
    assert!(stderr(&expect(output, 2)).contains("needs at least 48"));
}

#[test]
fn the_bundled_sizes_are_what_they_are_said_to_be() {
    for (folder, parameters) in [
        ("data/nano/fresh-synapse", 4_685_408),
        ("data/synapse-arch/small", 51_304_570),
        ("data/synapse-arch/target", 1_122_884_064),
    ] {
        let config = synapse_checkpoint::ModelConfig::read(&repository().join(folder)).unwrap();
        assert_eq!(config.parameters(), parameters, "{folder}");
    }
}
