//! Examples of pointwise operations, alone and in chains.

use super::Pointwise;
use crate::{
    graph::{Example, Graph, GraphError, Value},
    kernel::Expr,
    tensor::{DType, Tensor, random},
};

type Build = fn(&mut Graph, &[Value]) -> Result<Value, GraphError>;

pub const ACTIVATIONS: [(&str, Build); 11] = [
    ("relu", |g, v| g.relu(v[0])),
    ("leaky_relu", |g, v| g.leaky_relu(v[0], 0.2)),
    ("relu6", |g, v| g.relu6(v[0])),
    ("sigmoid", |g, v| g.sigmoid(v[0])),
    ("tanh", |g, v| g.tanh(v[0])),
    ("silu", |g, v| g.silu(v[0])),
    ("gelu", |g, v| g.gelu(v[0])),
    ("gelu_tanh", |g, v| g.gelu_tanh(v[0])),
    ("hard_sigmoid", |g, v| g.hard_sigmoid(v[0])),
    ("hard_swish", |g, v| g.hard_swish(v[0])),
    ("scale", |g, v| g.scale(v[0], -1.5)),
];

pub const ARITHMETIC: [Build; 4] = [
    |g, v| g.add(v[0], v[1]),
    |g, v| g.subtract(v[0], v[1]),
    |g, v| g.multiply(v[0], v[1]),
    |g, v| g.divide(v[0], v[1]),
];

/// Shapes of two inputs: the same, channels in vectors and not, rows, both sides stretched, one number.
const SHAPES: [[&[usize]; 2]; 6] = [
    [&[3, 5], &[3, 5]],
    [&[2, 3, 8], &[8]],
    [&[5], &[2, 3, 5]],
    [&[4, 6], &[4, 1]],
    [&[3, 1, 4], &[5, 1]],
    [&[2, 6], &[]],
];

pub fn examples() -> Vec<Example> {
    let mut examples = differentiable();
    examples.extend(all_functions());
    examples.extend(updates());
    examples.extend(narrow());
    // More elements than one dimension of workgroups holds.
    let n = 65_536 * 256 + 3;
    let x = Tensor::f32([n], (0..n).map(|at| (at % 1000) as f32 - 500.0).collect());
    examples.push(Example::new([x], |graph, v| graph.relu(v[0])));
    examples
}

pub fn differentiable() -> Vec<Example> {
    let mut examples = Vec::new();
    for (_, build) in ACTIVATIONS {
        examples.extend([63, 64].map(|n| Example::new([spread(n, 1)], build)));
    }
    for build in ARITHMETIC {
        examples.extend(SHAPES.map(|[a, b]| Example::new([random(a, 1), random(b, 2)], build)));
    }
    // Logits, targets and weights of each class; logits far from 0 as well.
    for rows in [3, 8] {
        let logits = Tensor::f32([rows, 4], spread(4 * rows, 1).as_f32().unwrap_or_default().to_vec());
        let half = |x: &f32| f32::from(u8::from(*x > 0.0)) * 0.75;
        let targets =
            Tensor::f32([rows, 4], spread(4 * rows, 2).as_f32().unwrap_or_default().iter().map(half).collect());
        let build = move |g: &mut Graph, v: &[Value]| {
            let targets = g.constant(targets.clone());
            let weights = g.constant(Tensor::f32([4], vec![1.0, 0.5, 3.0, 20.0]));
            g.sigmoid_cross_entropy(v[0], targets, weights)
        };
        examples.push(Example::new([logits], build));
    }
    let losses = |n: usize| Tensor::f32([n], (1..=n).map(|at| 4.0 * at as f32 / n as f32).collect());
    for (n, focus) in [(7, 2.0), (8, 0.5)] {
        examples.push(Example::new([losses(n)], move |graph, v| graph.focal(v[0], focus)));
        examples.push(Example::new([losses(n), random([n], 3)], move |graph, v| {
            let share = graph.constant(Tensor::f32([n], (0..n).map(|at| at as f32 / n as f32).collect()));
            graph.mean_by_share(v[0], v[1], share)
        }));
    }
    examples.push(chain());
    examples
}

/// Every function that an expression may hold.
fn all_functions() -> [Example; 2] {
    let positive = |x: Expr| x.clone() * x + 0.5;
    let (a, b) = (Expr::Input(0), Expr::Input(1));
    let smooth = positive(a.clone()).ln() + positive(b.clone()).sqrt() * (-a.clone()).exp() + b.clone().erf();
    let bent = a.clone().max(b.clone()) - a.clone().min(0.5) + b.clone().abs() * a.clone().tanh();
    let chosen = (a.clone() - b.clone()).select(smooth, bent) * a.is_finite() / positive(b);
    let op = Pointwise::new("all", 2, chosen);
    [[4, 65], [4, 64]].map(|shape| {
        let op = op.clone();
        Example::new([random(shape, 1), random([shape[1]], 2)], move |graph, v| graph.map(op.clone(), v))
    })
}

/// Conversions, alone and in chains, and 16-bit floats in all ways of being read.
fn narrow() -> Vec<Example> {
    let cast = |dtype: DType| move |graph: &mut Graph, v: &[Value]| graph.cast(v[0], dtype);
    let mut examples = Vec::new();
    for n in [63, 64, 1] {
        let (floats, bytes) = (spread(n, 1), signed_bytes(n));
        examples.push(Example::new([floats.clone()], cast(DType::F16)));
        examples.push(Example::new([floats.to_f16()], cast(DType::F32)));
        examples.push(Example::new([beyond_bytes(n)], cast(DType::I8)));
        examples.push(Example::new([beyond_bytes(n).to_f16()], cast(DType::I8)));
        examples.push(Example::new([bytes.clone()], cast(DType::F32)));
        examples.push(Example::new([bytes], cast(DType::F16)));
        // What is rounded on the way, and stored as it was before.
        examples.push(Example::new([floats], |graph, v| {
            let half = graph.cast(v[0], DType::F16)?;
            let twice = graph.add(half, half)?;
            graph.cast(twice, DType::F32)
        }));
        examples.push(Example::new([beyond_bytes(n)], |graph, v| {
            let byte = graph.cast(v[0], DType::I8)?;
            let float = graph.cast(byte, DType::F32)?;
            graph.scale(float, 0.5)
        }));
    }
    for [a, b] in SHAPES {
        let bytes = Tensor::i8(b, (0..b.iter().product::<usize>()).map(|at| (at % 7) as i8 - 3).collect());
        examples.push(Example::new([random(a, 1), bytes], |graph, v| {
            let scale = graph.cast(v[1], DType::F32)?;
            graph.multiply(v[0], scale)
        }));
        examples.push(Example::new([random(a, 1), random(b, 2)], |graph, v| graph.multiply(v[0], v[1])).in_f16());
    }
    examples.extend(updates().map(|example| example.in_f16()));
    examples.push(chain().in_f16());
    examples
}

/// Multiples of a half up to both sides of the range of bytes: ties, and what lies beyond.
fn beyond_bytes(n: usize) -> Tensor {
    Tensor::f32([n], (0..n).map(|at| 4.5 * at as f32 - 140.0).collect())
}

fn signed_bytes(n: usize) -> Tensor {
    Tensor::i8([n], (0..n).map(|at| (5 * at) as u8 as i8).collect())
}

/// A chain with values that are used twice.
fn chain() -> Example {
    Example::new([random([2, 3, 5], 1), random([3, 1], 2), random([5], 3)], |g, v| {
        let sum = g.add(v[0], v[1])?;
        let product = g.multiply(sum, v[2])?;
        let activated = g.gelu(product)?;
        let gated = g.multiply(activated, sum)?;
        g.subtract(gated, v[0])
    })
}

/// Updates of whole vectors and of single numbers, with another input of the same shape and a scalar one.
pub fn updates() -> [Example; 2] {
    [9, 12].map(|n| {
        let inputs = [spread(n, 1), spread(n, 2), Tensor::scalar(0.25)];
        Example::new(inputs, |graph, v| graph.update("towards", towards(), v))
    })
}

/// A step from the first input towards the second, as long as the third says.
pub fn towards() -> Expr {
    Expr::Input(0) + (Expr::Input(1) - Expr::Input(0)) * Expr::Input(2)
}

/// Normal numbers over the whole range in which activations bend.
pub fn spread(n: usize, seed: u64) -> Tensor {
    Tensor::f32([n], random([n], seed).as_f32().unwrap_or_default().iter().map(|x| 3.0 * x).collect())
}
