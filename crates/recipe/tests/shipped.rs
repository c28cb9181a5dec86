//! The files the repository ships: all of them load, mean what they say, and the schema beside
//! them is the one the types generate.
#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::path::{Path, PathBuf};

use synapse_recipe::{
    Base, Location, MergeMethod, PipelinePlan, Plan, QuantizationPlan, Samples, SpecialistPlan, Stage, TrainingMethod,
    check, load, schema,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pipeline(file: &str, overrides: &[&str]) -> PipelinePlan {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match load(&root().join(file), &overrides) {
        Ok(Plan::Pipeline(plan)) => plan,
        Ok(Plan::Specialist(_)) => panic!("{file} is a recipe"),
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

/// Where each is run: beside the bundled data, and beside the model that `recipes/synapse-arch/nano.yaml` makes.
#[test]
fn every_shipped_file_is_valid() {
    let place = tempfile::tempdir().unwrap();
    let made = place.path().join("outputs/synapse-arch/nano");
    std::fs::create_dir_all(&made).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::write(made.join(name), "").unwrap();
    }
    copy_tree(&root().join("data"), &place.path().join("data"));
    let mut files = vec![place.path().join("data/registry.yaml")];
    for folder in ["recipes", "pipelines"] {
        let copied = place.path().join(folder);
        copy_tree(&root().join(folder), &copied);
        yaml_files(&copied, &mut files);
    }
    assert!(files.len() >= 17);
    for file in files {
        if let Err(diagnostics) = check(&file, &[]) {
            panic!("{diagnostics}");
        }
    }
}

#[test]
fn the_schema_beside_the_recipes_is_current() {
    let file = root().join("recipes/schema.json");
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("SYNAPSE_UPDATE").is_some() {
        std::fs::write(&file, &current).unwrap();
    }
    let shipped = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        shipped == current,
        "recipes/schema.json is stale; SYNAPSE_UPDATE=1 cargo test --release -p synapse-recipe rewrites it"
    );
}

#[test]
fn synapse_3b_is_the_job_it_was_built_for() {
    let plan = pipeline("pipelines/synapse-3b.yaml", &[]);
    let names: Vec<&str> = plan
        .specialists
        .iter()
        .map(|specialist| specialist.name.as_str())
        .collect();
    assert_eq!(names, ["math", "code", "general", "coordinator"]);
    assert_eq!((plan.merge.method, plan.merge.trim), (MergeMethod::Ties, 0.8));
    for specialist in &plan.specialists {
        let TrainingMethod::Lora(lora) = &specialist.method else {
            panic!("{} is no adapter", specialist.name)
        };
        let coordinator = specialist.name == "coordinator";
        assert_eq!(lora.rank, if coordinator { 32 } else { 64 });
        assert_eq!(lora.scale(), 2.0);
        assert_eq!(lora.targets.len(), 7);
        assert_eq!(
            specialist.quantization,
            QuantizationPlan::Nf4 {
                block_size: 64,
                double_quant: true
            }
        );
        assert_eq!((specialist.train.epochs, specialist.train.learning_rate), (3.0, 2e-4));
        assert_eq!(specialist.train.batch_size * specialist.train.gradient_accumulation, 16);
        assert_eq!(specialist.train.max_seq_len, 2048);
        assert_eq!(
            specialist.stages,
            [Stage::Fetch, Stage::Prepare, Stage::Train, Stage::Evaluate]
        );
        if coordinator {
            assert_eq!(specialist.data.sources[0].samples, Samples::Count(5000));
            assert_eq!(specialist.router.as_ref().unwrap().labels.len(), 5);
        } else {
            assert_eq!(specialist.data.total, Some(50_000));
            assert!(specialist.data.sources.iter().all(|source| source.license.is_some()));
        }
    }
    let hub_sources = plan.specialists.iter().flat_map(|specialist| &specialist.data.sources);
    let hub_sources = hub_sources.filter(|source| matches!(source.location, Location::Hub { .. }));
    assert_eq!(hub_sources.count(), 8);
}

#[test]
fn smollm2_takes_thirty_steps_of_sixteen_rows_at_least() {
    let plan = pipeline("pipelines/smollm2.yaml", &[]);
    for SpecialistPlan { data, train, .. } in &plan.specialists {
        let Samples::Count(rows) = data.sources[0].samples else {
            panic!("a number of rows")
        };
        let step = train.batch_size * train.gradient_accumulation;
        assert_eq!(step, 16);
        assert!(rows as f64 * train.epochs / step as f64 >= 30.0);
        assert!(data.held_out >= 80 && !train.packing);
    }
    assert_eq!(plan.output, Path::new("outputs/smollm2"));
    assert_eq!(plan.run_dir, Path::new("outputs/runs/smollm2"));
}

#[test]
fn overrides_reach_the_pipeline_all_recipes_or_one() {
    let plan = pipeline(
        "pipelines/synapse-3b.yaml",
        &[
            "merge.trim=0.5",
            "base=Qwen/Qwen2.5-0.5B-Instruct@main",
            "train.max_steps=3",
            "code.train.epochs=1",
        ],
    );
    assert_eq!(plan.merge.trim, 0.5);
    let base = Base::Hub {
        id: "Qwen/Qwen2.5-0.5B-Instruct".to_owned(),
        revision: Some("main".to_owned()),
    };
    assert!(plan.specialists.iter().all(|specialist| specialist.base == base));
    assert!(
        plan.specialists
            .iter()
            .all(|specialist| specialist.train.max_steps == Some(3))
    );
    let epochs: Vec<f64> = plan
        .specialists
        .iter()
        .map(|specialist| specialist.train.epochs)
        .collect();
    assert_eq!(epochs, [3.0, 1.0, 3.0, 3.0]);
}

#[test]
fn a_plan_survives_its_json() {
    for file in ["pipelines/synapse-3b.yaml", "recipes/math.yaml"] {
        let document = load(&root().join(file), &[]).unwrap();
        let text = serde_json::to_string_pretty(&document).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), document);
    }
}
