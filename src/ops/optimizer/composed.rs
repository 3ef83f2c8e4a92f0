//! What the optimizers share whose step is made of other operations, because it looks at whole parameters.

use super::{Optimizer, infer};
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    tensor::Shape,
};

/// The values that a step is made of.
pub(super) struct Composed<'a> {
    pub parameters: Value,
    pub moments: &'a [Value],
    /// As it is used: scaled and clipped.
    pub gradient: Value,
    pub learning_rate: Value,
    pub weight_decay: Value,
    pub bias_corrections: [Value; 2],
    /// Offset and shape of each parameter in the block.
    pub tensors: Vec<(usize, Shape)>,
    guard: Value,
}

impl<'a> Composed<'a> {
    /// Of the inputs of [`Graph::optimizer_step`]: parameters, moments, gradients, hyper, scale and guard.
    pub fn new(
        graph: &mut Graph,
        optimizer: &Optimizer,
        inputs: &'a [Value],
        tensors: &[(usize, Shape)],
    ) -> Result<Self, GraphError> {
        let moments = optimizer.moments();
        let types: Vec<_> = inputs.iter().map(|value| graph.ty(*value)).collect();
        infer(&types, moments).map_err(|error| GraphError::Shape {
            layer: graph.scope_path(),
            op: optimizer.name().to_string(),
            inputs: types.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", "),
            error,
        })?;
        let (parameters, (moments, fixed)) = (inputs[0], inputs[1..].split_at(moments));
        let [gradients, hyper, scale, guard] = [fixed[0], fixed[1], fixed[2], fixed[3]];
        let mut number = |at: usize| graph.slice(hyper, 0, at..at + 1);
        let (learning_rate, weight_decay, bias_corrections) = (number(0)?, number(1)?, [number(2)?, number(3)?]);
        let (factor, clip_value) = (number(4)?, number(5)?);
        let clipped = Expr::Input(0) * (Expr::Input(1) * Expr::Input(2));
        let clipped = clipped.max(-Expr::Input(3)).min(Expr::Input(3));
        let gradient = graph.pointwise("clipped", clipped, &[gradients, factor, scale, clip_value])?;
        let whole = || vec![(0, graph.shape(parameters).clone())];
        let tensors = if tensors.is_empty() { whole() } else { tensors.to_vec() };
        Ok(Self { parameters, moments, gradient, learning_rate, weight_decay, bias_corrections, tensors, guard })
    }

    /// `value` changed to `new`, of which it is input 0 and `others` are the next, where the guard is 0; else as it is.
    pub fn update(
        &self,
        graph: &mut Graph,
        name: &str,
        value: Value,
        new: Expr,
        others: &[Value],
    ) -> Result<Value, GraphError> {
        let guard = Expr::Input(others.len() + 1);
        // What is not a number is not above 0 either.
        let stays = guard.clone().is_finite().select(guard.abs(), 1.0);
        let inputs = [&[value], others, &[self.guard]].concat();
        graph.update(name, stays.select(Expr::Input(0), new), &inputs)
    }
}
