//! `run`: runs a recipe or a pipeline, except for stages that are up to date.

use std::sync::atomic::{AtomicBool, Ordering};

use synapse_pipeline::{Run, RunOptions, run_pipeline, run_recipe};
use synapse_recipe::Plan;
use synapse_trainer::DeviceChoice;

use crate::{
    Outcome,
    args::{Device, RunArguments},
    commands::print,
    console::print_message,
    failure::Failure,
    terminal::Terminal,
};

/// Set by Ctrl-C and SIGTERM.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Installs the signal handler: the first signal requests a resumable stop, the second one ends the program.
pub(crate) fn stop_on_signal() -> Outcome {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            #[expect(clippy::exit, reason = "the second signal ends the program immediately")]
            std::process::exit(130);
        }
        print_message("stopping after this step or suite; press Ctrl-C again to stop now");
    })
    .map_err(|error| Failure::Work(error.into()))
}

/// Loads the file with the command line's overrides.
pub(crate) fn load(arguments: &RunArguments) -> Result<Plan, Failure> {
    let mut set = arguments.set.clone();
    if let Some(output) = &arguments.output {
        set.push(format!("output={}", output.display()));
    }
    Ok(synapse_recipe::load(&arguments.file, &set)?)
}

/// The options of the command line that are not part of the plan.
pub(crate) fn options(arguments: &RunArguments) -> RunOptions {
    RunOptions {
        from: arguments.from,
        until: arguments.until,
        force: arguments.force,
        offline: arguments.offline,
        device: choice(arguments.device),
        command: std::env::args().collect::<Vec<_>>().join(" "),
    }
}

/// The trainer's type for a device.
pub(crate) fn choice(device: Device) -> DeviceChoice {
    DeviceChoice::Named(match device {
        Device::Auto => return DeviceChoice::Auto,
        Device::Cpu => synapse_trainer::Device::Cpu,
        Device::CandleCpu => synapse_trainer::Device::CandleCpu,
        Device::Cuda => synapse_trainer::Device::Cuda,
        Device::Metal => synapse_trainer::Device::Metal,
    })
}

/// The names of the devices that the file's recipes train on. An unavailable device is a wrong request.
pub(crate) fn devices(document: &Plan, choice: DeviceChoice) -> Result<String, Failure> {
    let plans = match document {
        Plan::Specialist(plan) => std::slice::from_ref(plan),
        Plan::Pipeline(plan) => &plan.specialists,
    };
    let mut names: Vec<&str> = Vec::new();
    for plan in plans {
        let device = choice.resolve(&plan.method).map_err(Failure::request)?;
        if !names.contains(&device.name()) {
            names.push(device.name());
        }
    }
    Ok(names.join(" and "))
}

/// Runs the file.
pub(crate) fn run(arguments: &RunArguments) -> Outcome {
    let document = load(arguments)?;
    let devices = devices(&document, choice(arguments.device))?;
    stop_on_signal()?;
    print_message(format!(
        "{}: training on {devices}; {} instruction set, {} threads",
        document.name(),
        synapse_kernels::Isa::current().name(),
        synapse_kernels::threads()
    ));
    let terminal = Terminal::new();
    let run = Run::new(options(arguments), &terminal, &STOP);
    match &document {
        Plan::Specialist(plan) => {
            let outcome = run_recipe(&run, plan)?;
            if !outcome.outcomes.is_empty() {
                print(&synapse_pipeline::table(&outcome.outcomes))?;
            }
        }
        Plan::Pipeline(plan) => {
            let outcome = run_pipeline(&run, plan)?;
            if let Some(table) = &outcome.table {
                print(table)?;
            }
        }
    }
    Ok(())
}
