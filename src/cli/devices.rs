//! `gabor devices`, and opening the device that `--device` names.

use std::{fmt::Write, process::ExitCode};

use anyhow::{Result, anyhow};
use clap::Args;
use gabor::{
    device::{self, Device},
    gpu::{AdapterInfo, DeviceChoice},
    kernel::InstructionSet,
    plan::{Choices, Executor, Tuning, TuningProgress},
};
use serde_json::json;

use super::console::Console;

/// Opens the device that --device names.
pub fn open_device(choice: &str) -> Result<Device> {
    Device::open(choice).map_err(|error| anyhow!("{error}; --device cpu is always there"))
}

/// An executor on the device that --device names, with kernels chosen as --tune says where `known` does not say it.
pub fn open(choice: &str, tuning: Tuning, known: Choices, console: Console) -> Result<Box<dyn Executor>> {
    let mut executor = open_device(choice)?.executor(tuning, known);
    let mut bar = None;
    executor.on_tuning(Box::new(move |progress: TuningProgress| {
        let shown = bar.get_or_insert_with(|| console.bar("timing kernels", progress.calls));
        let [elapsed, budget] = [progress.elapsed, progress.budget].map(|time| time.as_secs_f64());
        shown.set_length(progress.calls as u64);
        shown.set_position(progress.timed as u64);
        shown.set_message(format!("{elapsed:.1} s of {budget:.0} s"));
        if progress.ended {
            shown.finish_and_clear();
            bar = None;
        }
    }));
    Ok(executor)
}

/// List the devices that --device can name
#[derive(Args)]
pub struct DevicesArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let gpus = device::gpus();
        let threads = rayon::current_num_threads();
        let instructions = InstructionSet::chosen()?.to_string();
        let auto = DeviceChoice::Auto.among(&gpus)?;
        let name_of_auto = auto.map_or("cpu".to_string(), |at| at.to_string());

        let mut text = format!("cpu  CPU, {threads} threads, {instructions} instructions\n");
        for (number, gpu) in gpus.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{number:<3}  {} ({}, {}, {})", gpu.name, gpu.backend, kind(gpu), gpu.driver);
        }
        let chosen = auto.map_or("the CPU", |at| &gpus[at].name);
        let _ = writeln!(text, "\n--device auto takes {chosen}; a software GPU is taken only by its name");

        let adapter = |(number, gpu): (usize, &AdapterInfo)| {
            json!({
                "device": number.to_string(), "name": gpu.name, "vendor": gpu.vendor, "backend": gpu.backend,
                "type": kind(gpu), "driver": gpu.driver,
            })
        };
        let mut devices = vec![
            json!({"device": "cpu", "name": "CPU", "type": "cpu", "threads": threads, "instructions": instructions}),
        ];
        devices.extend(gpus.iter().enumerate().map(adapter));
        console.json(self.json).result(&json!({"devices": devices, "auto": name_of_auto}), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn kind(gpu: &AdapterInfo) -> String {
    format!("{:?}", gpu.kind).to_lowercase()
}
