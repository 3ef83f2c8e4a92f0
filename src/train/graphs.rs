use crate::{
    autodiff,
    data::Normalisation,
    graph::{Graph, GraphError, Value, VariableId},
    kernel::Expr,
    models::Model,
    nn::{Builder, Built, Mode, Parameters, Role},
    tensor::{Tensor, TensorType},
};

use super::Recipe;

/// Variables that a training graph keeps beside the parameters.
#[derive(Clone, Debug, Default)]
pub struct TrainingState {
    /// For each trained block, in order, the optimizer's moments.
    pub moments: Vec<Vec<VariableId>>,
    /// 1 once a loss was not finite, from when on no variable changes any more.
    pub halted: Option<VariableId>,
}

/// Builds the graph of one training step: forward, loss, gradients, optimizer, running statistics.
///
/// Feeds: `images` u8 `[batch, height, width, channels]`, `labels` u32 `[batch]`, `weights` f32 `[batch]`, `clock` u32
/// `[2]` (seed, step), `hyper` f32 `[8]` (see [`crate::ops::Optimizer::hyper`]). Outputs, f32 `[]` each: `loss`, the
/// weighted mean; `weight`, the sum of weights; `correct`, the number of images of weight above 0 that were recognised.
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
    let batch = recipe.batch_size;
    let (images, labels, weights) = feeds(&mut graph, model, batch);
    let clock = graph.feed("clock", TensorType::u32([2]));
    let hyper = graph.feed("hyper", TensorType::f32([8]));
    let (logits, built) = forward(&mut graph, model, parameters, Mode::Training, Some(clock), images, normalisation)?;

    let (loss, state) = graph.scoped("loss", |graph| -> Result<_, GraphError> {
        let losses = graph.softmax_cross_entropy(logits, labels, recipe.label_smoothing)?;
        let loss = graph.weighted_mean(losses, weights)?;
        let hit = graph.top_k_correct(logits, labels, 1)?;
        let counted = Expr::Input(1).select(Expr::Input(0), 0.0);
        let hit = graph.pointwise("counted", counted, &[hit, weights])?;
        let correct = graph.sum(hit, &[0])?;
        let weight = graph.sum(weights, &[0])?;
        graph.output("loss", loss);
        graph.output("weight", weight);
        graph.output("correct", correct);

        let halted = parameters.add_variable("halted", 1);
        let before = graph.variable(halted, 0, TensorType::f32([]));
        let sticky = Expr::Input(1).is_finite().select(Expr::Input(0), 1.0);
        let guard = graph.update("halt", sticky, &[before, loss])?;
        graph.assign(halted, guard);
        Ok((loss, (guard, TrainingState { moments: Vec::new(), halted: Some(halted) })))
    })?;
    let (guard, mut state) = state;

    let wanted: Vec<Value> = built
        .parameters
        .iter()
        .filter(|(at, _)| parameters.get(*at).role == Role::Trained)
        .map(|(_, value)| *value)
        .collect();
    let gradients = autodiff::gradients(&mut graph, loss, &wanted)?;
    graph.scoped("optimizer", |graph| -> Result<(), GraphError> {
        let numbers: Vec<usize> =
            built.parameters.iter().map(|(at, _)| *at).filter(|at| parameters.get(*at).role == Role::Trained).collect();
        let mut packed = Vec::new();
        for (block, description) in parameters.blocks().iter().enumerate() {
            if description.role == Role::Trained {
                let (values, offsets): (Vec<Value>, Vec<usize>) = numbers
                    .iter()
                    .zip(&gradients)
                    .filter(|(at, _)| parameters.get(**at).block == block)
                    .map(|(at, gradient)| (*gradient, parameters.get(*at).offset))
                    .unzip();
                packed.push((block, graph.pack(&values, offsets, description.elements)?));
            }
        }
        let all: Vec<Value> = packed.iter().map(|(_, value)| *value).collect();
        let scale = match recipe.clip_norm {
            Some(max_norm) => graph.global_norm_scale(&all, max_norm)?,
            None => graph.constant(Tensor::scalar(1.0)),
        };
        for (block, gradients) in packed {
            let block = parameters.blocks()[block].clone();
            let ty = TensorType::f32([block.elements]);
            let values = graph.variable(block.variable, 0, ty.clone());
            let ids: Vec<VariableId> = (0..recipe.optimizer.moments())
                .map(|at| parameters.add_variable(format!("moment{}", at + 1), block.elements))
                .collect();
            let moments: Vec<Value> = ids.iter().map(|id| graph.variable(*id, 0, ty.clone())).collect();
            let updated = graph.optimizer_step(&recipe.optimizer, values, &moments, gradients, hyper, scale, guard)?;
            for (id, value) in std::iter::once(&block.variable).chain(&ids).zip(updated) {
                graph.assign(*id, value);
            }
            state.moments.push(ids);
        }
        Ok(())
    })?;
    graph.scoped("statistics", |graph| follow(graph, parameters, &built, recipe.statistics_momentum, guard))?;
    Ok((graph, state))
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

/// Builds the graph of inference on a batch.
///
/// Feeds: `images`, `labels` and `weights` as in [`training_graph`]. Outputs: `probabilities` f32 `[batch, classes]`
/// and `losses` f32 `[batch]`, the cross-entropy of each image.
///
/// # Errors
/// If the model cannot take such images.
pub fn inference_graph(
    model: &Model,
    parameters: &mut Parameters,
    batch: usize,
    normalisation: &Normalisation,
) -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let (images, labels, _) = feeds(&mut graph, model, batch);
    let (logits, _) = forward(&mut graph, model, parameters, Mode::Inference, None, images, normalisation)?;
    graph.scoped("loss", |graph| -> Result<(), GraphError> {
        let losses = graph.softmax_cross_entropy(logits, labels, 0.0)?;
        let probabilities = graph.softmax(logits)?;
        graph.output("probabilities", probabilities);
        graph.output("losses", losses);
        Ok(())
    })?;
    Ok(graph)
}

fn feeds(graph: &mut Graph, model: &Model, batch: usize) -> (Value, Value, Value) {
    let [height, width, channels] = model.input;
    let images = graph.feed("images", TensorType::u8([batch, height, width, channels]));
    let labels = graph.feed("labels", TensorType::u32([batch]));
    let weights = graph.feed("weights", TensorType::f32([batch]));
    (images, labels, weights)
}

fn forward(
    graph: &mut Graph,
    model: &Model,
    parameters: &mut Parameters,
    mode: Mode,
    clock: Option<Value>,
    images: Value,
    normalisation: &Normalisation,
) -> Result<(Value, Built), GraphError> {
    let channels = normalisation.mean.len();
    let mean = graph.constant(Tensor::f32([channels], normalisation.mean.clone()));
    let std = graph.constant(Tensor::f32([channels], normalisation.std.clone()));
    let x = graph.scoped("input", |graph| graph.normalise_images(images, mean, std))?;
    let mut builder = Builder::new(graph, parameters, mode, clock);
    let logits = model.network.forward(&mut builder, x)?;
    let shape = builder.shape(logits);
    if shape[..] != [builder.shape(images)[0], model.classes] {
        let batch = builder.shape(images)[0];
        let message = format!(
            "the network of {} ends in {shape}, not in logits [{batch}, {}]; end it with Dense::new({})",
            model.name, model.classes, model.classes
        );
        return Err(builder.error(message));
    }
    Ok((logits, builder.finish()))
}
