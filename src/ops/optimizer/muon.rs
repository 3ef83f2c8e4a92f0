//! Muon.

use super::composed::Composed;
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
};

/// Coefficients of x, x³ and x⁵ in a step of the Newton-Schulz iteration. They bring small singular values near 1 soon, and
/// leave all of them around it.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

const ITERATIONS: usize = 5;

/// Least norm that a matrix is divided by.
const EPSILON: f64 = 1e-7;

/// The step along the mean of gradients, with Nesterov's look ahead, where the singular values of each parameter are brought
/// to about 1. Times 0.2 and the root of the longer side it is about as long as a step of AdamW (Liu et al. 2025, *Muon is
/// Scalable for LLM Training*). Decay is decoupled.
pub(super) fn step(graph: &mut Graph, step: &Composed<'_>, momentum: f64) -> Result<Vec<Value>, GraphError> {
    let input = Expr::Input;
    let average = || input(0) * momentum + input(1) * (1.0 - momentum);
    let mean = step.update(graph, "muon_mean", step.moments[0], average(), &[step.gradient])?;
    let ahead = graph.pointwise("muon_ahead", average(), &[mean, step.gradient])?;

    let (mut directions, mut offsets) = (Vec::new(), Vec::new());
    for (offset, shape) in &step.tensors {
        let (elements, columns) = (shape.elements(), shape.last());
        let matrix = graph.slice(ahead, 0, *offset..offset + elements)?;
        let sides = [elements / columns, columns];
        let matrix = graph.reshape(matrix, sides)?;
        let orthogonal = orthogonal(graph, matrix, sides)?;
        let scale = 0.2 * (sides[0].max(sides[1]) as f64).sqrt();
        directions.push(graph.pointwise("muon_scaled", input(0) * scale, &[orthogonal])?);
        offsets.push(*offset);
    }
    let elements = graph.shape(ahead).elements();
    let direction = graph.pack(&directions, offsets, elements)?;
    let moved = input(0) * (-(input(2) * input(3)) + 1.0) - input(2) * input(1);
    let others = [direction, step.learning_rate, step.weight_decay];
    let new = step.update(graph, "muon", step.parameters, moved, &others)?;
    Ok(vec![new, mean])
}

/// About U Vᵀ, where the matrix is U S Vᵀ.
fn orthogonal(graph: &mut Graph, matrix: Value, [rows, columns]: [usize; 2]) -> Result<Value, GraphError> {
    let input = Expr::Input;
    let [a, b, c] = COEFFICIENTS;
    let square = graph.squared_norms(matrix, 0)?;
    let unit = input(0) / input(1).sqrt().max(EPSILON);
    let mut x = graph.pointwise("muon_unit", unit, &[matrix, square])?;
    for _ in 0..ITERATIONS {
        // The smaller of the matrix's two products with itself: both make the same polynomial.
        let wide = rows <= columns;
        let gram = if wide { graph.matmul(x, x.t())? } else { graph.matmul(x.t(), x)? };
        let squared = graph.matmul(gram, gram)?;
        let factor = graph.pointwise("newton_schulz", input(0) * b + input(1) * c, &[gram, squared])?;
        let product = if wide { graph.matmul(factor, x)? } else { graph.matmul(x, factor)? };
        x = graph.pointwise("newton_schulz", input(0) * a + input(1), &[x, product])?;
    }
    Ok(x)
}
