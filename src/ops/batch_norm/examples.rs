//! Examples of batch norm, alone and with what it is fused with.

use crate::{
    graph::{Example, Graph, GraphError, Value},
    ops::{Conv2dOptions, Padding},
    tensor::{Tensor, random},
};

const EPSILON: f32 = 1e-5;

pub fn examples() -> Vec<Example> {
    let mut examples = training();
    examples.extend(with_relu(&[&[2, 30, 30, 64], &[5000, 20]]));
    examples.extend(differentiable());
    // With the mean at 1000 deviations, differences of squares would cancel.
    let shifted = random([4000, 3], 5).as_f32().unwrap_or_default().iter().map(|x| 1000.0 + x).collect();
    let shifted = [Tensor::f32([4000, 3], shifted), random([3], 2), random([3], 3)];
    examples.push(Example::new(shifted, |g, v| Ok(g.batch_norm_train(v[0], v[1], v[2], EPSILON)?.variance)));
    // Tiles past the edges of rows and channels, of whole vectors and not, and one that a processor would choose.
    for [images, weight] in [[[2, 9, 9, 4], [3, 3, 4, 36]], [[2, 9, 7, 3], [1, 1, 3, 6]], [[3, 9, 9, 8], [3, 3, 8, 68]]]
    {
        let channels = weight[3];
        let inputs = [random(images, 1), random(weight, 2), random([channels], 3), random([channels], 4)];
        examples.push(Example::new(inputs, of_a_convolution));
    }
    examples
}

fn inputs(shape: &[usize]) -> [Tensor; 3] {
    let channels = shape[shape.len() - 1];
    [random(shape, 1), random([channels], 2), random([channels], 3)]
}

fn train(g: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
    Ok(g.batch_norm_train(v[0], v[1], v[2], EPSILON)?.y)
}

/// Few channels and many, whole vectors and not, one split and several, several parts of a CPU's rows.
pub fn training() -> Vec<Example> {
    let shapes =
        [&[2, 1][..], &[3, 5], &[2, 3, 4, 7], &[4, 5, 5, 8], &[3, 70], &[2, 30, 30, 64], &[9000, 3], &[5000, 20]];
    shapes.into_iter().map(|shape| Example::new(inputs(shape), train)).collect()
}

/// What is fused in training, where few enough values lie near a kink for a finite difference.
pub fn differentiable() -> Vec<Example> {
    let mut examples = with_relu(&[&[3, 5], &[2, 3, 4, 8], &[3, 70]]);
    let shape = [2, 3, 4, 8];
    let [x, gamma, beta] = inputs(&shape);
    examples.push(Example::new([x, gamma, beta, random(shape, 4)], |g, v| {
        let norm = g.batch_norm_train(v[0], v[1], v[2], EPSILON)?;
        let sum = g.add(norm.y, v[3])?;
        g.silu(sum)
    }));
    examples.extend(inference());
    examples
}

fn with_relu(shapes: &[&[usize]]) -> Vec<Example> {
    let build = |g: &mut Graph, v: &[Value]| {
        let y = train(g, v)?;
        g.relu(y)
    };
    shapes.iter().map(|shape| Example::new(inputs(shape), build)).collect()
}

fn inference() -> Vec<Example> {
    let example = |shape: &[usize]| {
        let [x, gamma, beta] = inputs(shape);
        let channels = gamma.shape().elements();
        let variance = Tensor::f32([channels], (0..channels).map(|c| 0.5 + c as f32).collect());
        let inputs = [x, gamma, beta, random([channels], 4), variance];
        Example::new(inputs, |g, v| g.batch_norm_infer(v[0], v[1], v[2], v[3], v[4], EPSILON))
    };
    [&[1, 5][..], &[2, 3, 4, 8]].into_iter().map(example).collect()
}

/// A convolution, its norm, and the running statistics' share of it.
fn of_a_convolution(graph: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
    let x = graph.conv2d(v[0], v[1], &Conv2dOptions::default().padding(Padding::Same))?;
    let norm = graph.batch_norm_train(x, v[2], v[3], EPSILON)?;
    let y = graph.add(norm.y, norm.mean)?;
    graph.add(y, norm.variance)
}
