use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gabor::{
    bench::{Program, synthetic_normalisation},
    models::Model,
    nn::Parameters,
    plan::{Executor, Plan, PlanOptions, Step, Target, Work},
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
        let executor = self.step.open()?;
        let plan = self.step.plan(executor.target())?;
        let figures = json!({
            "model": self.step.model,
            "device": executor.device(),
            "batch_size": self.step.batch_size,
            "steps": plan.steps.iter().map(row).collect::<Vec<_>>(),
            "flop": plan.steps.iter().map(Step::flop).sum::<u64>(),
            "bytes": plan.steps.iter().map(Step::bytes).sum::<u64>(),
            "memory": {
                "planned": plan.memory.planned, "values": plan.memory.values, "resident": plan.memory.resident,
            },
        });
        console.json(self.json).result(&figures, plan)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl StepArgs {
    /// Opens the device that --device names.
    pub fn open(&self) -> Result<Box<dyn Executor>> {
        devices::open(&self.device)
    }

    fn model(&self) -> Result<(Model, Recipe)> {
        let channels = if self.channels == "1" { 1 } else { 3 };
        let model = values::zoo_model(&self.model, [self.image_size.0, self.image_size.1, channels], self.classes)?;
        let recipe = Recipe { batch_size: self.batch_size, ..Recipe::default() };
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

    fn plan(&self, target: Target) -> Result<Plan> {
        let (model, recipe) = self.model()?;
        let normalisation = synthetic_normalisation(model.input[2]);
        let mut parameters = Parameters::new(target.block_limit());
        let graph = match self.mode {
            Mode::Train => training_graph(&model, &mut parameters, &recipe, &normalisation)?.0,
            Mode::Infer => inference_graph(&model, &mut parameters, self.batch_size, &normalisation)?,
        };
        Ok(Plan::new(&graph, &target, PlanOptions::default())?)
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
        "layer": step.layer, "op": step.name(), "kernel": kernel, "outputs": outputs, "bytes": step.bytes(),
        "flop": step.flop(),
    })
}
