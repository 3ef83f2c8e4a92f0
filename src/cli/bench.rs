//! `gabor bench`: how fast this machine computes.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{
    Args, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser},
};
use gabor::{
    bench::{self, Case, Figure, Report, Roofline, Scale, WORKLOADS},
    plan::{Choices, Executor, Target, Tuning},
};
use indicatif::ProgressBar;

use super::{bench_data::BenchDataArgs, console::Console, devices};

/// Measure how fast this machine computes, and how near to what it could do
///
/// Each figure is a median after a warm-up, on synthetic data that lies on the device already: images a second for a
/// step of a model, GFLOP/s (GB/s where hardly anything is computed) for a kernel. "Of floor" is the least time that
/// the device could take, as a share of the time taken: for each dispatch, its operations at the device's peak or its
/// bytes at the memory's speed, whichever takes longer. Both peaks are measured by probes at the end.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor bench                                Everything, on the best GPU or the CPU
  gabor bench W1 W3 --device cpu --threads 2
  gabor bench data flowers                   How fast images are decoded
  gabor bench kernels --json before.json     Keep the figures ...
  gabor bench kernels --baseline before.json ... and compare with them later

A software GPU takes the number of threads that its driver is told: LP_NUM_THREADS for llvmpipe.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// What to measure [default: all]
    #[arg(value_name = "WHAT", value_parser = selections(), ignore_case = true)]
    what: Vec<String>,
    /// What to compute on: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// How to choose kernels on a GPU
    #[arg(long, value_name = "HOW", default_value = "off")]
    tune: Tuning,
    /// Seconds for each figure, after a warm-up of a quarter of that
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Images a step of all workloads but W5, in place of their own: one or several, as in 64,128
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = count())]
    batch_size: Vec<u64>,
    /// Sides of the matrices of W5, in place of its own: one or several
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = count())]
    sizes: Vec<u64>,
    /// Measure each kernel that a GPU can compute the largest step of a case with, not only the one that is chosen
    #[arg(long, conflicts_with = "tune")]
    each_kernel: bool,
    /// Also write the figures to this file, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the figures of an earlier run's --json
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// What is measured that is no step of a model.
#[derive(Subcommand)]
enum Other {
    Data(BenchDataArgs),
}

fn selections() -> PossibleValuesParser {
    let groups = [
        PossibleValue::new("kernels").help("W5, W6 and kernels by the shapes that they have in the zoo"),
        PossibleValue::new("models").help("W1 to W4t and W7"),
        PossibleValue::new("all").help("Both"),
    ];
    let workloads = WORKLOADS.map(|(name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(groups.into_iter().chain(workloads))
}

/// Far above what any device holds, and far below where products of sizes overflow.
fn count() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1 << 16)
}

pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "give a number of seconds from 0 to 3600".to_string())
}

impl BenchArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        if let Some(Other::Data(data)) = self.other {
            return data.run(console);
        }
        let baseline = self.baseline.as_deref().map(read).transpose()?;
        if let Some(path) = &self.json {
            let folder = folder(path);
            ensure!(folder.is_dir(), "cannot write {}: there is no folder {}", path.display(), folder.display());
        }
        let device = devices::open_device(&self.device)?;
        let open = || device.executor(self.tune, Choices::default());
        let target = open().target();

        let cases = self.cases(&target);
        let bar = if console.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut measured = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            bar.set_message(format!("{} {} ({} of {})", case.workload, case.what, at + 1, cases.len()));
            if !self.each_kernel {
                measured.push(self.measure(case, open(), None)?);
                continue;
            }
            let program = case.load(open())?;
            for (kernel, choice) in program.alternatives() {
                bar.set_message(format!("{} {}, {kernel}", case.workload, case.what));
                measured.push(self.measure(case, device.executor(Tuning::Off, choice.clone()), Some(kernel))?);
            }
        }
        // The probe's memory is not that of what was measured.
        let peak_rss_mib = peak_rss_mib();
        bar.set_message("the device's peak");
        let peak = Roofline::probe(open)?;
        bar.finish_and_clear();

        let mut report = Report {
            program: format!("gabor {}", env!("CARGO_PKG_VERSION")),
            device: open().device(),
            threads: rayon::current_num_threads(),
            peak_rss_mib,
            peak,
            results: measured.into_iter().map(|measured| measured.figure(&peak)).collect(),
        };
        if let (Some(earlier), Some(path)) = (&baseline, &self.baseline) {
            ensure!(report.compare(earlier) > 0, "{} has none of these figures", path.display());
            if (&earlier.device, earlier.threads) != (&report.device, report.threads) {
                console
                    .note(format!("the baseline was measured on {}, {} threads", earlier.device, earlier.threads))?;
            }
        }
        if let Some(path) = &self.json {
            write(path, &report).with_context(|| format!("cannot write {}", path.display()))?;
        }
        console.result(&report, &report)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What was asked for, each once and in order.
    fn cases(&self, target: &Target) -> Vec<Case> {
        let asked = |name: &str| self.what.is_empty() || self.what.iter().any(|what| what.eq_ignore_ascii_case(name));
        let (kernels, models) = (asked("kernels") || asked("all"), asked("models") || asked("all"));
        let numbers = |given: &[u64]| given.iter().map(|n| *n as usize).collect();
        let scale = Scale { batch_sizes: numbers(&self.batch_size), sizes: numbers(&self.sizes) };
        let mut cases = Vec::new();
        for (name, _) in WORKLOADS {
            let found = bench::workload(name, target, &scale);
            let in_group = if found.iter().all(Case::is_step) { models } else { kernels };
            if in_group || asked(name) {
                cases.extend(found);
            }
        }
        if kernels {
            cases.extend(bench::kernels());
        }
        cases
    }

    fn measure<'a>(&self, case: &'a Case, executor: Box<dyn Executor>, kernel: Option<&str>) -> Result<Measured<'a>> {
        let name = kernel.map_or(case.what.clone(), |kernel| format!("{}, {kernel}", case.what));
        let what = || format!("{} {name}", case.workload);
        let begun = Instant::now();
        let mut program = case.load(executor).with_context(what)?;
        program.run(1).with_context(what)?;
        let first = begun.elapsed();
        let time = program.time(Duration::from_secs_f64(self.seconds)).with_context(what)?.median();
        tracing::info!("{}: {:.3} ms, first after {:.2} s", what(), 1e3 * time.as_secs_f64(), first.as_secs_f64());
        Ok(Measured { case, what: name, costs: program.repeated().to_vec(), time, first })
    }
}

/// Operations for each byte moved below which a kernel's figure is GB/s: less than a window of three by three needs.
const LEAST_INTENSITY: f64 = 2.0;

/// A case with its time.
struct Measured<'a> {
    case: &'a Case,
    what: String,
    costs: Vec<bench::Cost>,
    time: Duration,
    first: Duration,
}

impl Measured<'_> {
    fn figure(self, peak: &Roofline) -> Figure {
        let Case { workload, size, batch, .. } = self.case;
        let seconds = self.time.as_secs_f64();
        let total = |of: fn(&bench::Cost) -> u64| self.costs.iter().map(of).sum::<u64>() as f64;
        let (flop, bytes) = (total(|cost| cost.flop), total(|cost| cost.bytes));
        let (gflop_per_s, gb_per_s) = (flop / seconds / 1e9, bytes / seconds / 1e9);
        let (value, unit) = match batch {
            Some(batch) if self.case.is_step() => (*batch as f64 / seconds, "images/s"),
            _ if flop < LEAST_INTENSITY * bytes => (gb_per_s, "GB/s"),
            _ => (gflop_per_s, "GFLOP/s"),
        };
        Figure {
            workload: workload.to_string(),
            what: self.what,
            size: *size,
            batch: *batch,
            value,
            unit: unit.to_string(),
            floor_share: peak.floor_of(&self.costs).as_secs_f64() / seconds,
            seconds,
            gflop_per_s,
            gb_per_s,
            first_step_s: self.case.is_step().then_some(self.first.as_secs_f64()),
            ratio: None,
        }
    }
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what gabor bench --json writes", path.display()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Written beside and renamed, so that a reader never sees half a file.
fn write(path: &Path, report: &Report) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    serde_json::to_writer_pretty(&mut file, report)?;
    writeln!(file)?;
    file.persist(path)?;
    Ok(())
}

/// The most memory that this process has held, where the system says so: Linux does.
fn peak_rss_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
