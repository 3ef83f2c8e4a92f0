//! Reverse-mode differentiation: gradients are more nodes of the same graph.

use std::collections::HashMap;

use crate::{
    graph::{Backward, Graph, GraphError, Source, Value},
    tensor::{DType, Tensor, TensorType},
};

/// Appends the nodes that compute the gradient of the sum of `of` with respect to each value of `wrt`, by reverse
/// accumulation, and returns the gradients in that order.
///
/// # Errors
/// If an operation on the way has no gradient, or `of` does not depend on a value of `wrt`.
pub fn gradients(graph: &mut Graph, of: Value, wrt: &[Value]) -> Result<Vec<Value>, GraphError> {
    let needed = depends_on(graph, of, wrt);
    let TensorType { dtype, shape } = graph.ty(of).clone();
    let ones = Tensor::f32(shape.clone(), vec![1.0; shape.elements()]);
    let seed = graph.constant(if dtype == DType::F16 { ones.to_f16() } else { ones });
    let mut grads: HashMap<Value, Value> = HashMap::from([(of, seed)]);

    for at in (0..=of.node).rev() {
        let node = graph.nodes()[at].clone();
        let Source::Op(op) = &node.source else { continue };
        if !node.inputs.iter().any(|v| needed[v.node]) {
            continue;
        }
        let outputs: Vec<Value> = (0..node.types.len()).map(|output| Value { node: at, output }).collect();
        let arriving: Vec<Option<Value>> = outputs.iter().map(|v| grads.get(v).copied()).collect();
        if arriving.iter().all(Option::is_none) {
            continue;
        }
        graph.at_scope_of(at, |graph| {
            let backward = &mut Backward { graph, inputs: &node.inputs, outputs: &outputs, grads: &arriving };
            let result = op.gradient(backward)?;
            for (input, grad) in node.inputs.iter().zip(result) {
                if let Some(grad) = grad.filter(|_| needed[input.node]) {
                    let sum = match grads.get(input) {
                        Some(&other) => graph.add(other, grad)?,
                        None => grad,
                    };
                    grads.insert(*input, sum);
                }
            }
            Ok(())
        })?;
    }

    wrt.iter()
        .map(|value| {
            grads
                .get(value)
                .copied()
                .ok_or_else(|| GraphError::Unreachable { layer: graph.node(*value).scope.to_string() })
        })
        .collect()
}

/// For each node, whether it is one of `wrt` or computed from one, up to `of`.
fn depends_on(graph: &Graph, of: Value, wrt: &[Value]) -> Vec<bool> {
    let mut depends = vec![false; graph.nodes().len()];
    for value in wrt {
        depends[value.node] = true;
    }
    for at in 0..=of.node {
        depends[at] |= graph.nodes()[at].inputs.iter().any(|v| depends[v.node]);
    }
    depends
}
