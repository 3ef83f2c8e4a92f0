//! `gabor check`: whether a GPU and its driver compute right.

use std::{fmt, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use gabor::{
    bench,
    check::{self, KernelReport, TrainingReport},
    gpu::{AdapterInfo, Checks, DeviceChoice, Gpu, shader_files},
    kernel::gpu::Limits,
    ops,
    report::Table,
};
use serde::Serialize;

use super::console::Console;

/// Check that a GPU computes what it should
///
/// Runs every kernel in every way in which it can be specialised, with and without subgroup operations, and compares it
/// with the CPU's in double precision; then trains two small networks for 20 steps on both. The exit code is 0 where all
/// is right and 1 where something is wrong: then the shaders that are wrong are named, and the output is what a report
/// about the driver needs.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor check                     The best GPU of this machine
  gabor check --device llvmpipe   A GPU in software, by its name")]
pub struct CheckArgs {
    /// The GPU: gpu, or its number or a part of its name
    #[arg(long, value_name = "NAME", default_value = "gpu")]
    device: String,
    /// Check only the operations whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    program: String,
    adapter: AdapterInfo,
    limits: Limits,
    right: bool,
    wrong_shaders: Vec<String>,
    /// Shaders that no kernel for this device uses.
    unused_shaders: Vec<String>,
    kernels: KernelReport,
    training: Vec<TrainingReport>,
    seconds: f64,
}

impl CheckArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let started = Instant::now();
        let gpus = self.open()?;
        let gpu = &gpus[0];
        let mut groups = ops::examples();
        groups.push(("probe", bench::examples()));
        if let Some(text) = &self.only {
            groups.retain(|(name, _)| name.contains(text.as_str()));
            if groups.is_empty() {
                let names: Vec<&str> = ops::examples().into_iter().map(|(name, _)| name).collect();
                return Err(anyhow!("no operation is called {text}: there are {}", names.join(", ")));
            }
        }
        let networks = if self.only.is_none() { check::networks().into() } else { Vec::new() };
        let total = groups.iter().map(|(_, examples)| examples.len()).sum::<usize>() + networks.len();
        let bar = console.bar("checking", total);

        let mut kernels = KernelReport::default();
        for (name, examples) in &groups {
            bar.set_message(name.to_string());
            kernels.merge(check::check_kernels(&gpus, examples, &[Checks::Off], || bar.inc(1)));
        }
        let mut training = Vec::new();
        for network in &networks {
            bar.set_message(network.name);
            training.push(check::check_training(gpu, network)?);
            bar.inc(1);
        }
        bar.finish_and_clear();

        let unused = match self.only {
            Some(_) => Vec::new(),
            None => shader_files().into_iter().filter(|file| !kernels.shaders.contains_key(file)).collect(),
        };
        let report = Report {
            program: format!("gabor {}", env!("CARGO_PKG_VERSION")),
            adapter: gpu.info().clone(),
            limits: gpu.limits().clone(),
            right: kernels.is_right() && training.iter().all(|network| network.failure.is_none()),
            wrong_shaders: kernels.wrong().into_iter().map(String::from).collect(),
            unused_shaders: unused,
            kernels,
            training,
            seconds: started.elapsed().as_secs_f64(),
        };
        console.json(self.json).result(&report, &report)?;
        Ok(if report.right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn open(&self) -> Result<Vec<Arc<Gpu>>> {
        if self.device.eq_ignore_ascii_case("cpu") {
            return Err(anyhow!("the CPU is what GPUs are checked against; --device takes a GPU"));
        }
        let Ok(choice) = self.device.parse::<DeviceChoice>();
        // As a user's programs run them, but compiled anew: what an earlier driver left in a cache is not what is asked.
        let gpus = Gpu::open_parallel(&choice, None)?;
        ensure!(!gpus.is_empty(), "this machine has no GPU; gabor devices lists what there is");
        Ok(gpus)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["<shader", "results", "variants", "worst error", "of rounding", "<"]);
        for (name, shader) in &self.kernels.shaders {
            let share = |share: f64| format!("{:.0}%", 100.0 * share);
            table.row([
                name.clone(),
                shader.cases.to_string(),
                shader.specialisations.to_string(),
                format!("{:.1e}", shader.worst_error),
                share(shader.worst_share),
                if shader.failures.is_empty() { "-".into() } else { format!("{} WRONG", shader.failures.len()) },
            ]);
        }
        for network in &self.training {
            table.row([
                format!("{} steps of {}", check::STEPS, network.network),
                "-".into(),
                "-".into(),
                format!("{:.1e}", network.worst_error),
                format!("{:.0}%", 100.0 * network.worst_share),
                if network.failure.is_some() { "WRONG".into() } else { "-".into() },
            ]);
        }
        writeln!(f, "{table}")?;
        writeln!(f, "{}\n{}", self.program, self.adapter)?;
        let Limits { max_binding, workgroup_memory, workgroup_invocations, subgroup, .. } = &self.limits;
        let subgroup = subgroup.map_or("none".to_string(), |(least, most)| format!("{least} to {most} lanes"));
        writeln!(
            f,
            "bindings of {} MiB, {} KiB of workgroup memory, {workgroup_invocations} invocations, subgroups: {subgroup}",
            max_binding >> 20,
            workgroup_memory >> 10,
        )?;
        for shader in &self.unused_shaders {
            writeln!(f, "not used on this device: {shader}")?;
        }
        if !self.kernels.skipped.is_empty() {
            let skipped: Vec<&str> = self.kernels.skipped.iter().map(String::as_str).collect();
            writeln!(f, "not checked with 16-bit floats, which this device does not have: {}", skipped.join(", "))?;
        }
        let failures = || {
            let shaders = self.kernels.shaders.iter();
            shaders.flat_map(|(name, shader)| shader.failures.iter().map(move |failure| (name, failure)))
        };
        const SHOWN: usize = 20;
        for (name, failure) in failures().take(SHOWN) {
            writeln!(f, "{name}: {failure}")?;
        }
        if failures().count() > SHOWN {
            writeln!(f, "... {} more; --json has them all", failures().count() - SHOWN)?;
        }
        self.kernels.broken.iter().try_for_each(|broken| writeln!(f, "{broken}"))?;
        for network in &self.training {
            if let Some(failure) = &network.failure {
                writeln!(f, "{}: {failure}", network.network)?;
            }
        }
        let count = self.kernels.shaders.len();
        let results = self.kernels.shaders.values().map(|shader| shader.cases).sum::<usize>();
        let verdict = match (self.right, self.wrong_shaders.is_empty()) {
            (true, _) => format!("right: {count} shaders gave {results} results that agree with the CPU's"),
            (false, false) => format!("wrong: {}", self.wrong_shaders.join(", ")),
            (false, true) => "wrong: each shader alone is right, but see the lines above".to_string(),
        };
        writeln!(f, "{verdict}, in {:.0} s", self.seconds)
    }
}
