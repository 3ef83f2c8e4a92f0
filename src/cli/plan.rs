//! `gabor plan`: what will run.

use std::{fmt::Write, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Error, Result, bail};
use clap::{Args, ValueEnum};
use gabor::{
    bench::{Program, synthetic_normalisation},
    data::height_width,
    device::Device,
    graph::{self, Graph, Variables},
    models::{Architecture, Model},
    nn::Parameters,
    ops,
    plan::{Choices, Executor, PassReport, Plan, PlanOptions, Step, Tuning, Work},
    report::Table,
    train::{Recipe, inference_graph, training_graph},
};
use serde_json::{Value, json};

use super::{console::Console, devices, output::Output, values::ModelParser};

/// How each file of a graph begins.
const GRAPH_MARK: &str = r#""gabor graph""#;

/// Print what will run: each step of a plan with its kernel, and the memory
#[derive(Args)]
#[command(after_help = "Examples:
  gabor plan resnet18
  gabor plan vgg11 --image-size 64 --classes 100 --mode infer --device gpu
  gabor plan resnet50 --passes
  gabor plan lenet5 --save-graph lenet5.json
  gabor plan --graph lenet5.json")]
pub struct PlanArgs {
    /// The network: one that `gabor models` lists, a .toml file of layers, or the config.toml of a run
    #[arg(value_parser = ModelParser, required_unless_present = "graph")]
    model: Option<Architecture>,
    /// Plan the graph of this file, which --save-graph wrote, instead of a network of the zoo
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "image_size", "channels", "classes", "batch_size", "mode"])]
    graph: Option<PathBuf>,
    /// Also write the graph that the plan is made of to this file, as JSON
    #[arg(long, value_name = "FILE")]
    save_graph: Option<PathBuf>,
    /// Show what each pass of the planner changed, instead of the steps
    #[arg(long)]
    passes: bool,
    #[command(flatten)]
    step: StepArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A step of a network of the zoo
#[derive(Args)]
pub struct StepArgs {
    /// Size of the images: N or HxW
    #[arg(long, value_name = "SIZE", value_parser = height_width, default_value = "32")]
    image_size: (usize, usize),
    /// 1 for grey, 3 for RGB
    #[arg(long, value_name = "N", value_parser = ["1", "3"], default_value = "3")]
    channels: String,
    /// Number of classes
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    classes: u32,
    /// Images a step
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: u32,
    /// What the plan is for: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// How to choose kernels on a GPU
    #[arg(long, value_name = "HOW", default_value = "off")]
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
        let (graph, variables) = self.graph(executor.target().block_limit())?;
        if let Some(path) = &self.save_graph {
            Output::new(path, GRAPH_MARK)?.write(graph::save(&graph, &variables)?.as_bytes())?;
        }
        // Nothing is hoisted where a step changes variables.
        let prepare = self.graph.is_some() || self.step.mode == Mode::Infer;
        let options = PlanOptions { recompute: self.step.recompute, prepare, ..PlanOptions::default() };
        executor.tune(&graph, &variables, options)?;
        let target = executor.target();
        let (plan, passes) = Plan::explained(&graph, &target, options)?;
        let saved = plan.recomputation_saves(&graph, &target, options)?;
        let sum = |of: fn(&Step) -> u64| plan.steps.iter().map(of).sum::<u64>();
        let figures = json!({
            "model": self.model.as_ref().map(Architecture::name),
            "device": executor.device(),
            "batch_size": self.graph.is_none().then_some(self.step.batch_size),
            "passes": passes.iter().map(pass_row).collect::<Vec<_>>(),
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
        let mut text = if self.passes { passes_table(&passes, &plan) } else { plan.to_string() };
        if self.step.recompute {
            let share = 100.0 * saved as f64 / (plan.memory.planned + saved).max(1) as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "recomputation saves {:.1} MiB, {share:.0}%", mebibytes(saved));
        }
        console.json(self.json).result(&figures, text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The graph of the file, or of the network, and its variables.
    fn graph(&self, block_limit: usize) -> Result<(Graph, Variables)> {
        match (&self.graph, &self.model) {
            (Some(path), _) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                graph::load(&text, &ops::make).with_context(|| format!("{} is no graph", path.display()))
            }
            (None, Some(model)) => {
                let (graph, parameters) = self.step.graph(model, block_limit)?;
                Ok((graph, parameters.variables().clone()))
            }
            (None, None) => bail!("name a network or a file of a graph"),
        }
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

    fn model(&self, architecture: &Architecture) -> Result<(Model, Recipe)> {
        let channels = if self.channels == "1" { 1 } else { 3 };
        let input = [self.image_size.0, self.image_size.1, channels];
        let model = architecture.build(input, self.classes as usize).map_err(Error::msg)?;
        let recipe =
            Recipe { batch_size: Some(self.batch_size as usize), recompute: self.recompute, ..Recipe::default() };
        recipe.check().map_err(Error::msg)?;
        Ok((model, recipe))
    }

    /// The step of a network of the zoo on a device, with synthetic images.
    pub fn program(&self, model: &Architecture, executor: Box<dyn Executor>) -> Result<Program> {
        let (model, recipe) = self.model(model)?;
        Ok(match self.mode {
            Mode::Train => Program::training(executor, &model, &recipe)?,
            Mode::Infer => Program::inference(executor, &model, self.batch_size as usize)?,
        })
    }

    fn graph(&self, model: &Architecture, block_limit: usize) -> Result<(Graph, Parameters)> {
        let (model, recipe) = self.model(model)?;
        let normalisation = synthetic_normalisation(model.input[2]);
        let mut parameters = Parameters::new(block_limit);
        let graph = match self.mode {
            Mode::Train => training_graph(&model, &mut parameters, &recipe, &normalisation)?.0,
            Mode::Infer => inference_graph(&model, &mut parameters, self.batch_size as usize, &normalisation)?,
        };
        Ok((graph, parameters))
    }
}

/// A line a pass: nodes and bytes that they move at least, before and after, and the operations that went and came. The
/// last lines are of what follows the passes.
fn passes_table(passes: &[PassReport], plan: &Plan) -> String {
    let mut table = Table::new(["<pass", "<nodes", "<MiB moved at least", "<operations"]);
    for PassReport { name, nodes, bytes, removed, added, prepared } in passes {
        let change = |sign: char| move |(name, count): &(String, usize)| format!("{sign}{count} {name}");
        let mut changes: Vec<String> = removed.iter().map(change('-')).chain(added.iter().map(change('+'))).collect();
        if prepared[1] > prepared[0] {
            changes.push(format!("{} nodes run once", prepared[1]));
        }
        table.row([
            (*name).to_string(),
            arrow(nodes.map(|count| count.to_string())),
            arrow(bytes.map(|bytes| format!("{:.1}", mebibytes(bytes)))),
            if changes.is_empty() { "none".to_string() } else { changes.join(", ") },
        ]);
    }
    let memory = plan.memory;
    format!(
        "{table}\nlowering: {} steps\nmemory planning: {:.1} MiB of values in buffers of {:.1} MiB\n",
        plan.steps.len(),
        mebibytes(memory.values),
        mebibytes(memory.planned),
    )
}

/// What is, or from what to what it changed.
fn arrow([before, after]: [String; 2]) -> String {
    if before == after { after } else { format!("{before} -> {after}") }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn pass_row(pass: &PassReport) -> Value {
    let operations = |list: &[(String, usize)]| {
        list.iter().map(|(name, count)| (name.clone(), json!(count))).collect::<serde_json::Map<_, _>>()
    };
    json!({
        "name": pass.name, "nodes": pass.nodes, "bytes": pass.bytes, "removed": operations(&pass.removed),
        "added": operations(&pass.added), "prepared": pass.prepared,
    })
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
