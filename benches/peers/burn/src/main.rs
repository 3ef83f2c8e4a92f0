//! Times burn's wgpu backend, with fusion and autotuning, on gabor's benchmark workloads: f32, synthetic data already
//! resident. A figure is the median over repeats after a warm-up.

mod networks;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use burn::{
    backend::{Dispatch, ops::ModuleOps},
    nn::loss::CrossEntropyLossConfig,
    optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig},
    tensor::{
        Device, DeviceKind, Distribution, Int, Tensor,
        module::{conv2d, conv2d_weight_backward},
        ops::ConvOptions,
    },
};
use clap::Parser;
use serde::Serialize;

use networks::{Network, ResNet, SeedCnn};

const WORKLOADS: [&str; 7] = ["W1", "W2", "W3", "W4", "W4t", "W5", "W6"];

/// Times burn's wgpu backend on gabor's benchmark workloads.
#[derive(Parser)]
struct Options {
    /// Workloads, of W1, W2, W3, W4, W4t, W5 and W6; all where none is named
    workloads: Vec<String>,
    /// best, cpu (a software GPU), discrete, integrated or virtual
    #[arg(long, default_value = "best")]
    device: String,
    /// Time spent on each figure after tuning
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    program: &'static str,
    device: String,
    threads: usize,
    peak_rss_mib: f64,
    results: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    workload: &'static str,
    what: &'static str,
    size: usize,
    batch: Option<usize>,
    value: f64,
    unit: &'static str,
    first_step_s: Option<f64>,
}

struct Bench {
    start: Instant,
    device: Device,
    software: bool,
    time: Duration,
}

impl Bench {
    /// Seconds from the start of this program to the end of the first run, and the median of a run over samples of at
    /// least 10 ms, so that what it costs to start and to wait is not what is measured.
    fn measure<R>(&self, mut run: impl FnMut() -> Result<R>) -> Result<(f64, f64)> {
        let mut sample = |times: usize| {
            let begun = Instant::now();
            // The last result lives until the device is done.
            let mut last = None;
            for _ in 0..times {
                last = Some(run()?);
            }
            self.device.sync().context("waiting for the device")?;
            drop(last);
            anyhow::Ok(begun.elapsed().as_secs_f64() / times as f64)
        };
        sample(1)?;
        let first = self.start.elapsed().as_secs_f64();
        // Fusion and tuning take more than the first step to settle.
        let (warm, mut shortest) = (Instant::now(), f64::INFINITY);
        for at in 0.. {
            if at >= 3 && warm.elapsed() > self.time / 4 {
                break;
            }
            shortest = sample(1)?.min(shortest);
        }
        let times = (0.01 / shortest).ceil().max(1.0) as usize;
        let (begun, mut samples) = (Instant::now(), Vec::new());
        while samples.len() < 5 || begun.elapsed() < self.time {
            samples.push(sample(times)?);
        }
        samples.sort_by(f64::total_cmp);
        Ok((first, samples[samples.len() / 2]))
    }

    fn random<const D: usize>(&self, shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Default, device)
    }

    fn train<N: Network>(
        &self,
        workload: &'static str,
        [batch, channels, side]: [usize; 3],
        classes: usize,
        network: impl FnOnce(&Device) -> N,
        mut optimizer: ModuleOptimizer,
    ) -> Result<Figure> {
        let device = self.device.clone().autodiff();
        let images = self.random([batch, channels, side, side], &device);
        let labels: Vec<i32> = (0..batch).map(|at| (at % classes) as i32).collect();
        let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &device);
        let cross_entropy = CrossEntropyLossConfig::new().init(&device);
        let mut network = Some(network(&device));
        let (first, median) = self.measure(|| {
            let current = network.take().context("the network of the step before")?;
            let loss = cross_entropy.forward(current.forward(images.clone()), labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &current);
            network = Some(optimizer.step(1e-3, current, gradients));
            Ok(())
        })?;
        Ok(self.images(workload, "train", side, batch, first, median))
    }

    fn infer(&self, workload: &'static str, network: &impl Network, side: usize, batch: usize) -> Result<Figure> {
        let images = self.random([batch, 3, side, side], &self.device);
        let (first, median) = self.measure(|| Ok(network.forward(images.clone())))?;
        Ok(self.images(workload, "infer", side, batch, first, median))
    }

    fn images(
        &self,
        workload: &'static str,
        what: &'static str,
        size: usize,
        batch: usize,
        first: f64,
        median: f64,
    ) -> Figure {
        let value = batch as f64 / median;
        Figure { workload, what, size, batch: Some(batch), value, unit: "images/s", first_step_s: Some(first) }
    }

    fn kernel<const D: usize>(&self, flop: usize, compute: impl Fn() -> Tensor<D>) -> Result<f64> {
        let (_, median) = self.measure(|| Ok(compute()))?;
        Ok(flop as f64 / median / 1e9)
    }

    fn gemm(&self, size: usize) -> Result<Figure> {
        let (a, b) = (self.random([size, size], &self.device), self.random([size, size], &self.device));
        let value = self.kernel(2 * size.pow(3), || a.clone().matmul(b.clone()))?;
        let unit = "GFLOP/s";
        Ok(Figure { workload: "W5", what: "gemm", size, batch: None, value, unit, first_step_s: None })
    }

    fn conv(&self) -> Result<Vec<Figure>> {
        let (batch, size, channels) = (8, 56, 64);
        let (x, dy) = (
            self.random([batch, channels, size, size], &self.device),
            self.random([batch, channels, size, size], &self.device),
        );
        let weight = self.random([channels, channels, 3, 3], &self.device);
        let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let flop = 2 * batch * size * size * channels * channels * 9;
        let forward = || conv2d(x.clone(), weight.clone(), None, options());
        let input = || {
            let (x, weight, dy) = (x.clone(), weight.clone(), dy.clone());
            Tensor::<4>::from_dispatch(Dispatch::conv2d_x_backward(
                x.into_dispatch(),
                weight.into_dispatch(),
                dy.into_dispatch(),
                options(),
            ))
        };
        let weights = || conv2d_weight_backward(x.clone(), weight.clone(), dy.clone(), options());
        let figures = [
            ("forward", self.kernel(flop, forward)?),
            ("grad-input", self.kernel(flop, input)?),
            ("grad-weight", self.kernel(flop, weights)?),
        ];
        let figure = |(what, value)| {
            let unit = "GFLOP/s";
            Figure { workload: "W6", what, size, batch: Some(batch), value, unit, first_step_s: None }
        };
        Ok(figures.map(figure).into())
    }

    fn run(&self, workload: &str) -> Result<Vec<Figure>> {
        let device = &self.device;
        let adam = || AdamConfig::new().init();
        let sgd = || SgdConfig::new().with_momentum(Some(MomentumConfig::new().with_dampening(0.0))).init();
        let figure = match workload {
            "W1" => self.train("W1", [128, 1, 28], 10, |d| SeedCnn::new(28, 1, 10, d), adam())?,
            "W2" => self.train("W2", [32, 3, 64], 10, |d| SeedCnn::new(64, 3, 10, d), adam())?,
            "W3" => self.train("W3", [32, 3, 32], 10, |d| ResNet::resnet18_cifar(10, d), sgd())?,
            "W4" => {
                let network = ResNet::resnet50(1000, device);
                return [1, 8].into_iter().map(|batch| self.infer("W4", &network, 224, batch)).collect();
            }
            "W4t" => {
                let batch = if self.software { 4 } else { 64 };
                self.train("W4t", [batch, 3, 224], 1000, |d| ResNet::resnet50(1000, d), sgd())?
            }
            "W5" => return [512, 1024, 2048].into_iter().map(|size| self.gemm(size)).collect(),
            "W6" => return self.conv(),
            _ => bail!("no workload {workload}: there are {}", WORKLOADS.join(", ")),
        };
        Ok(vec![figure])
    }
}

fn device_kind(name: &str) -> Result<DeviceKind> {
    Ok(match name {
        "best" => DeviceKind::DefaultDevice,
        "cpu" => DeviceKind::Cpu,
        "discrete" => DeviceKind::DiscreteGpu(0),
        "integrated" => DeviceKind::IntegratedGpu(0),
        "virtual" => DeviceKind::VirtualGpu(0),
        _ => bail!("no device {name}: there are best, cpu, discrete, integrated and virtual"),
    })
}

/// The most memory that this process has held, where Linux says so.
fn peak_rss_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn main() -> Result<()> {
    let start = Instant::now();
    let options = Options::parse();
    let kind = device_kind(&options.device)?;
    let device = Device::wgpu(kind);
    let name = device.identity().map_or_else(|| options.device.clone(), |identity| identity.name);
    let software = options.device == "cpu" || name.contains("llvmpipe");
    let bench = Bench { start, device, software, time: Duration::from_secs_f64(options.seconds) };
    let workloads = match options.workloads.as_slice() {
        [] => WORKLOADS.map(String::from).into(),
        named => named.to_vec(),
    };
    let mut results = Vec::new();
    for workload in &workloads {
        for figure in bench.run(workload)? {
            let batch = figure.batch.map_or(String::new(), |batch| format!(" batch {batch}"));
            let what = format!("{} {} {}{batch}", figure.workload, figure.what, figure.size);
            println!("{what:<32}{:>10.1} {}", figure.value, figure.unit);
            results.push(figure);
        }
    }
    if let Some(path) = options.json {
        let threads = std::env::var("LP_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
        let threads = threads.or_else(|| Some(std::thread::available_parallelism().ok()?.get())).unwrap_or(1);
        let program = "burn 0.22.1 (wgpu)";
        let report = Report { program, device: name, threads, peak_rss_mib: peak_rss_mib(), results };
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}
