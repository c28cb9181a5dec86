//! Every method, run as a user runs it, against its formula in float64 on the vectors themselves.
//!
//! The fast path follows spheres by inner products and selects by histograms; in here are plain loops and sorts. Each
//! bound is stated in roundings of f32 (u = 2⁻²⁴) of the magnitudes that go into an entry.

use std::collections::BTreeMap;

use synapse_checkpoint::{DType, ModelFolder};
use synapse_export::{GgufExport, GgufType, export_gguf};

use super::models::{self, SMALL, read};
use super::support::Workplace;

type Tensors = BTreeMap<String, Vec<f64>>;

const U: f64 = 1.0 / 16_777_216.0;

/// A base, and three models around it.
fn place() -> Workplace {
    let workplace = Workplace::empty();
    models::write(&workplace.path("base"), SMALL, 1, None);
    for (seed, name) in [(2, "a"), (3, "b"), (4, "c")] {
        models::write(
            &workplace.path(name),
            SMALL,
            seed,
            Some((&workplace.path("base"), 0.02)),
        );
    }
    workplace
}

fn merge(workplace: &Workplace, arguments: &[&str]) -> Tensors {
    let all: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--out", "out", "--dtype", "f32"])
        .collect();
    workplace.run(&all).exits(0);
    read(&workplace.path("out"))
}

/// Compares a merge with a formula over each tensor's base and models. `roundings` bounds an entry's error in roundings
/// of the tensor's largest magnitude.
fn check(
    workplace: &Workplace,
    models: &[&str],
    arguments: &[&str],
    roundings: f64,
    formula: impl Fn(&str, &[f64], &[Vec<f64>]) -> Vec<f64>,
) {
    let mut all = arguments.to_vec();
    for model in models {
        all.extend(["--model", model]);
    }
    let merged = merge(workplace, &all);
    let base = read(&workplace.path("base"));
    let inputs: Vec<Tensors> = models
        .iter()
        .map(|name| read(&workplace.path(name.split('@').next().unwrap())))
        .collect();
    for (name, theta) in &base {
        let own: Vec<Vec<f64>> = inputs.iter().map(|input| input[name].clone()).collect();
        let expected = formula(name, theta, &own);
        let scale = theta
            .iter()
            .chain(own.iter().flatten())
            .fold(0.0_f64, |most, value| most.max(value.abs()));
        for (at, (got, wanted)) in merged[name].iter().zip(&expected).enumerate() {
            let error = (got - wanted).abs();
            assert!(
                error <= roundings * U * scale,
                "{arguments:?} {name}[{at}]: {got} instead of {wanted}"
            );
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

fn minus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x - y).collect()
}

fn scaled(x: &[f64], factor: f64) -> Vec<f64> {
    x.iter().map(|x| x * factor).collect()
}

fn plus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// The arc between two vectors at t.
fn arc(x: &[f64], y: &[f64], t: f64) -> Vec<f64> {
    let angle = (dot(x, y) / (norm(x) * norm(y))).acos();
    let part = |t: f64| (t * angle).sin() / angle.sin();
    plus(&scaled(x, part(1.0 - t)), &scaled(y, part(t)))
}

// A coefficient has one rounding, a product and a sum one each, and three vectors at most; 16 leaves room for nothing else.
const SPHERE: f64 = 16.0;

#[test]
fn spheres() {
    let workplace = place();
    check(
        &workplace,
        &["a"],
        &["--method", "slerp", "--base", "base", "--set", "t=0.3"],
        SPHERE,
        |_, base, models| arc(base, &models[0], 0.3),
    );
    check(
        &workplace,
        &["a@1", "b@3"],
        &["--method", "nuslerp"],
        SPHERE,
        |_, _, models| arc(&models[0], &models[1], 0.75),
    );
    check(
        &workplace,
        &["a", "b"],
        &["--method", "nuslerp", "--base", "base"],
        SPHERE,
        |_, base, models| plus(base, &arc(&minus(&models[0], base), &minus(&models[1], base), 0.5)),
    );
    check(
        &workplace,
        &["a@1", "b@2", "c@1"],
        &["--method", "multislerp"],
        SPHERE,
        |_, _, models| {
            let shares = [0.25, 0.5, 0.25];
            let mut mean = vec![0.0; models[0].len()];
            let mut distance = 0.0;
            for (model, share) in models.iter().zip(shares) {
                mean = plus(&mean, &scaled(model, share / norm(model)));
                distance += share * norm(model);
            }
            scaled(&mean, distance / norm(&mean))
        },
    );
}

#[test]
fn the_karcher_mean_is_where_the_pulls_cancel() {
    let workplace = place();
    let merged = merge(
        &workplace,
        &[
            "--method",
            "karcher",
            "--model",
            "a",
            "--model",
            "b",
            "--model",
            "c",
            "--set",
            "max_iter=50",
            "--set",
            "tol=1e-12",
        ],
    );
    let models: Vec<Tensors> = ["a", "b", "c"].iter().map(|name| read(&workplace.path(name))).collect();
    for (name, mean) in &merged {
        let mut pull = vec![0.0; mean.len()];
        let mut distance = 0.0;
        let direction = scaled(mean, 1.0 / norm(mean));
        for model in &models {
            let unit = scaled(&model[name], 1.0 / norm(&model[name]));
            let cosine = dot(&direction, &unit);
            let angle = cosine.acos();
            pull = plus(
                &pull,
                &scaled(&minus(&unit, &scaled(&direction, cosine)), angle / angle.sin()),
            );
            distance += norm(&model[name]) / 3.0;
        }
        // The mean is stored in f32: its direction is off by a rounding an entry, so is each pull.
        assert!(
            norm(&pull) < 3.0 * 4.0 * U * (mean.len() as f64).sqrt(),
            "{name}: {}",
            norm(&pull)
        );
        assert!((norm(mean) / distance - 1.0).abs() < 8.0 * U);
    }
}

#[test]
fn model_stock_goes_by_the_angle() {
    let workplace = place();
    for by_row in [false, true] {
        let setting = format!("filter_wise={by_row}");
        let arguments = ["--method", "model_stock", "--base", "base", "--set", &setting];
        check(
            &workplace,
            &["a", "b", "c"],
            &arguments,
            SPHERE,
            |name, base, models| {
                let width = if !by_row || name.contains("norm") {
                    base.len()
                } else {
                    base.len() / rows(name)
                };
                let mut merged = Vec::new();
                for row in 0..base.len() / width {
                    let part = row * width..(row + 1) * width;
                    let changes: Vec<Vec<f64>> = models
                        .iter()
                        .map(|model| minus(&model[part.clone()], &base[part.clone()]))
                        .collect();
                    let pairs = [(0, 1), (0, 2), (1, 2)];
                    let cosine = |&(i, j): &(usize, usize)| {
                        dot(&changes[i], &changes[j]) / (norm(&changes[i]) * norm(&changes[j]))
                    };
                    let mean = pairs.iter().map(cosine).sum::<f64>() / 3.0;
                    let t = 3.0 * mean / (1.0 + 2.0 * mean);
                    let average = changes
                        .iter()
                        .fold(vec![0.0; width], |sum, change| plus(&sum, &scaled(change, 1.0 / 3.0)));
                    merged.extend(plus(&base[part], &scaled(&average, t)));
                }
                merged
            },
        );
    }
}

fn rows(name: &str) -> usize {
    models::tensors(SMALL)
        .iter()
        .find(|(tensor, _)| tensor == name)
        .unwrap()
        .1[0]
}

#[test]
fn entry_by_entry() {
    let workplace = place();
    let near = ["--method", "nearswap", "--base", "base", "--set", "t=0.005"];
    check(&workplace, &["a"], &near, 8.0, |_, base, models| {
        let entry = |(a, b): (&f64, &f64)| {
            let weight = (0.005 / (a - b).abs().max(1e-6)).clamp(0.0, 1.0);
            weight * b + (1.0 - weight) * a
        };
        base.iter().zip(&models[0]).map(entry).collect()
    });
    let scale = [
        "--method",
        "passthrough",
        "--set",
        "scale=[{filter: o_proj, value: 0.5}, {value: 1}]",
    ];
    check(&workplace, &["b"], &scale, 0.0, |name, _, models| {
        scaled(&models[0], if name.contains("o_proj") { 0.5 } else { 1.0 })
    });
    check(
        &workplace,
        &["a", "b", "c"],
        &["--method", "sce", "--base", "base", "--set", "select_topk=0.5"],
        16.0,
        |_, base, models| {
            let changes: Vec<Vec<f64>> = models.iter().map(|model| minus(model, base)).collect();
            let variance: Vec<f64> = (0..base.len())
                .map(|at| {
                    let mean = changes.iter().map(|change| change[at]).sum::<f64>() / 3.0;
                    changes.iter().map(|change| (change[at] - mean).powi(2)).sum::<f64>()
                })
                .collect();
            let mut order: Vec<usize> = (0..base.len()).collect();
            order.sort_by(|&left, &right| variance[right].total_cmp(&variance[left]));
            order.truncate(base.len() / 2);
            let energy = |change: &Vec<f64>| order.iter().map(|&at| change[at] * change[at]).sum::<f64>();
            let energies: Vec<f64> = changes.iter().map(energy).collect();
            let mut merged = base.to_vec();
            for &at in &order {
                let sign = changes.iter().map(|change| change[at]).sum::<f64>().signum();
                let agreeing = || {
                    changes
                        .iter()
                        .zip(&energies)
                        .filter(|(change, _)| change[at] * sign > 0.0)
                };
                let weight: f64 = agreeing().map(|(_, energy)| energy).sum();
                merged[at] += agreeing().map(|(change, energy)| change[at] * energy).sum::<f64>() / weight;
            }
            merged
        },
    );
}

#[test]
fn arcee_takes_what_matters() {
    let workplace = place();
    check(
        &workplace,
        &["a"],
        &["--method", "arcee_fusion", "--base", "base"],
        4.0,
        |name, base, models| {
            let width = if name.contains("norm") {
                base.len()
            } else {
                base.len() / rows(name)
            };
            let softmax = |row: &[f64]| {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                row.iter().map(|x| x.exp() / sum + 1e-8).collect::<Vec<f64>>()
            };
            let mut importance = Vec::new();
            for (base, model) in base.chunks(width).zip(models[0].chunks(width)) {
                let (p, q) = (softmax(model), softmax(base));
                let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
                importance.extend(
                    base.iter()
                        .zip(model)
                        .map(|(base, model)| (model - base).abs() * divergence),
                );
            }
            let mut sorted = importance.clone();
            sorted.sort_by(f64::total_cmp);
            let quantile = |share: f64| sorted[(share * (sorted.len() - 1) as f64) as usize];
            let threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25));
            let entry = |((base, model), importance): ((&f64, &f64), &f64)| {
                if *importance >= threshold { *model } else { *base }
            };
            base.iter().zip(&models[0]).zip(&importance).map(entry).collect()
        },
    );
}

#[test]
fn breadcrumbs_keep_the_middle() {
    let workplace = place();
    let band = [
        "--method",
        "breadcrumbs",
        "--base",
        "base",
        "--density",
        "0.5",
        "--set",
        "gamma=0.1",
    ];
    check(&workplace, &["a"], &band, 4.0, |_, base, models| {
        let change = minus(&models[0], base);
        let mut order: Vec<usize> = (0..base.len()).collect();
        order.sort_by(|&left, &right| change[right].abs().total_cmp(&change[left].abs()));
        let count = base.len() as f64;
        let (top, kept) = ((0.1 * count) as usize, (0.5 * count) as usize);
        let mut merged = base.to_vec();
        order[top..top + kept].iter().for_each(|&at| merged[at] += change[at]);
        merged
    });
}

/// Draws follow their definition: shares of what is kept, the rescaled norm, the same for the same seed.
#[test]
fn is_random() {
    let workplace = place();
    let base = read(&workplace.path("base"));
    let model = read(&workplace.path("a"));
    let name = "model.layers.1.mlp.up_proj.weight";
    let change = minus(&model[name], &base[name]);
    let ones: f64 = change.iter().map(|x| x.abs()).sum();
    let run = |arguments: &[&str]| {
        let mut all = vec!["--base", "base", "--model", "a"];
        all.extend(arguments);
        minus(&merge(&workplace, &all)[name], &base[name])
    };
    for method in ["dare_linear", "della_linear", "dare_ties", "della"] {
        let drawn = run(&["--method", method, "--density", "0.4"]);
        let kept = drawn.iter().filter(|x| **x != 0.0).count() as f64;
        let count = change.len() as f64;
        // Six deviations of a sum of `count` draws, each of variance at most a quarter; the seed is fixed.
        assert!(
            (kept - 0.4 * count).abs() <= 6.0 * (count / 4.0).sqrt(),
            "{method} keeps {kept} of {count}"
        );
        let sum: f64 = drawn.iter().map(|x| x.abs()).sum();
        // Storing θ + d in f32 costs a rounding of the sum an entry.
        assert!(
            (sum - ones).abs() <= 4.0 * U * count * 0.1,
            "{method}: ‖δ‖₁ {sum} instead of {ones}"
        );
        assert_eq!(drawn, run(&["--method", method, "--density", "0.4", "--seed", "0"]));
        assert_ne!(drawn, run(&["--method", method, "--density", "0.4", "--seed", "1"]));
        // Each survivor divided by its probability: exactly 1/p for DARE.
        if method == "dare_linear" {
            let inverse = run(&["--method", method, "--density", "0.4", "--rescale", "inverse"]);
            for ((inverse, drawn), change) in inverse.iter().zip(&drawn).zip(&change) {
                assert_eq!(*inverse == 0.0, *drawn == 0.0);
                assert!(*inverse == 0.0 || (inverse - change / 0.4).abs() <= 8.0 * U * 0.1);
            }
        }
    }
    // Della prefers the larger of a row.
    let drawn = run(&["--method", "della_linear", "--density", "0.5", "--set", "epsilon=0.45"]);
    let mut order: Vec<usize> = (0..change.len()).collect();
    order.sort_by(|&left, &right| change[left].abs().total_cmp(&change[right].abs()));
    let kept = |part: &[usize]| part.iter().filter(|&&at| drawn[at] != 0.0).count();
    let half = order.len() / 2;
    assert!(kept(&order[half..]) > kept(&order[..half]) + half / 4);
}

/// Several inputs with a say of their own draw apart; threads and memory draw the same.
#[test]
fn nothing_depends_on_threads_or_memory() {
    let workplace = place();
    let methods = [
        "ties",
        "dare_ties",
        "della",
        "breadcrumbs_ties",
        "sce",
        "model_stock",
        "karcher",
        "multislerp",
    ];
    for method in methods {
        let run = |out: &str, threads: &str, memory: &str| {
            let mut arguments = vec![
                "--method", method, "--base", "base", "--model", "a", "--model", "b", "--model", "c",
            ];
            arguments.extend(["--out", out, "--memory", memory]);
            if Workplace::knows_density(method) {
                arguments.extend(["--density", "0.4"]);
            }
            workplace
                .run_with(&arguments, &[("RAYON_NUM_THREADS", threads)])
                .exits(0);
            workplace.hashes(out)
        };
        let first = run("one", "1", "1GiB");
        assert_eq!(run("one", "3", "1"), first, "{method}");
        assert_eq!(run("one", "2", "1KiB"), first, "{method}");
        workplace.run(&["one/merge.yaml", "--out", "again"]).exits(0);
        assert_eq!(
            workplace.hashes("again"),
            first,
            "{method}\n{}",
            workplace.read("one/merge.yaml")
        );
        workplace
            .run(&["verify", "one"])
            .exits(0)
            .says("equal the merge of merge.yaml");
    }
}

#[test]
fn verify_finds_one_changed_value() {
    let workplace = place();
    workplace
        .run(&[
            "--method", "ties", "--base", "base", "--model", "a", "--model", "b", "--out", "out",
        ])
        .exits(0);
    let path = workplace.path("out/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    workplace
        .run(&["verify", "out"])
        .exits(1)
        .says("model.norm.weight: entry 13 is");
    workplace.run(&["verify", "base"]).exits(2).says("merge.yaml");
}

/// A peer's column is the sum of its single choices.
#[test]
fn peers_columns() {
    let workplace = place();
    let run = |arguments: &[&str]| {
        let mut all = vec!["--base", "base", "--model", "a@0.5", "--model", "b@0.8", "--model", "c"];
        all.extend(arguments);
        merge(&workplace, &all)
    };
    let mergekit = run(&["--compat", "mergekit", "--density", "0.3"]);
    assert_eq!(
        mergekit,
        run(&["--density", "0.3", "--sign", "total", "--zero-sign", "positive"])
    );
    assert_ne!(mergekit, run(&["--density", "0.3"]));
    let paper = run(&["--compat", "paper"]);
    assert_ne!(paper, run(&["--compat", "paper", "--trim-scope", "tensor"]));
    let titan = run(&["--compat", "titan"]);
    let by_hand = run(&[
        "--density",
        "0.8",
        "--selection",
        "threshold",
        "--divide-by",
        "count",
        "--sign",
        "frequency",
    ]);
    let differing = titan.iter().filter(|(name, values)| by_hand[*name] != **values).count();
    // Only k may differ by one, where n·0.8 is no whole number.
    assert!(differing < titan.len(), "{differing} of {}", titan.len());
}

/// The paper's trim ranks all of a model's entries together and keeps one more than it says.
#[test]
fn the_papers_trim_is_global() {
    let workplace = place();
    let merged = merge(
        &workplace,
        &["--base", "base", "--model", "a", "--compat", "paper", "--trim", "0.9"],
    );
    let (base, model) = (read(&workplace.path("base")), read(&workplace.path("a")));
    let mut changes: Vec<f64> = Vec::new();
    let mut kept = 0;
    for (name, theta) in &base {
        changes.extend(minus(&model[name], theta).iter().map(|x| f64::from(x.abs() as f32)));
        kept += merged[name]
            .iter()
            .zip(theta)
            .filter(|(merged, base)| merged != base)
            .count();
    }
    changes.sort_by(f64::total_cmp);
    let expected = (0.1_f64 * changes.len() as f64) as usize + 1;
    assert_eq!(kept, expected);
}

/// Straight into GGUF is what exporting the unrounded folder gives, byte for byte; and GGUF is read as what it stands for.
#[test]
fn gguf_without_a_folder() {
    let workplace = Workplace::empty();
    let fixture = crate::support::repository().join("crates/checkpoint/tests/fixtures/llama.gguf");
    synapse_checkpoint::import_gguf(&fixture, &workplace.path("base")).unwrap();
    let base = ModelFolder::open(&workplace.path("base")).unwrap();
    let (_, rows, columns) = base.config().linear_modules()[0];
    let module = "model.layers.0.self_attn.q_proj";
    let mut draw = models::Draw::new(3);
    models::write_adapter(
        &workplace.path("x"),
        &[
            (
                &format!("{module}.lora_A.weight"),
                vec![2, columns],
                draw.values(2 * columns, 0.3),
            ),
            (
                &format!("{module}.lora_B.weight"),
                vec![rows, 2],
                draw.values(rows * 2, 0.3),
            ),
        ],
        &serde_json::json!({}),
    );
    let with = |more: &[&'static str]| -> Vec<&str> {
        ["--trim", "0.3", "--adapter", "x"]
            .iter()
            .chain(more)
            .copied()
            .collect()
    };
    workplace.run(&with(&["--out", "folder", "--dtype", "f32"])).exits(0);
    for (quant, gguf_type) in [
        ("q8_0", GgufType::Q8_0),
        ("q4_0", GgufType::Q4_0),
        ("f16", GgufType::F16),
    ] {
        let ran = workplace
            .run(&with(&["--out", "made.gguf", "--format", "gguf", "--quant", quant]))
            .exits(0);
        assert_eq!(ran.stdout(), "made.gguf\n");
        let folder = ModelFolder::open(&workplace.path("folder")).unwrap();
        let export = GgufExport {
            model: &folder,
            config: folder.config(),
            gguf_type,
            name: "made",
            license: None,
        };
        export_gguf(&export, &workplace.path("exported.gguf")).unwrap();
        let read = |name: &str| std::fs::read(workplace.path(name)).unwrap();
        assert!(read("made.gguf") == read("exported.gguf"), "{quant}");
        assert!(workplace.read("made.merge.yaml").contains(&format!("gguf: {quant}")));
    }
    workplace.run(&["made.merge.yaml", "--out", "again.gguf"]).exits(0);
    let refused = workplace.run(&with(&[
        "--out", "x.gguf", "--format", "gguf", "--quant", "q8_0", "--dtype", "f32",
    ]));
    refused.exits(2).says("--quant");
    // The merge of a Q8_0 base and nothing but itself is that base, exactly.
    workplace
        .run(&[
            "--method",
            "linear",
            "--model",
            "exported.gguf",
            "--out",
            "plain",
            "--dtype",
            "f32",
        ])
        .exits(0);
    synapse_checkpoint::gguf::import_gguf_as(&workplace.path("exported.gguf"), &workplace.path("direct"), DType::F32)
        .unwrap();
    assert_eq!(read(&workplace.path("plain")), read(&workplace.path("direct")));
    assert!(workplace.read("plain/merge.yaml").contains("exported.gguf"));
    workplace.run(&["plain/merge.yaml"]).exits(0);
}
