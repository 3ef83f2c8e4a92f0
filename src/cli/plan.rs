use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::{Args, ValueEnum};
use gabor::{
    bench::{Program, synthetic_normalisation},
    device::Device,
    gpu::Tuning,
    graph::Graph,
    models::Model,
    nn::Parameters,
    plan::{Choices, Executor, Plan, PlanOptions, Step, Work},
    train::{Recipe, inference_graph, training_graph},
};
use serde_json::{Value, json};

use super::{console::Console, devices, values};

/// Print what will run: each step of a plan with its kernel, and the memory
#[derive(Args)]
#[command(after_help = "Examples:
  gabor plan resnet18
  gabor plan vgg11 --image-size 64 --classes 100 --mode infer --device gpu")]
pub struct PlanArgs {
    #[command(flatten)]
    step: StepArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A step of a network of the zoo
#[derive(Args)]
pub struct StepArgs {
    /// The network
    #[arg(value_parser = values::model())]
    model: String,
    /// Size of the images: N or HxW
    #[arg(long, value_name = "SIZE", value_parser = values::image_size, default_value = "32")]
    image_size: (usize, usize),
    /// 1 for grey, 3 for RGB
    #[arg(long, value_name = "N", value_parser = ["1", "3"], default_value = "3")]
    channels: String,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// What the plan is for: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// How to choose kernels on a GPU
    #[arg(long, value_name = "HOW", value_parser = values::tuning(), default_value = "off")]
    tune: Tuning,
    /// Compute cheap values again in the backward pass instead of keeping them, and say what that saves
    #[arg(long)]
    recompute: bool,
    /// A training step, or inference
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

impl PlanArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let mut executor = self.step.executor(&self.step.device()?);
        let (graph, parameters) = self.step.graph(executor.target().block_limit())?;
        let prepare = self.step.mode == Mode::Infer;
        let options = PlanOptions { recompute: self.step.recompute, prepare, ..PlanOptions::default() };
        executor.tune(&graph, parameters.variables(), options)?;
        let target = executor.target();
        let plan = Plan::new(&graph, &target, options)?;
        let saved = plan.recomputation_saves(&graph, &target, options)?;
        let sum = |of: fn(&Step) -> u64| plan.steps.iter().map(of).sum::<u64>();
        let figures = json!({
            "model": self.step.model,
            "device": executor.device(),
            "batch_size": self.step.batch_size,
            "steps": plan.steps.iter().map(row).collect::<Vec<_>>(),
            "prepared": plan.prepared,
            "flop": sum(Step::flop),
            "bytes": sum(Step::bytes),
            "moved": sum(Step::moved),
            "memory": {
                "planned": plan.memory.planned, "values": plan.memory.values, "resident": plan.memory.resident,
                "recomputation_saves": saved,
            },
        });
        let mut text = plan.to_string();
        if self.step.recompute {
            let share = 100.0 * saved as f64 / (plan.memory.planned + saved).max(1) as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "recomputation saves {:.1} MiB, {share:.0}%", saved as f64 / (1 << 20) as f64);
        }
        console.json(self.json).result(&figures, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl StepArgs {
    /// Opens the device that --device names.
    pub fn device(&self) -> Result<Device> {
        devices::open_device(&self.device)
    }

    /// An executor on it.
    pub fn executor(&self, device: &Device) -> Box<dyn Executor> {
        device.executor(self.tune, Choices::default())
    }

    fn model(&self) -> Result<(Model, Recipe)> {
        let channels = if self.channels == "1" { 1 } else { 3 };
        let model = values::zoo_model(&self.model, [self.image_size.0, self.image_size.1, channels], self.classes)?;
        let recipe = Recipe { batch_size: self.batch_size, recompute: self.recompute, ..Recipe::default() };
        recipe.check().map_err(anyhow::Error::msg)?;
        Ok((model, recipe))
    }

    /// The step on a device, with synthetic images.
    pub fn program(&self, executor: Box<dyn Executor>) -> Result<Program> {
        let (model, recipe) = self.model()?;
        Ok(match self.mode {
            Mode::Train => Program::training(executor, &model, &recipe)?,
            Mode::Infer => Program::inference(executor, &model, self.batch_size)?,
        })
    }

    fn graph(&self, block_limit: usize) -> Result<(Graph, Parameters)> {
        let (model, recipe) = self.model()?;
        let normalisation = synthetic_normalisation(model.input[2]);
        let mut parameters = Parameters::new(block_limit);
        let graph = match self.mode {
            Mode::Train => training_graph(&model, &mut parameters, &recipe, &normalisation)?.0,
            Mode::Infer => inference_graph(&model, &mut parameters, self.batch_size, &normalisation)?,
        };
        Ok((graph, parameters))
    }
}

fn row(step: &Step) -> Value {
    let (kernel, outputs) = match &step.work {
        Work::Copy => (None, Vec::new()),
        Work::Run { signature, kernel, .. } => (
            kernel.as_ref().map(|kernel| kernel.name.clone()),
            signature.outputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ),
    };
    json!({
        "layer": step.layer, "op": step.name(), "epilogue": step.epilogue, "kernel": kernel, "outputs": outputs, "bytes": step.bytes(),
        "moved": step.moved(),
        "flop": step.flop(),
    })
}
