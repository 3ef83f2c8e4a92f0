//! A model on a device: its plans, its parameters and its steps.

use std::{borrow::Cow, collections::VecDeque};

use super::{
    Recipe, TrainError,
    batch::{BatchTensors, check_labels, labels_at},
    budget::{Budget, batch_too_large},
    diagnose::first_non_finite,
    evaluate::Inference,
    forward::inference_graph,
    graphs::{METRIC, PARTNER_LABELS, TrainingState, gradients_output, reading_graph, training_graph},
    stage::{Stage, StageGraphs, check_groups},
    vitals::{Probe, Vitals, part_of},
};
use crate::{
    augment::{Augmentation, Drawn},
    data::{Batch, Loader, Normalisation},
    graph::{Graph, VariableId},
    kernel::random,
    models::Model,
    nn::Parameters,
    plan::{Choices, Executor, MemoryUse, Outputs, Plan, PlanOptions, ProgramId, Target, Tuned},
    tasks::{Evaluation, Predictions, Unit},
    tensor::Tensor,
};

/// A model on a device, ready to be trained a step at a time.
pub struct Session {
    pub(super) executor: Box<dyn Executor>,
    pub(super) model: Model,
    pub(super) recipe: Recipe,
    pub(super) normalisation: Normalisation,
    /// What the recipe's augmentation comes to for images of this size.
    augmentation: Augmentation,
    pub(super) parameters: Parameters,
    pub(super) state: TrainingState,
    /// What trains all.
    whole: Stage,
    /// What trains the head alone, until [`Session::unfreeze`].
    head: Option<Stage>,
    /// What tells gradients, once they were asked for.
    reading: Option<ProgramId>,
    /// What tells vitals, once they were asked for.
    probe: Option<Probe>,
    /// For each block of parameters, the variable that holds it as it was before a step.
    before: Vec<Option<VariableId>>,
    inference: Inference,
    tuned: Tuned,
    memory: MemoryUse,
    recomputation_saves: u64,
    /// Batches that were submitted and not reported yet.
    pending: VecDeque<Submitted>,
    /// What the batches of an unfinished step come to.
    partial: Partial,
    step: u64,
    /// Steps of the whole run, where that is known.
    total_steps: Option<u64>,
    /// Whether weights that begin as the data says are still to begin so.
    pub(super) awaits_data: bool,
}

/// A batch on its way.
struct Submitted {
    step: u64,
    learning_rate: f64,
    /// The images that count, by their places in the training set.
    images: Vec<u32>,
    /// The last one of its step.
    last: bool,
}

/// Sums over batches.
#[derive(Default)]
struct Partial {
    loss: f64,
    weight: f64,
    metrics: Vec<f64>,
    losses: Vec<ImageLoss>,
}

/// The loss of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageLoss {
    /// Its place in the training set.
    pub image: u32,
    /// The task's loss of it, as it came: varied, and mixed with another image where the recipe does so.
    pub loss: f32,
}

/// The figures of one finished step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFigures {
    /// The step, counted from 1.
    pub step: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Weighted mean loss.
    pub loss: f32,
    /// Sum of the images' weights.
    pub weight: f32,
    /// Sum of each of [`Session::metrics`] over the images that count.
    pub metric_sums: Vec<f64>,
    /// The images that count.
    pub losses: Vec<ImageLoss>,
}

impl Session {
    /// Builds the graphs of `model`, plans them for the executor's device and initialises the parameters.
    ///
    /// # Errors
    /// If a setting is out of range, the model cannot take its input, or the batch does not fit the device.
    pub fn new(
        mut executor: Box<dyn Executor>,
        model: Model,
        recipe: Recipe,
        normalisation: Normalisation,
    ) -> Result<Self, TrainError> {
        recipe.check().map_err(TrainError::Setting)?;
        if recipe.ema.is_some() && recipe.lookahead.is_some() {
            let message = "`ema` and `lookahead` both keep a second set of weights: take one of them";
            return Err(TrainError::Setting(message.into()));
        }
        normalisation.check(model.input[2])?;
        if let Some(teacher) = &model.teacher {
            teacher.check(&model).map_err(TrainError::Setting)?;
        }
        let groups = recipe.parameter_groups(&model)?;
        let mut parameters = Parameters::with_groups(executor.target().block_limit(), groups);
        let mut inference = inference_graph(&model, &mut parameters, recipe.batch_size(), &normalisation)?;
        let (graph, mut state) = training_graph(&model, &mut parameters, &recipe, &normalisation)?;
        check_groups(&parameters, &state, &recipe)?;
        let stage = |parameters: &mut Parameters, state: &TrainingState, whole: Option<Graph>| {
            StageGraphs::new(&model, parameters, &recipe, &normalisation, state, whole)
        };
        let whole = stage(&mut parameters, &state, Some(graph))?;
        let mut head = None;
        if recipe.unfreeze_at.is_some() {
            parameters.hold_back(true);
            state.late_since = None;
            head = Some(stage(&mut parameters, &state, None)?);
        }
        let options = PlanOptions { recompute: recipe.recompute, ..PlanOptions::default() };
        let tuned = executor.tune(&whole.graph, parameters.variables(), options)?;
        if let Some(StageGraphs { graph, .. }) = &head {
            executor.tune(graph, parameters.variables(), options)?;
        }
        let averages = state.averages();
        if !averages.is_empty() {
            let mut averaged = parameters.in_variables(&averages);
            inference = inference_graph(&model, &mut averaged, recipe.batch_size(), &normalisation)?;
        }
        executor.tune(&inference, parameters.variables(), PlanOptions::inference())?;
        let target = executor.target();
        // On the CPU the initial values lie in memory beside the variables that they are written to.
        let beside = if target == Target::Cpu { 4 * parameters.trained() as u64 } else { 0 };
        let budget = Budget { target: target.clone(), options, memory: executor.available_memory(), beside };
        let too_large = |excess| batch_too_large(excess, &model, &recipe, &normalisation, &budget, executor.device());
        let train_plan = budget.plan(&whole.graph).map_err(too_large)?;
        let memory = train_plan.memory;
        let recomputation_saves = train_plan.recomputation_saves(&whole.graph, &target, options)?;
        let inference_plan = Plan::new(&inference, &target, PlanOptions::inference())?;
        executor.declare(parameters.variables())?;
        let whole = whole.load(executor.as_mut(), train_plan)?;
        let head = match head {
            Some(head) => {
                let plan = Plan::new(&head.graph, &target, options)?;
                Some(head.load(executor.as_mut(), plan)?)
            }
            None => None,
        };
        let inference = Inference::new(executor.load(inference_plan)?);
        for (block, content) in parameters.blocks().iter().zip(parameters.initial(recipe.seed)) {
            executor.write(block.variable, 0, &content)?;
        }
        if let Some(teacher) = &model.teacher {
            for (parameter, weights) in parameters.given().zip(teacher.weights_of(&parameters)?) {
                executor.write(parameters.blocks()[parameter.block].variable, parameter.offset, weights)?;
            }
        }
        for (block, average) in averages {
            let content = executor.read(parameters.blocks()[block].variable)?;
            executor.write(average, 0, &content)?;
        }
        Ok(Self {
            executor,
            augmentation: recipe.augment.resolved(model.input),
            model,
            recipe,
            normalisation,
            parameters,
            state,
            whole,
            head,
            reading: None,
            probe: None,
            before: Vec::new(),
            inference,
            tuned,
            memory,
            recomputation_saves,
            pending: VecDeque::new(),
            partial: Partial::default(),
            step: 0,
            total_steps: None,
            awaits_data: true,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How it is trained.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How its training images are varied.
    pub fn augmentation(&self) -> &Augmentation {
        &self.augmentation
    }

    /// Its parameters: names, shapes and where they are.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Name of the device.
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// What finding fast kernels for the training step took and found.
    pub fn tuned(&self) -> Tuned {
        self.tuned
    }

    /// The kernels that were chosen on a GPU; none on the CPU.
    pub fn kernels(&self) -> Choices {
        match self.executor.target() {
            Target::Gpu(_, choices) => choices,
            Target::Cpu => Choices::default(),
        }
    }

    /// Memory that a training step takes.
    pub fn memory(&self) -> MemoryUse {
        self.memory
    }

    /// Bytes that the step takes less than it would without [`Recipe::recompute`].
    pub fn recomputation_saves(&self) -> u64 {
        self.recomputation_saves
    }

    /// Name and unit of each figure that training shows beside the loss.
    pub fn metrics(&self) -> &[(&'static str, Unit)] {
        &self.state.metrics
    }

    /// Steps so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    pub(super) fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Says how many steps the run has, which what changes in its course depends on.
    pub fn set_total_steps(&mut self, steps: u64) {
        self.total_steps = Some(steps);
    }

    /// Whether a moving average or slow weights are kept of this block.
    pub(super) fn has_average(&self, block: usize) -> bool {
        self.state.averages().iter().any(|(at, _)| *at == block)
    }

    /// The numbers that the update of step `step` depends on.
    fn hyper(&self, learning_rate: f64, step: u64) -> Vec<(String, Tensor)> {
        let done = self.total_steps.map_or(1.0, |total| (step as f64 / total.max(1) as f64).min(1.0));
        self.state.hyper(&self.recipe, learning_rate, step, done)
    }

    /// Trains all that is not frozen from now on, where a run began with the last dense layer alone
    /// ([`Recipe::unfreeze_at`]); `after` so many steps, by which the optimizer counts those of what was held back. Returns
    /// the figures of the steps that finished since the last call.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unfreeze(&mut self, after: u64) -> Result<Vec<StepFigures>, TrainError> {
        if self.state.late_since.is_some() {
            return Ok(Vec::new());
        }
        let finished = self.finished(true)?;
        self.state.late_since = Some(after);
        self.parameters.hold_back(false);
        self.reading = None;
        self.probe = None;
        Ok(finished)
    }

    /// The present training step.
    fn stage(&self) -> &Stage {
        self.head.as_ref().filter(|_| self.state.late_since.is_none()).unwrap_or(&self.whole)
    }

    /// Submits one training step on one batch and returns the figures of the steps that finished since the last call.
    ///
    /// # Errors
    /// If the device fails.
    pub fn train_step(&mut self, batch: &mut Batch, learning_rate: f64) -> Result<Vec<StepFigures>, TrainError> {
        self.train_step_on(std::slice::from_mut(batch), learning_rate)
    }

    /// Submits one training step on up to [`Recipe::accumulate`] batches, whose gradients are averaged by the weights of
    /// their images, and returns the figures of the steps that finished since the last call.
    ///
    /// # Errors
    /// If there are no batches or more than that, their labels are not those of the task, or the device fails.
    pub fn train_step_on(&mut self, batches: &mut [Batch], learning_rate: f64) -> Result<Vec<StepFigures>, TrainError> {
        let most = self.recipe.accumulate;
        if batches.is_empty() || batches.len() > most {
            return Err(TrainError::Setting(format!("a step takes 1 to {most} batches, not {}", batches.len())));
        }
        // Before anything is submitted: a step is done whole or not at all.
        batches.iter().try_for_each(|batch| check_labels(batch, &self.model))?;
        self.step += 1;
        let hyper = self.hyper(learning_rate, self.step);
        let hyper: Vec<(&str, &Tensor)> = hyper.iter().map(|(name, numbers)| (name.as_str(), numbers)).collect();
        let count = batches.len();
        let &Stage { train, update, .. } = self.stage();
        for (at, batch) in batches.iter_mut().enumerate() {
            let drawn = self.draw(batch, self.step, at);
            let inputs = BatchTensors::borrow(batch, &self.model)?;
            let mut feeds = inputs.feeds();
            feeds.extend(drawn.iter().map(|(name, tensor)| (*name, tensor)));
            if update.is_none() {
                feeds.extend(&hyper);
            }
            let result = self.executor.run(train, &feeds);
            inputs.give_back(batch);
            result?;
            let (step, images) = (self.step, places(batch)[..batch.real].to_vec());
            self.pending.push_back(Submitted { step, learning_rate, images, last: at + 1 == count });
        }
        if let Some(update) = update {
            self.executor.run(update, &hyper)?;
            self.executor.collect(update, false)?;
        }
        self.finished(false)
    }

    /// What the random numbers of a step's batch number `at` depend on.
    fn clock(&self, step: u64, at: usize) -> Tensor {
        let batch = step.wrapping_mul(self.recipe.accumulate as u64).wrapping_add(at as u64);
        random::clock(self.recipe.seed, batch)
    }

    /// The feeds of what is drawn for a step's batch number `at`: the clock, and what its images are varied by.
    fn draw(&self, batch: &Batch, step: u64, at: usize) -> Vec<(&'static str, Tensor)> {
        let clock = self.clock(step, at);
        let count = batch.weights.len();
        let draws = self.augmentation.draw(&Drawn {
            clock: clock.as_u32().and_then(|words| words.try_into().ok()).unwrap_or_default(),
            epoch: batch.epoch,
            indices: &places(batch),
            real: batch.real.min(count),
            size: self.model.input,
        });
        let mut feeds = draws.feeds;
        feeds.push(("clock", clock));
        if let Some(partners) = draws.partners.filter(|_| self.model.task.targets(count).is_some()) {
            feeds.push((PARTNER_LABELS, labels_at(batch, &partners)));
        }
        feeds
    }

    /// Waits for all submitted steps and returns their figures.
    ///
    /// # Errors
    /// If the device fails.
    pub fn finish_steps(&mut self) -> Result<Vec<StepFigures>, TrainError> {
        self.finished(true)
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<StepFigures>, TrainError> {
        let train = self.stage().train;
        let finished = self.executor.collect(train, wait)?;
        Ok(finished.into_iter().filter_map(|outputs| self.figures(&outputs)).collect())
    }

    /// Takes in what a batch came to; the figures of its step where it is the last one of it.
    fn figures(&mut self, outputs: &Outputs) -> Option<StepFigures> {
        let Submitted { step, learning_rate, images, last } = self.pending.pop_front()?;
        let number = |prefix: &str, name: &str| {
            let found = outputs.iter().find(|(given, _)| given.strip_prefix(prefix) == Some(name));
            found.and_then(|(_, tensor)| tensor.as_f32()?.first().copied()).unwrap_or(f32::NAN)
        };
        let weight = f64::from(number("", "weight"));
        self.partial.loss += f64::from(number("", "loss")) * weight;
        self.partial.weight += weight;
        let losses = outputs.iter().find(|(name, _)| name == "losses").and_then(|(_, losses)| losses.as_f32());
        let losses = images.into_iter().zip(losses.unwrap_or_default());
        self.partial.losses.extend(losses.map(|(image, &loss)| ImageLoss { image, loss }));
        self.partial.metrics.resize(self.state.metrics.len(), 0.0);
        for (sum, (name, _)) in self.partial.metrics.iter_mut().zip(&self.state.metrics) {
            *sum += f64::from(number(METRIC, name));
        }
        if !last {
            return None;
        }
        let Partial { loss, weight, metrics, losses } = std::mem::take(&mut self.partial);
        let mean = if weight == 0.0 { 0.0 } else { loss / weight };
        let (loss, weight) = (mean as f32, weight as f32);
        Some(StepFigures { step, learning_rate, loss, weight, metric_sums: metrics, losses })
    }

    /// The task's figures on the loader's images.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn evaluate(&mut self, loader: &Loader) -> Result<Evaluation, TrainError> {
        self.evaluate_with_progress(loader, &mut |_| ())
    }

    /// As [`Self::evaluate`], and tells `progress` how many images are done.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn evaluate_with_progress(
        &mut self,
        loader: &Loader,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Evaluation, TrainError> {
        self.inference.evaluate(self.executor.as_mut(), &self.model, loader, progress)
    }

    /// What the network says of the images of a loader. Tells `progress` how many are done.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn predictions(&mut self, loader: &Loader, progress: &mut dyn FnMut(usize)) -> Result<Predictions, TrainError> {
        let loaders = std::slice::from_ref(loader);
        self.inference.predictions(self.executor.as_mut(), &self.model, loaders, progress)
    }

    /// The gradient of the batch's loss with respect to each parameter that is trained, at the present parameters, by the
    /// parameter's name. Nothing changes by it.
    ///
    /// # Errors
    /// If the labels are not those of the task, or the device fails.
    pub fn gradients(&mut self, batch: &mut Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let program = match self.reading {
            Some(program) => program,
            None => {
                let graph = reading_graph(&self.model, &mut self.parameters, &self.recipe, &self.normalisation)?;
                let options = PlanOptions { recompute: self.recipe.recompute, ..PlanOptions::default() };
                let plan = Plan::new(&graph, &self.executor.target(), options)?;
                self.executor.check_memory(&plan)?;
                *self.reading.insert(self.executor.load(plan)?)
            }
        };
        check_labels(batch, &self.model)?;
        let drawn = self.draw(batch, self.step + 1, 0);
        let inputs = BatchTensors::borrow(batch, &self.model)?;
        let mut feeds = inputs.feeds();
        feeds.extend(drawn.iter().map(|(name, tensor)| (*name, tensor)));
        let result = self.executor.run(program, &feeds);
        inputs.give_back(batch);
        result?;
        let outputs = self.executor.collect(program, true)?.pop().unwrap_or_default();
        let mut gradients = Vec::new();
        for parameter in self.parameters.iter() {
            let name = gradients_output(parameter.block);
            let block = outputs.iter().find(|(given, _)| *given == name).and_then(|(_, values)| values.as_f32());
            let values = block.map(|block| block[parameter.offset..][..parameter.shape.elements()].to_vec());
            gradients.extend(values.map(|values| (parameter.name.clone(), Tensor::f32(&parameter.shape, values))));
        }
        Ok(gradients)
    }

    /// Makes ready to tell what the next step changes. Call it before that step, and [`Session::vitals`] after it.
    ///
    /// # Errors
    /// If memory runs out or the device fails.
    pub fn watch(&mut self) -> Result<(), TrainError> {
        let executor = self.executor.as_mut();
        let probe = match &self.probe {
            Some(probe) => probe,
            None => {
                let Self { model, parameters, recipe, normalisation, before, .. } = self;
                self.probe.insert(Probe::new(executor, model, parameters, recipe, normalisation, before)?)
            }
        };
        probe.keep(executor)
    }

    /// What happens inside of the network after the last step, by some images of its batch; `None` where it was not watched.
    ///
    /// # Errors
    /// If the labels are not those of the task, or the device fails.
    pub fn vitals(&mut self, batch: &Batch, learning_rate: f64) -> Result<Option<Vitals>, TrainError> {
        let Some(probe) = &self.probe else { return Ok(None) };
        let mut part = part_of(batch, probe.batch);
        let drawn = self.draw(&part, self.step, 0);
        let vitals = probe.read(self.executor.as_mut(), &self.model, &mut part, &drawn)?;
        Ok(Some(Vitals { step: self.step, learning_rate, ..vitals }))
    }

    /// Layer and operation in which the first value that is not finite appears when `batch`, number `at` of step number
    /// `step`, is gone through with the present parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub fn diagnose(&mut self, batch: &mut Batch, step: u64, at: usize) -> Result<Option<String>, TrainError> {
        let drawn = self.draw(batch, step, at);
        let hyper = self.hyper(0.0, step);
        let inputs = BatchTensors::borrow(batch, &self.model)?;
        let mut feeds = inputs.feeds();
        feeds.extend(drawn.iter().map(|(name, tensor)| (*name, tensor)));
        feeds.extend(hyper.iter().map(|(name, numbers)| (name.as_str(), numbers)));
        let graph = &self.head.as_ref().filter(|_| self.state.late_since.is_none()).unwrap_or(&self.whole).graph;
        let place = first_non_finite(graph, &self.parameters, self.executor.as_mut(), &feeds);
        inputs.give_back(batch);
        place
    }
}

/// The places of a batch's images in the training set. A batch made by hand need not say which images it is of.
fn places(batch: &Batch) -> Cow<'_, [u32]> {
    let count = batch.weights.len();
    if batch.indices.len() == count { Cow::Borrowed(&batch.indices) } else { (0..count as u32).collect() }
}
