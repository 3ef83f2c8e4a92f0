//! A plan on a device with all that it needs, ready to be run and timed.

use std::time::{Duration, Instant};

use crate::{
    check,
    data::Normalisation,
    graph::{Graph, GraphError, Value, VariableId, Variables},
    kernel::{gpu::Candidate, random},
    models::Model,
    nn::Parameters,
    plan::{self, Choices, Executor, Plan, PlanOptions, ProgramId, Step, Target, Timing, Work},
    tensor::{DType, Shape, Tensor, TensorType},
    train::{Recipe, TrainError, inference_graph, training_graph},
};

/// The least time of a sample: shorter runs are repeated, so that what it costs to start and to wait is not what is
/// measured.
const SAMPLE: Duration = Duration::from_millis(10);

/// A plan loaded on a device, with synthetic inputs.
pub struct Program {
    executor: Box<dyn Executor>,
    id: ProgramId,
    feeds: Vec<(String, Tensor)>,
    costs: Vec<Cost>,
    /// How many of the steps, which come first, run only once.
    prepared: usize,
    alternatives: Vec<(String, Choices)>,
}

/// What a step of a plan has to do at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Path of the layer.
    pub layer: String,
    /// Name of the operation.
    pub op: String,
    /// The kernel and its tile, `native` on the CPU, or `copy`.
    pub kernel: String,
    /// Floating-point operations.
    pub flop: u64,
    /// Bytes moved when each input is read once and each output written once.
    pub bytes: u64,
}

/// How long the runs of a program took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Time of a run in each sample, shortest first.
    samples: Vec<Duration>,
}

/// What synthetic images are normalised by.
pub fn synthetic_normalisation(channels: usize) -> Normalisation {
    Normalisation { mean: vec![0.5; channels], std: vec![0.25; channels] }
}

/// Normally distributed numbers. Of large tensors they repeat themselves: making so many would take longer than measuring.
fn synthetic(shape: &Shape, seed: u64) -> Tensor {
    const DISTINCT: usize = 1 << 20;
    let numbers = check::random([shape.elements().min(DISTINCT)], seed);
    let numbers = numbers.as_f32().unwrap_or_default().iter().copied().cycle();
    Tensor::f32(shape.clone(), numbers.take(shape.elements()).collect())
}

fn alternatives(plan: &Plan, target: &Target) -> Vec<(String, Choices)> {
    let (Target::Gpu(limits, _), Some(step)) = (target, plan.steps.iter().max_by_key(|step| step.flop())) else {
        return Vec::new();
    };
    let Work::Run { op, signature, .. } = &step.work else { return Vec::new() };
    let candidates = op.kernels(signature, limits);
    let call = plan::call(op.name(), &candidates);
    let choice = |candidate: Candidate| {
        let mut choices = Choices::default();
        choices.set(&call, &candidate.name);
        (candidate.name, choices)
    };
    candidates.into_iter().map(choice).collect()
}

impl Program {
    /// A training step of `model` on a batch that stays the same.
    ///
    /// # Errors
    /// If a setting of the recipe is out of range, the model cannot take its input, or the device cannot hold the step.
    pub fn training(mut executor: Box<dyn Executor>, model: &Model, recipe: &Recipe) -> Result<Self, TrainError> {
        recipe.check().map_err(TrainError::Setting)?;
        let mut parameters = Parameters::with_groups(executor.target().block_limit(), recipe.parameter_groups(model)?);
        let normalisation = synthetic_normalisation(model.input[2]);
        let (graph, state) = training_graph(model, &mut parameters, recipe, &normalisation)?;
        initialise(executor.as_mut(), &parameters, recipe.seed)?;
        let mut feeds = images(model, recipe.batch_size());
        feeds.push(("clock".into(), random::clock(recipe.seed, 1)));
        feeds.extend(state.hyper(recipe, recipe.learning_rate, 1, 0.0));
        let options = PlanOptions { recompute: recipe.recompute, ..PlanOptions::default() };
        Self::load(executor, &graph, parameters.variables(), options, feeds)
    }

    /// Inference of `model` on a batch that stays the same.
    ///
    /// # Errors
    /// If the model cannot take its input, or the device cannot hold the step.
    pub fn inference(mut executor: Box<dyn Executor>, model: &Model, batch: usize) -> Result<Self, TrainError> {
        let mut parameters = Parameters::for_inference(executor.target().block_limit());
        let graph = inference_graph(model, &mut parameters, batch, &synthetic_normalisation(model.input[2]))?;
        initialise(executor.as_mut(), &parameters, 0)?;
        let options = PlanOptions::inference();
        let mut program = Self::load(executor, &graph, parameters.variables(), options, images(model, batch))?;
        program.executor.freeze(program.id)?;
        Ok(program)
    }

    /// What `build` makes of normally distributed inputs of these shapes. The inputs lie on the device, and of each
    /// result only the first element leaves it.
    ///
    /// # Errors
    /// If the graph cannot be built or the device cannot hold it.
    pub fn kernel(
        mut executor: Box<dyn Executor>,
        inputs: &[Shape],
        build: impl Fn(&mut Graph, &[Value]) -> Result<Vec<Value>, GraphError>,
    ) -> Result<Self, TrainError> {
        let (mut graph, mut variables) = (Graph::new(), Variables::new());
        let ids: Vec<VariableId> = inputs
            .iter()
            .enumerate()
            .map(|(at, shape)| variables.add(format!("input{at}"), DType::F32, shape.elements()))
            .collect();
        let values: Vec<Value> =
            ids.iter().zip(inputs).map(|(id, shape)| graph.variable(*id, 0, TensorType::f32(shape.clone()))).collect();
        for (at, result) in build(&mut graph, &values)?.into_iter().enumerate() {
            let elements = graph.shape(result).elements();
            let flat = graph.reshape(result, [elements])?;
            let first = graph.slice(flat, 0, 0..1)?;
            graph.output(format!("result{at}"), first);
        }
        executor.declare(&variables)?;
        for (at, (id, shape)) in ids.iter().zip(inputs).enumerate() {
            executor.write(*id, 0, &synthetic(shape, at as u64))?;
        }
        Self::load(executor, &graph, &variables, PlanOptions::default(), Vec::new())
    }

    fn load(
        mut executor: Box<dyn Executor>,
        graph: &Graph,
        variables: &Variables,
        options: PlanOptions,
        feeds: Vec<(String, Tensor)>,
    ) -> Result<Self, TrainError> {
        executor.tune(graph, variables, options)?;
        let plan = Plan::new(graph, &executor.target(), options)?;
        executor.check_memory(&plan)?;
        let costs = plan.steps.iter().map(Cost::of).collect();
        let alternatives = alternatives(&plan, &executor.target());
        let prepared = plan.prepared;
        let id = executor.load(plan)?;
        Ok(Self { executor, id, feeds, costs, prepared, alternatives })
    }

    /// Name of the device.
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// The steps of the plan, in order.
    pub fn costs(&self) -> &[Cost] {
        &self.costs
    }

    /// Those of them that each run takes.
    pub fn repeated(&self) -> &[Cost] {
        &self.costs[self.prepared..]
    }

    /// The kernels that can compute the step of the most operations on a GPU, by name, each with the choice that takes it;
    /// none on the CPU.
    pub fn alternatives(&self) -> &[(String, Choices)] {
        &self.alternatives
    }

    /// Runs it so many times in a row and waits for the end of the last.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&mut self, times: usize) -> Result<(), TrainError> {
        let feeds: Vec<(&str, &Tensor)> = self.feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        for _ in 0..times {
            self.executor.run(self.id, &feeds)?;
        }
        self.executor.collect(self.id, true)?;
        Ok(())
    }

    /// Runs it for about `time` after a warm-up of a quarter of that, and takes at least five samples.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&mut self, time: Duration) -> Result<Timed, TrainError> {
        let begun = Instant::now();
        let mut shortest = Duration::MAX;
        while shortest == Duration::MAX || begun.elapsed() < time / 4 {
            shortest = shortest.min(self.sample(1)?);
        }
        let times = SAMPLE.div_duration_f64(shortest.max(Duration::from_nanos(1))).ceil().max(1.0) as usize;
        let begun = Instant::now();
        let mut samples = Vec::new();
        while samples.len() < 5 || begun.elapsed() < time {
            samples.push(self.sample(times)?);
        }
        samples.sort();
        Ok(Timed { samples })
    }

    fn sample(&mut self, times: usize) -> Result<Duration, TrainError> {
        let begun = Instant::now();
        self.run(times)?;
        Ok(begun.elapsed().div_f64(times as f64))
    }

    /// The least time, of a few runs, that this processor needs to hand a run to a GPU: to write its inputs, encode and
    /// submit it. `None` where the processor itself runs it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn host_time(&mut self) -> Result<Option<Duration>, TrainError> {
        const RUNS: usize = 10;
        if self.executor.target() == Target::Cpu {
            return Ok(None);
        }
        let feeds: Vec<(&str, &Tensor)> = self.feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut least = Duration::MAX;
        for _ in 0..RUNS {
            let begun = Instant::now();
            self.executor.run(self.id, &feeds)?;
            least = least.min(begun.elapsed());
            self.executor.collect(self.id, true)?;
        }
        Ok(Some(least))
    }

    /// Runs it once, timing each dispatch.
    ///
    /// # Errors
    /// If the device fails.
    pub fn profile(&mut self) -> Result<Vec<Timing>, TrainError> {
        let feeds: Vec<(&str, &Tensor)> = self.feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Ok(self.executor.profile(self.id, &feeds)?)
    }
}

impl Timed {
    /// The median time of a run.
    pub fn median(&self) -> Duration {
        self.samples[self.samples.len() / 2]
    }

    /// The shortest time of a run.
    pub fn shortest(&self) -> Duration {
        self.samples[0]
    }
}

impl Cost {
    fn of(step: &Step) -> Self {
        let kernel = match &step.work {
            Work::Copy => "copy",
            Work::Run { kernel: Some(kernel), .. } => &kernel.name,
            Work::Run { kernel: None, .. } => "native",
        };
        Self {
            layer: step.layer.clone(),
            op: step.name().to_string(),
            kernel: kernel.to_string(),
            flop: step.flop(),
            bytes: step.bytes(),
        }
    }
}

fn initialise(executor: &mut dyn Executor, parameters: &Parameters, seed: u64) -> Result<(), TrainError> {
    executor.declare(parameters.variables())?;
    for (block, content) in parameters.blocks().iter().zip(parameters.initial(seed)) {
        executor.write(block.variable, 0, &content)?;
    }
    Ok(())
}

/// A batch of arbitrary pixels, and all labels in turn.
fn images(model: &Model, batch: usize) -> Vec<(String, Tensor)> {
    let [height, width, channels] = model.input;
    let pixels = (0..batch * height * width * channels).map(|at| (at * 97 % 251) as u8).collect();
    let mut feeds = vec![
        ("images".into(), Tensor::u8([batch, height, width, channels], pixels)),
        ("weights".into(), Tensor::f32([batch], vec![1.0; batch])),
    ];
    let classes = model.task.output(batch).map_or(1, |output| output.shape.last());
    feeds.extend(model.task.targets(batch).map(|ty| {
        let number = |at: usize| at % classes;
        let labels = match ty.dtype {
            DType::U32 => Tensor::u32(ty.shape.clone(), (0..ty.elements()).map(|at| number(at) as u32).collect()),
            _ => Tensor::f32(ty.shape.clone(), (0..ty.elements()).map(|at| (number(at) % 2) as f32).collect()),
        };
        ("labels".to_string(), labels)
    }));
    feeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::software_gpu, cpu::CpuExecutor, gpu::GpuExecutor, models};

    /// The CPU, and a software GPU where there is one.
    fn executors() -> Vec<Box<dyn Executor>> {
        let mut executors: Vec<Box<dyn Executor>> = vec![Box::new(CpuExecutor::new())];
        executors.extend(software_gpu().map(|gpu| Box::new(GpuExecutor::new(gpu)) as Box<dyn Executor>));
        executors
    }

    #[test]
    fn steps_run_and_each_of_their_dispatches_is_timed() {
        let model = models::build("lenet5", [28, 28, 1], 10).unwrap();
        let recipe = Recipe { batch_size: Some(4), ..Recipe::default() };
        let mut steps = Vec::new();
        for executor in executors() {
            let mut program = Program::training(executor, &model, &recipe).unwrap();
            let timings = program.profile().unwrap();
            assert!(timings.is_sorted_by_key(|timing| timing.step) && timings.is_sorted_by_key(|timing| timing.start));
            assert_eq!(timings.last().unwrap().step, program.costs().len() - 1);
            steps.push(program.costs().len());
        }
        for (executor, steps) in executors().into_iter().zip(steps) {
            let mut program = Program::inference(executor, &model, 2).unwrap();
            assert!(program.costs().len() < steps);
            let timed = program.time(Duration::ZERO).unwrap();
            assert!(timed.shortest() <= timed.median() && !timed.shortest().is_zero());
        }
    }
}
