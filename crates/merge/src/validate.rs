//! All problems of a request that can be found without opening a file.

use crate::method::{NeedsBase, Sparsity};
use crate::settings::Setting;
use crate::{MergeRequest, Method, Rounding, Settings};

/// Lists all problems.
pub(crate) fn problems(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(inputs(request));
    problems.extend(weights(request));
    problems.extend(parameters(request));
    problems.extend(slices(request));
    if !request.lambda.is_finite() {
        problems.push(format!("lambda must be a finite number, found {}", request.lambda));
    } else if request.lambda != 1.0 && (!request.method.combines_deltas() || request.method == Method::Linear) {
        problems.push(format!(
            "lambda is {}, but {} has none; task_arithmetic does",
            request.lambda, request.method
        ));
    }
    if let Some(dtype) = request.dtype.filter(|dtype| !dtype.is_weight()) {
        problems.push(format!("output dtype {dtype} is not one of f32, f16, bf16"));
    }
    if request.gguf.is_some() && !request.slices.is_empty() {
        problems.push(
            "stacked layers cannot be written as GGUF directly; merge into a folder, then export that".to_owned(),
        );
    }
    if request.extract_rank == Some(0) {
        problems.push("--extract-lora takes a rank of at least 1".to_owned());
    }
    if request.extract_rank.is_some() && (request.gguf.is_some() || !request.slices.is_empty() || !request.uses_base) {
        problems.push("--extract-lora writes the change to a base as an adapter; it excludes --format and stacked layers, and needs a base".to_owned());
    }
    if request.sparse && (request.gguf.is_some() || request.extract_rank.is_some() || !request.slices.is_empty()) {
        problems.push("--format delta excludes --quant, --extract-lora and stacked layers".to_owned());
    }
    if request.gguf.is_some() && (request.dtype.is_some() || request.rounding != Rounding::Nearest) {
        problems.push("--dtype and --rounding apply to folders; the type of a GGUF file is set by --quant".to_owned());
    }
    if request.max_shard_bytes == 0 {
        problems.push("the shard size must be above zero".to_owned());
    }
    problems
}

fn inputs(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    let method = request.method;
    let requirements = method.requirements();
    let count = request.inputs().count();
    if count == 0 {
        problems.push("nothing to merge: name at least one adapter or model".to_owned());
    } else if !(requirements.least..=requirements.most).contains(&count) {
        let wanted = match (requirements.least, requirements.most) {
            (1, 1) => "one input beside the base".to_owned(),
            (least, most) if least == most => format!("exactly {least} inputs"),
            (least, _) => format!("at least {least} inputs beside the base"),
        };
        problems.push(format!("{method} takes {wanted}, found {count}"));
    }
    if method == Method::Passthrough && request.slices.is_empty() && count > 1 {
        problems.push(format!(
            "passthrough copies one model, found {count}; layers of several are stacked with `slices` in a YAML file"
        ));
    }
    let mut names: Vec<&str> = request.inputs().map(|input| input.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        problems.push(format!(
            "two inputs are called `{}`; give them different names (NAME=FOLDER)",
            pair[0]
        ));
    }
    for name in request
        .input_trims
        .keys()
        .filter(|name| !names.contains(&name.as_str()))
    {
        problems.push(format!("a trim is given for `{name}`, which is not an input"));
    }
    if requirements.base == NeedsBase::Always && !request.uses_base {
        problems.push(format!("{method} merges changes to a base; pass --base"));
    }
    if request.ties.factors && !request.models.is_empty() {
        problems.push("--compat peft merges the factors of adapters, and a full checkpoint has none".to_owned());
    }
    if request.ties.factors
        && !matches!(
            method,
            Method::Linear | Method::Ties | Method::DareLinear | Method::DareTies
        )
    {
        problems.push(format!(
            "--compat peft supports linear, ties, dare_linear and dare_ties, not {method}; PEFT's `cat` is task_arithmetic"
        ));
    }
    problems
}

fn weights(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    let method = request.method;
    for input in request.inputs() {
        if !input.weight.is_finite() {
            problems.push(format!(
                "weight of {} must be a finite number, found {}",
                input.name, input.weight
            ));
        } else if input.weight < 0.0 && request.normalize && method.elects_signs() {
            problems.push(format!(
                "weight of {} is {}: dividing by the agreeing weights needs them positive; set normalize to false",
                input.name, input.weight
            ));
        }
    }
    let plain = |name: &str| {
        request
            .input_parameters
            .get(name)
            .is_none_or(|own| own.get("weight").is_none())
    };
    let sum: f64 = request.inputs().map(|input| input.weight).sum();
    let divides = request.normalize && method.combines_deltas() && !method.elects_signs();
    if divides && sum.abs() < 1e-8 && request.inputs().all(|input| plain(&input.name)) {
        problems.push(format!("the weights sum to {sum}, and {method} divides by that sum"));
    }
    problems
}

/// Missing parameters, and values out of range.
fn parameters(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    let method = request.method;
    let everywhere: Vec<&Settings> = std::iter::once(&request.parameters)
        .chain(request.input_parameters.values())
        .chain(request.slices.iter().map(|slice| &slice.parameters))
        .chain(
            request
                .slices
                .iter()
                .flat_map(|slice| slice.sources.iter().map(|source| &source.parameters)),
        )
        .collect();
    let all = |name: &str| -> Vec<&Setting> { everywhere.iter().filter_map(|level| level.get(name)).collect() };
    if matches!(method, Method::Slerp | Method::NearSwap) && all("t").is_empty() {
        problems.push(format!(
            "{method} needs `t`; give it with --set t=VALUE or in the file's parameters"
        ));
    }
    let ranges: [(&str, f64, f64); 5] = [
        ("gamma", 0.0, 1.0),
        ("epsilon", 0.0, 0.5),
        ("density", 0.0, f64::INFINITY),
        ("tol", 0.0, f64::INFINITY),
        ("max_iter", 0.0, 1e6),
    ];
    for (name, least, most) in ranges {
        for value in all(name).iter().flat_map(|setting| setting.values()) {
            if !(least..=most).contains(&value) {
                problems.push(format!("{name} is {value}; it must be between {least} and {most}"));
            }
        }
    }
    if method.sparsity() == Some(Sparsity::Ranked) {
        let epsilon = all("epsilon")
            .first()
            .and_then(|setting| setting.everywhere())
            .unwrap_or(0.15);
        for input in request.inputs() {
            let trim = request.trim_of(&input.name);
            let density: f64 = trim.density().parse().unwrap_or(1.0);
            if density < 1.0 && (density + epsilon >= 1.0 || density - epsilon <= 0.0) {
                problems.push(format!(
                    "{}: density {density} ± epsilon {epsilon} must lie between 0 and 1; choose a smaller epsilon",
                    input.name
                ));
            }
        }
    }
    problems
}

fn slices(request: &MergeRequest) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, slice) in request.slices.iter().enumerate() {
        let lengths: Vec<usize> = slice.sources.iter().map(|source| source.layers.len()).collect();
        match lengths.first() {
            None => problems.push(format!("slices[{index}] has no sources")),
            Some(0) => problems.push(format!(
                "slices[{index}] takes no layers; layer_range is [first, last + 1]"
            )),
            Some(first) if lengths.iter().any(|length| length != first) => problems.push(format!(
                "slices[{index}] takes {lengths:?} layers of its sources; it must take the same number of each"
            )),
            Some(_) => {}
        }
        if request.method == Method::Passthrough && slice.sources.len() > 1 {
            problems.push(format!(
                "slices[{index}] has {} sources; passthrough copies one",
                lengths.len()
            ));
        }
        for source in &slice.sources {
            if let Some(name) = &source.input
                && !request.inputs().any(|input| input.name == *name)
            {
                problems.push(format!(
                    "slices[{index}] takes layers of `{name}`, which is not an input"
                ));
            }
        }
    }
    problems
}
