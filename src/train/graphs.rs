//! The graphs of a training step, and of its parts over several batches.

use std::iter;

use crate::{
    augment::Augmentation,
    autodiff,
    data::Normalisation,
    graph::{Graph, GraphError, Value, VariableId},
    kernel::Expr,
    models::Model,
    nn::{Built, Group, Parameters, Role},
    tasks::{Samples, Unit},
    tensor::{Tensor, TensorType},
};

use super::{
    Recipe,
    distil::{distilled_losses, teacher_output},
    forward::{Batch, Input, View, forward, inference_graph},
};

/// Variables that training keeps beside the parameters.
#[derive(Clone, Debug)]
pub struct TrainingState {
    /// For each block that is trained, in order, what its update needs.
    pub updates: Vec<BlockUpdate>,
    /// Name and unit of each figure that a step reports beside its loss.
    pub metrics: Vec<(&'static str, Unit)>,
    /// Steps after which late groups are trained too; `None` for as long as they are held back.
    pub late_since: Option<u64>,
    /// 1 once a loss was not finite, from when on no variable changes any more.
    halted: VariableId,
}

/// What the update of a block of parameters needs.
#[derive(Clone, Debug)]
pub struct BlockUpdate {
    /// Number of the block in [`Parameters::blocks`].
    pub block: usize,
    /// How its parameters are trained.
    pub group: Group,
    /// The optimizer's moments.
    pub moments: Vec<VariableId>,
    /// The moving average of the parameters, or the slow weights of lookahead, where there are to be any.
    pub average: Option<VariableId>,
}

impl TrainingState {
    /// The feeds of the numbers that the updates of step `step` (counted from 1), at the share `done` of the run, depend on: one a
    /// block that it trains, and those of the averages. The optimizer counts the steps of each block by themselves.
    pub fn hyper(&self, recipe: &Recipe, learning_rate: f64, step: u64, done: f64) -> Vec<(String, Tensor)> {
        let feed = |name: &str, number: f64| (name.to_string(), Tensor::scalar(number as f32));
        let mut averages = Vec::new();
        if let Some(keep) = recipe.ema {
            // At the beginning it forgets faster, as the weights change faster.
            let keep = keep.min((1.0 + step as f64) / (10.0 + step as f64));
            averages.push(feed(AVERAGE, 1.0 - keep));
        }
        if let Some(every) = recipe.lookahead {
            let keep = (1.0 - recipe.lookahead_alpha) * done.powf(recipe.lookahead_ramp);
            let now = step.is_multiple_of(every);
            averages.push(feed(AVERAGE, if now { 1.0 - keep } else { 0.0 }));
            averages.push(feed(GO_BACK, f64::from(u8::from(now))));
        }
        let of = |(at, update): (usize, &BlockUpdate)| {
            let Group { learning_rate: factor, weight_decay, late, .. } = update.group;
            let step = if late { step - self.late_since?.min(step) } else { step };
            let optimizer = recipe.optimizer.of_block(update.group.orthogonal);
            let numbers = optimizer.hyper(factor * learning_rate, weight_decay, step, recipe.clip_value);
            Some((hyper_feed(at), Tensor::f32([8], numbers.to_vec())))
        };
        self.updates.iter().enumerate().filter_map(of).chain(averages).collect()
    }

    /// The updates, each with its number, of the blocks that are trained now.
    fn updates_of(&self, parameters: &Parameters) -> impl Iterator<Item = (usize, &BlockUpdate)> {
        self.updates.iter().enumerate().filter(|(_, update)| parameters.is_trained(update.block))
    }

    /// Number of each block whose parameters are averaged, and the average.
    pub fn averages(&self) -> Vec<(usize, VariableId)> {
        self.updates.iter().filter_map(|update| Some((update.block, update.average?))).collect()
    }
}

/// 0, also where there was no finite number: a product with 0 would keep what is not a number.
fn zero() -> Expr {
    Expr::Input(0).select(0.0, 0.0)
}

/// The name of the output that is the gradients of a block.
pub(super) fn gradients_output(block: usize) -> String {
    format!("gradients/{block}")
}

/// What the names of the outputs begin with that are sums of figures over the images.
pub(super) const METRIC: &str = "metric/";

/// The feed of the labels of the images that those of a batch are mixed with.
pub(super) const PARTNER_LABELS: &str = "partner_labels";

/// The feed of how far averages go towards the weights.
const AVERAGE: &str = "average";

/// The feed that is 1 where the weights become their averages.
const GO_BACK: &str = "go_back";

fn hyper_feed(update: usize) -> String {
    format!("hyper{update}")
}

/// The sums of gradients over some batches, in variables.
#[derive(Clone, Debug)]
pub struct GradientSums {
    /// For each of [`TrainingState::updates`] that the step makes, the gradients of its block, each batch's times its weight.
    pub blocks: Vec<VariableId>,
    /// The sum of the batches' weights.
    pub weight: VariableId,
}

/// What the part of a training graph up to the gradients makes.
struct Gradients {
    /// Number and gradients of each block that is trained.
    blocks: Vec<(usize, Value)>,
    /// The parameters that are trained.
    parameters: Vec<Trained>,
    /// Nodes up to what the network ends in.
    forward: usize,
    /// Sum of the images' weights.
    weight: Value,
    /// Name and unit of each figure.
    metrics: Vec<(&'static str, Unit)>,
    /// 0, or 1 once a loss was not finite.
    guard: Value,
}

/// A parameter that is trained, in a graph.
pub(super) struct Trained {
    /// Its number.
    pub number: usize,
    pub value: Value,
    pub gradient: Value,
}

/// A graph up to the gradients, to be looked into.
pub(super) struct Traced {
    pub parameters: Vec<Trained>,
    /// Nodes up to what the network ends in.
    pub forward: usize,
}

/// Appends forward, loss and gradients: what [`reading_graph`] does, without its outputs of gradients.
pub(super) fn traced_gradients(
    graph: &mut Graph,
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
) -> Result<Traced, GraphError> {
    let Gradients { parameters, forward, .. } = gradients(graph, model, parameters, recipe, normalisation, None)?;
    Ok(Traced { parameters, forward })
}

impl Gradients {
    /// Appends the optimizer's update by these.
    fn update(
        &self,
        graph: &mut Graph,
        parameters: &Parameters,
        recipe: &Recipe,
        state: &TrainingState,
    ) -> Result<(), GraphError> {
        let blocks: Vec<Value> = self.blocks.iter().map(|(_, value)| *value).collect();
        update(graph, parameters, recipe, state, &blocks, self.guard)
    }
}

/// Builds the graph of one training step: forward, loss, gradients, optimizer, running statistics.
///
/// Feeds: `images` u8 `[batch, height, width, channels]`, `labels` of the task's type, `weights` f32 `[batch]`, `clock` u32
/// `[2]` (seed, step), those of [`TrainingState::hyper`] and those that [`Augmentation::draw`] gives; where it mixes images also
/// `partner_labels`, of the type of the labels. Outputs, f32 `[]` each: `loss`, the weighted mean; `weight`,
/// the sum of weights; `metric/NAME`, the sum of each of the task's figures over the images of weight above 0. And `losses`,
/// f32 `[batch]`: the task's loss of each image, before what the recipe makes of it.
///
/// # Errors
/// If the model cannot take such images.
pub fn training_graph(
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
) -> Result<(Graph, TrainingState), GraphError> {
    let mut graph = Graph::new();
    let halted = parameters.add_variable("halted", 1);
    let gradients = gradients(&mut graph, model, parameters, recipe, normalisation, Some(halted))?;
    let state = state(parameters, recipe, gradients.metrics.clone(), halted);
    gradients.update(&mut graph, parameters, recipe, &state)?;
    Ok((graph, state))
}

/// As [`training_graph`], with the variables of a graph of other stages of the same training: of parameters some of which are
/// held back now, and were not then.
///
/// # Errors
/// As [`training_graph`].
pub fn stage_graph(
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
    state: &TrainingState,
) -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let gradients = gradients(&mut graph, model, parameters, recipe, normalisation, Some(state.halted))?;
    gradients.update(&mut graph, parameters, recipe, state)?;
    Ok(graph)
}

/// Builds the first of the two graphs that a step over several batches takes: forward, loss, gradients, running
/// statistics. The gradients are added to variables.
///
/// Feeds and outputs are those of [`training_graph`], without `hyper`.
///
/// # Errors
/// As [`training_graph`].
pub fn gradient_graph(
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
    state: &TrainingState,
) -> Result<(Graph, GradientSums), GraphError> {
    let mut graph = Graph::new();
    let gradients = gradients(&mut graph, model, parameters, recipe, normalisation, Some(state.halted))?;
    let sums = graph.scoped("gradients", |graph| -> Result<GradientSums, GraphError> {
        let mut blocks = Vec::new();
        for (block, value) in &gradients.blocks {
            let elements = parameters.blocks()[*block].elements;
            let id = parameters.add_variable("gradients", elements);
            let old = graph.variable(id, 0, TensorType::f32([elements]));
            let sum = Expr::Input(3).select(Expr::Input(0), Expr::Input(0) + Expr::Input(1) * Expr::Input(2));
            let new = graph.update("accumulate", sum, &[old, *value, gradients.weight, gradients.guard])?;
            graph.assign(id, new);
            blocks.push(id);
        }
        let weight = parameters.add_variable("weight", 1);
        let old = graph.variable(weight, 0, TensorType::f32([]));
        let sum = Expr::Input(0) + Expr::Input(1);
        let new = graph.update("accumulate", sum, &[old, gradients.weight])?;
        graph.assign(weight, new);
        Ok(GradientSums { blocks, weight })
    })?;
    Ok((graph, sums))
}

/// Builds the graph that only tells gradients: no variable changes.
///
/// Feeds are those of [`training_graph`], without `hyper`. Its outputs are those of it and, for each block of parameters that
/// is trained, `gradients/BLOCK`, f32 `[elements]`: the gradients of the weighted mean of the losses, each where its
/// parameter is in the block.
///
/// # Errors
/// As [`training_graph`].
pub fn reading_graph(
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
) -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let gradients = gradients(&mut graph, model, parameters, recipe, normalisation, None)?;
    for (block, values) in gradients.blocks {
        graph.output(gradients_output(block), values);
    }
    Ok(graph)
}

/// Builds the second graph of a step over several batches: the optimizer's update from the mean of the gradients, after
/// which their sums are 0.
///
/// Feeds: those of [`TrainingState::hyper`].
///
/// # Errors
/// If the optimizer rejects the shapes: they are of other parameters.
pub fn update_graph(
    parameters: &Parameters,
    recipe: &Recipe,
    state: &TrainingState,
    sums: &GradientSums,
) -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let guard = graph.variable(state.halted, 0, TensorType::f32([]));
    let weight = graph.variable(sums.weight, 0, TensorType::f32([]));
    let mut means = Vec::new();
    let mut cleared = Vec::new();
    for ((_, update), id) in state.updates_of(parameters).zip(&sums.blocks) {
        let sum = graph.variable(*id, 0, TensorType::f32([parameters.blocks()[update.block].elements]));
        // Where no image counts there is no gradient either.
        let mean = Expr::Input(1).select(Expr::Input(0) / Expr::Input(1), 0.0);
        means.push(graph.pointwise("mean", mean, &[sum, weight])?);
        cleared.push((*id, graph.update("clear", zero(), &[sum])?));
    }
    update(&mut graph, parameters, recipe, state, &means, guard)?;
    cleared.push((sums.weight, graph.update("clear", zero(), &[weight])?));
    for (id, zeros) in cleared {
        graph.assign(id, zeros);
    }
    Ok(graph)
}

/// Appends forward, loss and gradients. With `halted` also what changes beside the parameters: that flag and the running
/// statistics.
fn gradients(
    graph: &mut Graph,
    model: &Model,
    parameters: &mut Parameters,
    recipe: &Recipe,
    normalisation: &Normalisation,
    halted: Option<VariableId>,
) -> Result<Gradients, GraphError> {
    let batch = Batch::feeds(graph, model, recipe.batch_size());
    let clock = graph.feed("clock", TensorType::u32([2]));
    let augmentation = recipe.augment.resolved(model.input);
    let input = Input { batch: &batch, normalisation, view: View::InTraining(&augmentation) };
    if recipe.dropout > 0.0 && parameters.iter().next().is_none() {
        // Which dense layer is the last is known once all are declared.
        inference_graph(model, parameters, recipe.batch_size(), normalisation)?;
    }
    let (samples, built) = forward(graph, model, parameters, &input, Some((clock, recipe)))?;
    let nodes = graph.nodes().len();
    let teacher = teacher_output(graph, parameters, model, &samples, normalisation)?;

    let (loss, weight, metrics, guard) = graph.scoped("loss", |graph| -> Result<_, GraphError> {
        let objective = model.task.objective(graph, &samples)?;
        let losses = focal_losses(graph, recipe, objective.losses)?;
        let losses = mixed_losses(graph, recipe, model, &samples, &augmentation, losses)?;
        let losses = distilled_losses(graph, recipe, model, &samples, teacher, losses)?;
        let loss = graph.weighted_mean(losses, batch.weights)?;
        let mut metrics = Vec::new();
        for metric in &objective.metrics {
            let counted = Expr::Input(1).select(Expr::Input(0), 0.0);
            let counted = graph.pointwise("counted", counted, &[metric.values, batch.weights])?;
            let sum = graph.sum(counted, &[0])?;
            graph.output(format!("{METRIC}{}", metric.name), sum);
            metrics.push((metric.name, metric.unit));
        }
        let weight = graph.sum(batch.weights, &[0])?;
        graph.output("loss", loss);
        graph.output("weight", weight);
        graph.output("losses", objective.losses);

        let Some(halted) = halted else { return Ok((loss, weight, metrics, None)) };
        let before = graph.variable(halted, 0, TensorType::f32([]));
        let sticky = Expr::Input(1).is_finite().select(Expr::Input(0), 1.0);
        let guard = graph.update("halt", sticky, &[before, loss])?;
        graph.assign(halted, guard);
        Ok((loss, weight, metrics, Some(guard)))
    })?;

    let is_trained = |at: usize| parameters.is_trained(parameters.get(at).block);
    let trained: Vec<(usize, Value)> = built.parameters.iter().copied().filter(|(at, _)| is_trained(*at)).collect();
    let wanted: Vec<Value> = trained.iter().map(|(_, value)| *value).collect();
    let found = autodiff::gradients(graph, loss, &wanted)?;
    let trained: Vec<Trained> =
        iter::zip(trained, found).map(|((number, value), gradient)| Trained { number, value, gradient }).collect();
    let mut blocks = Vec::new();
    for (block, description) in parameters.blocks().iter().enumerate() {
        let (values, offsets): (Vec<Value>, Vec<usize>) = trained
            .iter()
            .filter(|trained| parameters.get(trained.number).block == block)
            .map(|trained| (trained.gradient, parameters.get(trained.number).offset))
            .unzip();
        if !values.is_empty() {
            let pack = |graph: &mut Graph| graph.pack(&values, offsets, description.elements);
            blocks.push((block, graph.scoped("optimizer", pack)?));
        }
    }
    let guard = match guard {
        Some(guard) => {
            graph.scoped("statistics", |graph| follow(graph, parameters, &built, recipe.statistics_momentum, guard))?;
            guard
        }
        None => graph.constant(Tensor::scalar(0.0)),
    };
    Ok(Gradients { blocks, parameters: trained, forward: nodes, weight, metrics, guard })
}

/// The losses, focal where the recipe says so.
fn focal_losses(graph: &mut Graph, recipe: &Recipe, losses: Value) -> Result<Value, GraphError> {
    recipe.focal.map_or(Ok(losses), |focus| graph.focal(losses, focus))
}

/// The losses of images that are mixed with partners: those by each label, weighed by the share that the label has.
fn mixed_losses(
    graph: &mut Graph,
    recipe: &Recipe,
    model: &Model,
    samples: &Samples,
    augmentation: &Augmentation,
    losses: Value,
) -> Result<Value, GraphError> {
    let batch = graph.shape(losses).elements();
    let Some(shares) = augmentation.shares(graph, batch) else { return Ok(losses) };
    let Some(ty) = model.task.targets(batch) else { return Ok(losses) };
    let targets = Some(graph.feed(PARTNER_LABELS, ty));
    let of_partners = model.task.objective(graph, &Samples { targets, ..*samples })?.losses;
    let of_partners = focal_losses(graph, recipe, of_partners)?;
    graph.mean_by_share(losses, of_partners, shares)
}

/// The variables of the optimizer for parameters that have been declared.
fn state(
    parameters: &mut Parameters,
    recipe: &Recipe,
    metrics: Vec<(&'static str, Unit)>,
    halted: VariableId,
) -> TrainingState {
    let mut updates = Vec::new();
    for (block, description) in parameters.blocks().to_vec().into_iter().enumerate() {
        if description.role == Role::Trained && !description.group.frozen {
            let moment = |at: usize| parameters.add_variable(format!("moment{}", at + 1), description.elements);
            let optimizer = recipe.optimizer.of_block(description.group.orthogonal);
            let moments = (0..optimizer.moments()).map(moment).collect();
            let averaged = recipe.ema.is_some() || recipe.lookahead.is_some();
            let average = averaged.then(|| parameters.add_variable("average", description.elements));
            updates.push(BlockUpdate { block, group: description.group, moments, average });
        }
    }
    TrainingState { updates, metrics, late_since: Some(0), halted }
}

/// Appends the optimizer's update of each block from its gradients.
fn update(
    graph: &mut Graph,
    parameters: &Parameters,
    recipe: &Recipe,
    state: &TrainingState,
    gradients: &[Value],
    guard: Value,
) -> Result<(), GraphError> {
    graph.scoped("optimizer", |graph| {
        let scale = match recipe.clip_norm {
            Some(max_norm) => graph.global_norm_scale(gradients, max_norm)?,
            None => graph.constant(Tensor::scalar(1.0)),
        };
        let averaged = recipe.ema.is_some() || recipe.lookahead.is_some();
        let share = averaged.then(|| graph.feed(AVERAGE, TensorType::f32([])));
        let go_back = recipe.lookahead.map(|_| graph.feed(GO_BACK, TensorType::f32([])));
        for ((at, update), gradients) in state.updates_of(parameters).zip(gradients) {
            let block = &parameters.blocks()[update.block];
            let ty = TensorType::f32([block.elements]);
            let hyper = graph.feed(hyper_feed(at), TensorType::f32([8]));
            let values = graph.variable(block.variable, 0, ty.clone());
            let moments: Vec<Value> = update.moments.iter().map(|id| graph.variable(*id, 0, ty.clone())).collect();
            let tensors = parameters.tensors_of(update.block);
            let optimizer = recipe.optimizer.of_block(update.group.orthogonal);
            let mut updated =
                graph.optimizer_step(&optimizer, values, &moments, *gradients, hyper, scale, guard, &tensors)?;
            if let (Some(id), Some(share), Some(new)) = (update.average, share, updated.first_mut()) {
                let old = graph.variable(id, 0, ty);
                let moved = Expr::Input(0) + (Expr::Input(1) - Expr::Input(0)) * Expr::Input(2);
                let kept = Expr::Input(3).select(Expr::Input(0), moved);
                let average = graph.update("average", kept, &[old, *new, share, guard])?;
                graph.assign(id, average);
                if let Some(go_back) = go_back {
                    let either = Expr::Input(2).select(Expr::Input(1), Expr::Input(0));
                    *new = graph.update("lookahead", either, &[*new, average, go_back])?;
                }
            }
            for (id, value) in iter::once(&block.variable).chain(&update.moments).zip(updated) {
                graph.assign(*id, value);
            }
        }
        Ok(())
    })
}

/// Moves each block of statistics towards the batch's: `s + momentum * (sample - s)`, unless `guard` is set.
fn follow(
    graph: &mut Graph,
    parameters: &Parameters,
    built: &Built,
    momentum: f64,
    guard: Value,
) -> Result<(), GraphError> {
    for (at, block) in parameters.blocks().iter().enumerate() {
        let (values, offsets): (Vec<Value>, Vec<usize>) = built
            .statistics
            .iter()
            .filter(|(number, _)| parameters.get(*number).block == at)
            .map(|(number, value)| (*value, parameters.get(*number).offset))
            .unzip();
        if values.is_empty() {
            continue;
        }
        let sample = graph.pack(&values, offsets, block.elements)?;
        let old = graph.variable(block.variable, 0, TensorType::f32([block.elements]));
        let moved = Expr::Input(0) + (Expr::Input(1) - Expr::Input(0)) * momentum;
        let guarded = Expr::Input(2).select(Expr::Input(0), moved);
        let new = graph.update("follow", guarded, &[old, sample, guard])?;
        graph.assign(block.variable, new);
    }
    Ok(())
}
