//! Examples of the optimizers' steps and of the gradients' norm.

use super::Optimizer;
use crate::{
    graph::{Example, Graph, GraphError, Value},
    tensor::{Shape, Tensor, random},
};

pub fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for optimizer in optimizers() {
        // Each shape of a product is checked with each of its kernels: few of them, and what guards is as in LAMB.
        let multiplies = matches!(optimizer, Optimizer::Muon { .. });
        let sizes: &[usize] = if multiplies { &[1, 1500] } else { &[1, 1027, 40_000] };
        for &elements in sizes {
            let hyper = optimizer.hyper(0.1, 0.01, 3, Some(0.5));
            examples.push(Example::new(inputs(&optimizer, elements, hyper, 0.7, 0.0), step(optimizer)));
        }
        for guard in [1.0, f32::NAN, f32::INFINITY].into_iter().filter(|_| !multiplies) {
            let hyper = optimizer.hyper(0.1, 0.01, 3, None);
            examples.push(Example::new(inputs(&optimizer, 100, hyper, 1.0, guard), step(optimizer)));
        }
    }
    examples.extend(norms().into_iter().map(|(example, _)| example));
    examples
}

pub fn optimizers() -> Vec<Optimizer> {
    let (beta1, beta2, epsilon) = (0.8, 0.99, 1e-3);
    vec![
        Optimizer::Sgd { momentum: 0.0, nesterov: false },
        Optimizer::Sgd { momentum: 0.9, nesterov: false },
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::Adam { beta1, beta2, epsilon },
        Optimizer::AdamW { beta1, beta2, epsilon },
        Optimizer::RmsProp { rho: 0.95, epsilon, momentum: 0.0 },
        Optimizer::RmsProp { rho: 0.95, epsilon, momentum: 0.9 },
        Optimizer::Lion { beta1, beta2 },
        Optimizer::Lamb { beta1, beta2, epsilon },
        Optimizer::Muon { momentum: 0.9, beta1, beta2, epsilon },
    ]
}

/// Parameters, gradients, hyper, scale, guard and then the moments.
pub fn inputs(optimizer: &Optimizer, elements: usize, hyper: [f32; 8], scale: f32, guard: f32) -> Vec<Tensor> {
    let positive =
        |tensor: Tensor| Tensor::f32([elements], tensor.as_f32().unwrap_or_default().iter().map(|v| v.abs()).collect());
    let mut inputs = vec![
        random([elements], 1),
        random([elements], 2),
        Tensor::f32([8], hyper.to_vec()),
        Tensor::scalar(scale),
        Tensor::scalar(guard),
    ];
    inputs.extend((0..optimizer.moments()).map(|at| positive(random([elements], 3 + at as u64))));
    inputs
}

/// The new parameters and moments, one after the other.
pub fn step(optimizer: Optimizer) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> + Copy {
    move |graph, v| {
        let [parameters, gradients, hyper, scale, guard] = [v[0], v[1], v[2], v[3], v[4]];
        let tensors = tensors(graph.shape(parameters).elements());
        let new = graph.optimizer_step(&optimizer, parameters, &v[5..], gradients, hyper, scale, guard, &tensors)?;
        graph.concat(&new, 0)
    }
}

/// Offset and shape of the parameters of a block of so many elements: of a large one three, after the first of which a few
/// elements are of none.
pub fn tensors(elements: usize) -> Vec<(usize, Shape)> {
    const REST: usize = 1408;
    let shapes: [(usize, &[usize]); 3] =
        [(0, &[3, 3, 4, 20]), (768, &[16, 40]), (REST, &[elements.saturating_sub(REST)])];
    let shapes = shapes.iter().map(|(offset, shape)| (*offset, Shape::from(*shape)));
    if elements > REST { shapes.collect() } else { vec![(0, Shape::from([elements]))] }
}

/// Blocks of gradients whose norm is brought down to half of itself, or to twice: each with the scale that it takes.
pub fn norms() -> Vec<(Example, f64)> {
    let mut norms = Vec::new();
    for blocks in [vec![1], vec![1027], vec![100_003, 8], vec![400_000, 30, 5000]] {
        let gradients: Vec<Tensor> = (0..).zip(&blocks).map(|(at, n)| random([*n], 4 + at)).collect();
        let elements = gradients.iter().flat_map(|block| block.as_f32().unwrap_or_default());
        let norm = elements.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for max_norm in [0.5 * norm, 2.0 * norm] {
            let example = Example::new(gradients.clone(), move |graph, v| graph.global_norm_scale(v, max_norm));
            norms.push((example, (max_norm / (norm + 1e-6)).min(1.0)));
        }
    }
    norms
}
