//! What a run costs: `bench train` measures it, `plan` forecasts it from the same formulas.

use serde_json::Value;

use crate::support::{Root, expect, stdout};

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A step of a folder, and of random weights of the same shape.
#[test]
fn bench_train_states_its_figures() {
    let root = Root::new();
    let shape = ["--steps", "2", "--batch", "2", "--seq", "48", "--rank", "4", "--json"];
    for recompute in ["on", "off"] {
        let folder = ["bench", "train", "data/nano/base", "--recompute", recompute];
        let found = json(&root.ok(&[&folder[..], &shape].concat()));
        for key in ["tokens_per_second", "gflops", "gemm_peak_gflops", "seconds"] {
            assert!(found[key].as_f64().unwrap() > 0.0, "{key}: {found}");
        }
        assert_eq!(found["step_seconds"].as_array().unwrap().len(), 2);
        assert!(found["threads"].as_u64().unwrap() >= 1);
        assert!(found["isa"].is_string());
    }
    let config = ["bench", "train", "data/nano/fresh/config.json", "--random-weights"];
    let none = json(&root.ok(&[&config[..], &["--quantization", "none"], &shape].concat()));
    let nf4 = json(&root.ok(&[&config[..], &shape].concat()));
    let weights = |found: &Value| found["predicted"]["weights"].as_u64().unwrap();
    assert!(weights(&none) > weights(&nf4));
}

#[test]
fn bench_train_refuses_what_it_cannot_measure() {
    let root = Root::new();
    for (arguments, words) in [
        (&["data/nano/base", "--rank", "0"][..], "--rank"),
        (&["data/nano/base", "--seq", "0"], "--seq"),
        (&["data/nano/base", "--dropout", "1.5"], "--dropout"),
        (&["nowhere", "--random-weights"], "nowhere"),
    ] {
        let command = [&["bench", "train"], arguments].concat();
        let output = root.train(&command).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(0), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

/// Through the serving engine, in the stored weights and in four bits.
#[test]
fn bench_decode_states_its_figures() {
    let root = Root::new();
    let shape = ["--prompt", "40", "--tokens", "8", "--rounds", "1", "--json"];
    for extra in [&["--batch", "1"][..], &["--batch", "3", "--quant", "nf4"]] {
        let found = json(&root.ok(&[&["bench", "decode", "data/nano/base"], extra, &shape].concat()));
        for key in [
            "prefill_tokens_per_second",
            "decode_tokens_per_second",
            "tokens_per_second",
            "gflops",
            "seconds",
        ] {
            assert!(found[key].as_f64().unwrap() > 0.0, "{key}: {found}");
        }
    }
    let prefill = [
        "bench",
        "prefill",
        "data/nano/base",
        "--prompt",
        "40",
        "--rounds",
        "1",
        "--json",
    ];
    let found = json(&root.ok(&prefill));
    assert!(
        found["tokens_per_second"].as_f64().unwrap() > 0.0 && found["generated_tokens"] == 1,
        "{found}"
    );
    let found = json(&root.ok(&[&["bench", "serve", "data/nano/base", "--batch", "3"][..], &shape].concat()));
    let rate = |key: &str| found[key].as_f64().unwrap();
    let ratio = rate("tokens_per_second") / rate("in_turn_tokens_per_second");
    assert!((rate("speedup") - ratio).abs() < 1e-9 * ratio, "{found}");
    let output = root
        .train(&[&prefill[..], &["--tokens", "8"]].concat())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("which generates nothing"));
    for (arguments, words) in [
        (&["--batch", "0"][..], "--batch"),
        (&["--tokens", "1"], "--tokens"),
        (&["--prompt", "512"], "512 positions"),
        (&["--adapter", "nowhere"], "nowhere"),
    ] {
        let output = root
            .train(&[&["bench", "decode", "data/nano/base"], arguments].concat())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

/// Few bits change the numbers of generated tokens, but not what the bundled base knows well.
#[test]
fn few_bits_answer_as_the_stored_weights_do() {
    let root = Root::new();
    let answer = |quant: &str| {
        let prompt = [
            "generate",
            "data/nano/base",
            "--prompt",
            "What is 3 + 4?",
            "--max-tokens",
            "16",
        ];
        json(&root.ok(&[&prompt[..], &["--json", "--quant", quant]].concat()))["text"].clone()
    };
    for quant in ["nf4", "q8_0"] {
        assert_eq!(answer("none"), answer(quant), "{quant}");
    }
}

/// A .gguf file stands wherever a model folder that generates does.
#[test]
fn a_gguf_file_is_a_model() {
    let root = Root::new();
    let export = ["export", "data/nano/base", "--quant", "q4_0", "--out", "nano.gguf"];
    root.ok(&export);
    let answer = |model: &[&str]| {
        let asked = ["--prompt", "What is 3 + 4?", "--max-tokens", "16", "--json"];
        json(&root.ok(&[&["generate"], model, &asked].concat()))["token_ids"].clone()
    };
    assert_eq!(answer(&["nano.gguf"]), answer(&["data/nano/base", "--quant", "q4_0"]));
    let short = ["--prompt", "16", "--tokens", "4", "--rounds", "1", "--json"];
    let found = json(&root.ok(&[&["bench", "decode", "nano.gguf"], &short[..]].concat()));
    assert!(found["tokens_per_second"].as_f64().unwrap() > 0.0, "{found}");

    let refused = |arguments: &[&str], code: i32, words: &str| {
        let output = root.train(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(words), "{told}");
    };
    for command in [&["serve"][..], &["bench", "decode"]] {
        let arguments = [command, &["nano.gguf", "--quant", "nf4"]].concat();
        refused(&arguments, 2, "determines the storage of its weights itself");
    }
    root.write("wrong.gguf", "not a model");
    refused(
        &["generate", "wrong.gguf", "--prompt", "Hi"],
        1,
        "does not begin with `GGUF`",
    );
    // half precision is not what generated tokens are multiplied with, and that is said
    root.ok(&["export", "data/nano/base", "--quant", "f16", "--out", "half.gguf"]);
    let output = root
        .train(&["generate", "half.gguf", "--prompt", "Hi", "--max-tokens", "2"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("F16 matrices are converted to bf16"),
        "{told}"
    );
}

#[test]
fn a_wrong_number_of_threads_is_refused() {
    let root = Root::new();
    for value in ["0", "two"] {
        let output = root.train(&["schema"]).env("SYNAPSE_THREADS", value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("SYNAPSE_THREADS={value}")));
    }
}

/// Before the data is there only memory is known; afterwards the time, from rates measured there and then.
#[test]
fn plan_knows_memory_first_and_time_once_the_data_is_prepared() {
    let root = Root::new();
    let plan = |recompute: &str| {
        let set = format!("train.recompute={recompute}");
        let found = json(&root.ok(&["plan", "recipes/nano/math.yaml", "--set", &set, "--json"]));
        found["recipes"][0].clone()
    };
    let (kept, again) = (plan("false"), plan("true"));
    assert!(kept["time"].is_null());
    let activations = |found: &Value| found["memory"]["activations"].as_u64().unwrap();
    assert!(activations(&kept) > activations(&again));
    assert_eq!(again["memory"]["recompute"], true);
    expect(
        root.train(&["run", "recipes/nano/math.yaml", "--until", "prepare", "--offline"])
            .output()
            .unwrap(),
        0,
    );
    let prepared = plan("auto");
    assert!(prepared["time"]["seconds"].as_f64().unwrap() > 0.0, "{prepared}");
    assert!(prepared["time"]["tokens_per_second"].as_f64().unwrap() > 0.0);

    // a change of the recipe is not done yet, and of the data nothing is known that was counted before
    let said = |set: &str| stdout(&root.ok(&["plan", "recipes/nano/math.yaml", "--set", set]));
    let (same, faster, other) = (
        said("train.seed=42"),
        said("train.learning_rate=1.0e-4"),
        said("held_out=50"),
    );
    assert!(same.ends_with("done    fetch, prepare\n"), "{same}");
    for text in [&faster, &other] {
        assert!(
            text.contains("for the recipe as it was then: what the changes touch"),
            "{text}"
        );
    }
    assert!(
        faster.contains("measured here just now") && !other.contains("measured here just now"),
        "{other}"
    );
}
