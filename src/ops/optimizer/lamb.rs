//! LAMB.

use super::{composed::Composed, segments::SegmentSums};
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    tensor::Tensor,
};

/// Adam's step with decoupled decay, `direction = m / (sqrt(v) + epsilon) + weight_decay * p` with moments without bias, which
/// for each parameter has the length of the parameter itself: `p - learning_rate * norm(p) / norm(direction) * direction`, or
/// the length that it has, where either norm is 0.
pub(super) fn step(
    graph: &mut Graph,
    step: &Composed<'_>,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
) -> Result<Vec<Value>, GraphError> {
    let input = Expr::Input;
    let mean = input(0) * beta1 + input(1) * (1.0 - beta1);
    let mean = step.update(graph, "lamb_mean", step.moments[0], mean, &[step.gradient])?;
    let square = input(0) * beta2 + input(1) * input(1) * (1.0 - beta2);
    let square = step.update(graph, "lamb_mean_square", step.moments[1], square, &[step.gradient])?;

    let direction = input(0) / input(2) / ((input(1) / input(3)).sqrt() + epsilon) + input(5) * input(4);
    let [correction1, correction2] = step.bias_corrections;
    let inputs = [mean, square, correction1, correction2, step.parameters, step.weight_decay];
    let direction = graph.pointwise("lamb_direction", direction, &inputs)?;

    // Rows as long as each can be of one parameter only: what pads a parameter is 0 and adds nothing.
    let elements = graph.shape(direction).elements();
    let offsets = step.tensors.iter().map(|(offset, _)| *offset);
    let row = offsets.clone().fold(elements, greatest_common_divisor);
    let starts = std::iter::once(0).chain(offsets.skip(1)).chain([elements]).map(|at| (at / row) as u32);
    let starts: Vec<u32> = starts.collect();
    let starts = graph.constant(Tensor::u32([starts.len()], starts));
    let rows = [elements / row, row];
    let squared_norms = |graph: &mut Graph, value: Value| {
        let of_rows = graph.reshape(value, rows)?;
        let of_rows = graph.squared_norms(of_rows, 1)?;
        let sums = graph.apply1(SegmentSums {}, &[of_rows, starts])?;
        graph.reshape(sums, [rows[0], 1])
    };
    let squares = [squared_norms(graph, step.parameters)?, squared_norms(graph, direction)?];
    let ratio = input(1).select(input(2).select(input(1).sqrt() / input(2).sqrt(), 1.0), 1.0);
    let direction = graph.reshape(direction, rows)?;
    let direction = graph.pointwise("lamb_trust", input(0) * ratio, &[direction, squares[0], squares[1]])?;
    let direction = graph.reshape(direction, [elements])?;
    let moved = input(0) - input(2) * input(1);
    let new = step.update(graph, "lamb", step.parameters, moved, &[direction, step.learning_rate])?;
    Ok(vec![new, mean, square])
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
