use std::collections::VecDeque;

use super::{
    Recipe, TrainError,
    diagnose::first_non_finite,
    evaluate::{Evaluation, Inference},
    graphs::{TrainingState, inference_graph, training_graph},
};
use crate::{
    data::{Batch, Loader, Normalisation},
    graph::Graph,
    models::Model,
    nn::{Parameters, Role},
    plan::{Choices, Executor, MemoryUse, Outputs, Plan, PlanError, PlanOptions, ProgramId, Target, Tuned},
    tensor::Tensor,
};

/// A model on a device, ready to be trained a step at a time.
pub struct Session {
    pub(super) executor: Box<dyn Executor>,
    pub(super) model: Model,
    pub(super) recipe: Recipe,
    pub(super) normalisation: Normalisation,
    pub(super) parameters: Parameters,
    pub(super) state: TrainingState,
    graph: Graph,
    train: ProgramId,
    inference: Inference,
    tuned: Tuned,
    memory: MemoryUse,
    recomputation_saves: u64,
    /// Steps that were submitted and not reported yet: number and images that count.
    pending: VecDeque<(u64, usize)>,
    step: u64,
}

/// The figures of one finished step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepFigures {
    /// The step, counted from 1.
    pub step: u64,
    /// Weighted mean loss.
    pub loss: f32,
    /// Sum of the images' weights.
    pub weight: f32,
    /// Images recognised.
    pub correct: usize,
    /// Images that count.
    pub images: usize,
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
        normalisation.check(model.input[2])?;
        let mut parameters = Parameters::new(executor.target().block_limit());
        let inference = inference_graph(&model, &mut parameters, recipe.batch_size, &normalisation)?;
        let (graph, state) = training_graph(&model, &mut parameters, &recipe, &normalisation)?;
        let options = PlanOptions { recompute: recipe.recompute, ..PlanOptions::default() };
        let tuned = executor.tune(&graph, parameters.variables(), options)?;
        executor.tune(&inference, parameters.variables(), PlanOptions::inference())?;
        let target = executor.target();
        // On the CPU the initial values lie in memory beside the variables that they are written to.
        let initial = if target == Target::Cpu { 4 * parameters.trained() as u64 } else { 0 };
        let memory = executor.available_memory().map(|bytes| bytes.saturating_sub(initial));
        let budget = Budget { target: target.clone(), options, memory };
        let too_large = |excess| batch_too_large(excess, &model, &recipe, &normalisation, &budget, executor.device());
        let train_plan = budget.plan(&graph).map_err(too_large)?;
        let memory = train_plan.memory;
        let recomputation_saves = train_plan.recomputation_saves(&graph, &target, options)?;
        let inference_plan = Plan::new(&inference, &target, PlanOptions::inference())?;
        executor.declare(parameters.variables())?;
        let train = executor.load(train_plan)?;
        let inference = Inference::new(executor.load(inference_plan)?);
        for (block, content) in parameters.blocks().iter().zip(parameters.initial(recipe.seed)) {
            executor.write(block.variable, 0, &content)?;
        }
        Ok(Self {
            executor,
            model,
            recipe,
            normalisation,
            parameters,
            state,
            graph,
            train,
            inference,
            tuned,
            memory,
            recomputation_saves,
            pending: VecDeque::new(),
            step: 0,
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

    /// Steps so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    pub(super) fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Submits one training step and returns the figures of the steps that finished since the last call.
    ///
    /// # Errors
    /// If the device fails.
    pub fn train_step(&mut self, batch: &mut Batch, learning_rate: f64) -> Result<Vec<StepFigures>, TrainError> {
        self.step += 1;
        let clock = Tensor::u32([2], vec![self.recipe.seed as u32, self.step as u32]);
        let Recipe { optimizer, weight_decay, clip_value, .. } = &self.recipe;
        let hyper = Tensor::f32([8], optimizer.hyper(learning_rate, *weight_decay, self.step, *clip_value).to_vec());
        let inputs = BatchTensors::borrow(batch, &self.model);
        let mut feeds = inputs.feeds().to_vec();
        feeds.extend([("clock", &clock), ("hyper", &hyper)]);
        let result = self.executor.run(self.train, &feeds);
        inputs.give_back(batch);
        result?;
        self.pending.push_back((self.step, batch.real));
        self.finished(false)
    }

    /// Waits for all submitted steps and returns their figures.
    ///
    /// # Errors
    /// If the device fails.
    pub fn finish_steps(&mut self) -> Result<Vec<StepFigures>, TrainError> {
        self.finished(true)
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<StepFigures>, TrainError> {
        let finished = self.executor.collect(self.train, wait)?;
        let figures = |outputs: Outputs| {
            let (step, images) = self.pending.pop_front()?;
            let number = |name: &str| {
                let found = outputs.iter().find(|(given, _)| given == name);
                found.and_then(|(_, tensor)| tensor.as_f32()?.first().copied()).unwrap_or(f32::NAN)
            };
            Some(StepFigures {
                step,
                loss: number("loss"),
                weight: number("weight"),
                correct: number("correct") as usize,
                images,
            })
        };
        Ok(finished.into_iter().filter_map(figures).collect())
    }

    /// Loss and accuracy on the loader's images.
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

    /// Layer and operation in which the first value that is not finite appears when `batch` is gone through with the
    /// present parameters as step number `step`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn diagnose(&mut self, batch: &mut Batch, step: u64) -> Result<String, TrainError> {
        let clock = Tensor::u32([2], vec![self.recipe.seed as u32, step as u32]);
        let hyper = Tensor::f32([8], vec![0.0; 8]);
        let inputs = BatchTensors::borrow(batch, &self.model);
        let mut feeds = inputs.feeds().to_vec();
        feeds.extend([("clock", &clock), ("hyper", &hyper)]);
        let place = first_non_finite(&self.graph, &self.parameters, self.executor.as_mut(), &feeds);
        inputs.give_back(batch);
        place
    }

    /// Every parameter and, as `moment1/NAME` and `moment2/NAME`, the optimizer's moments of it, from the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensors(&mut self) -> Result<Vec<(String, Tensor)>, TrainError> {
        let mut tensors = Vec::new();
        let mut trained = 0;
        for (at, block) in self.parameters.blocks().to_vec().into_iter().enumerate() {
            let mut sources = vec![(String::new(), block.variable)];
            if block.role == Role::Trained {
                let moments = self.state.moments.get(trained).cloned().unwrap_or_default();
                sources.extend(moments.into_iter().enumerate().map(|(n, id)| (format!("moment{}/", n + 1), id)));
                trained += 1;
            }
            for (prefix, id) in sources {
                let content = self.executor.read(id)?;
                let Some(content) = content.as_f32() else { continue };
                for parameter in self.parameters.iter().filter(|p| p.block == at) {
                    let values = content[parameter.offset..][..parameter.shape.elements()].to_vec();
                    tensors.push((format!("{prefix}{}", parameter.name), Tensor::f32(&parameter.shape, values)));
                }
            }
        }
        Ok(tensors)
    }

    /// Sets variables from what `find` gives for each name that [`Session::tensors`] has.
    pub(super) fn set_tensors(
        &mut self,
        mut find: impl FnMut(&str, &crate::tensor::Shape) -> Result<Tensor, TrainError>,
    ) -> Result<(), TrainError> {
        let trained: Vec<usize> = (0..self.parameters.blocks().len())
            .filter(|at| self.parameters.blocks()[*at].role == Role::Trained)
            .collect();
        for parameter in self.parameters.iter() {
            let block = &self.parameters.blocks()[parameter.block];
            let tensor = find(&parameter.name, &parameter.shape)?;
            self.executor.write(block.variable, parameter.offset, &tensor)?;
            let moments = trained.iter().position(|at| *at == parameter.block).map(|at| &self.state.moments[at]);
            for (n, id) in moments.into_iter().flatten().enumerate() {
                let tensor = find(&format!("moment{}/{}", n + 1, parameter.name), &parameter.shape)?;
                self.executor.write(*id, parameter.offset, &tensor)?;
            }
        }
        Ok(())
    }
}

/// A batch's vectors as tensors, without copies: they are taken out of the batch and put back.
pub(super) struct BatchTensors {
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
}

impl BatchTensors {
    pub fn borrow(batch: &mut Batch, model: &Model) -> Self {
        let [height, width, channels] = model.input;
        let n = batch.labels.len();
        Self {
            images: Tensor::u8([n, height, width, channels], std::mem::take(&mut batch.images)),
            labels: Tensor::u32([n], std::mem::take(&mut batch.labels)),
            weights: Tensor::f32([n], std::mem::take(&mut batch.weights)),
        }
    }

    pub fn feeds(&self) -> [(&'static str, &Tensor); 3] {
        [("images", &self.images), ("labels", &self.labels), ("weights", &self.weights)]
    }

    pub fn give_back(self, batch: &mut Batch) {
        use crate::tensor::TensorData::{F32, U8, U32};
        if let (U8(images), U32(labels), F32(weights)) =
            (self.images.into_data(), self.labels.into_data(), self.weights.into_data())
        {
            (batch.images, batch.labels, batch.weights) = (images, labels, weights);
        }
    }
}

/// What a plan may take.
struct Budget {
    target: Target,
    options: PlanOptions,
    memory: Option<u64>,
}

impl Budget {
    /// The plan of `graph`, where it fits.
    fn plan(&self, graph: &Graph) -> Result<Plan, PlanError> {
        let plan = Plan::new(graph, &self.target, self.options)?;
        let bytes = plan.memory.planned + plan.memory.resident;
        match self.memory {
            Some(limit) if bytes > limit => {
                Err(PlanError::TooLarge { layer: String::new(), what: "the whole step".to_string(), bytes, limit })
            }
            _ => Ok(plan),
        }
    }
}

/// A plan's failure for want of memory as the error that names the largest batch.
fn batch_too_large(
    error: PlanError,
    model: &Model,
    recipe: &Recipe,
    normalisation: &Normalisation,
    budget: &Budget,
    device: String,
) -> TrainError {
    let PlanError::TooLarge { bytes, limit, .. } = error else { return error.into() };
    let fits = |batch: usize| {
        let recipe = Recipe { batch_size: batch, ..recipe.clone() };
        let mut parameters = Parameters::new(budget.target.block_limit());
        training_graph(model, &mut parameters, &recipe, normalisation)
            .is_ok_and(|(graph, _)| budget.plan(&graph).is_ok())
    };
    let (mut low, mut high) = (0, recipe.batch_size);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    TrainError::BatchTooLarge { batch: recipe.batch_size, bytes, limit, device, largest: (low > 0).then_some(low) }
}
