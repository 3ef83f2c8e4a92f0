//! Consumer fusion: an operation takes in one that reads its output: the pointwise operation that alone reads it as its
//! epilogue, and what measures it, as a batch norm's statistics measure a convolution.

use super::producer::Producer;
use crate::{
    graph::{Reader, Source, Value},
    kernel::{Expr, gpu::MAX_BINDINGS},
    plan::ir::{Ir, Uses},
    tensor::DType,
};

pub(super) fn run(ir: &mut Ir) {
    let mut uses = Uses::count(ir);
    for at in 0..ir.nodes.len() {
        while uses.is_live(at) && become_epilogue(ir, &mut uses, at) {}
        if uses.is_live(at) && join(ir, &uses, at) {
            uses = Uses::count(ir);
        }
    }
}

/// Turns the pointwise node `at` into the epilogue of an operation that only it reads; false where none takes it.
fn become_epilogue(ir: &mut Ir, uses: &mut Uses, at: usize) -> bool {
    // Bytes share words, and an epilogue stores its elements one by one.
    if ir.nodes[at].types[0].dtype == DType::I8 {
        return false;
    }
    let Some(Producer { name, expr, inputs, .. }) = Producer::of(ir, at) else { return false };
    for (position, input) in inputs.iter().enumerate() {
        let producer = &ir.nodes[input.node];
        let Some(op) = producer.op() else { continue };
        if producer.types.len() != 1 || producer.types[0].shape != ir.nodes[at].types[0].shape || uses.of(*input) != 1 {
            continue;
        }
        let others: Vec<usize> = (0..inputs.len()).filter(|n| *n != position && expr.uses(*n) > 0).collect();
        if producer.inputs.len() + others.len() + 1 > MAX_BINDINGS {
            continue;
        }
        let epilogue = expr.substitute(&mut |n| {
            Expr::Input(if n == position { 0 } else { 1 + others.iter().position(|o| *o == n).unwrap_or(0) })
        });
        let Some(fused) = op.absorb(Reader::Pointwise(&epilogue)) else { continue };
        let merged = producer.inputs.iter().copied().chain(others.iter().map(|n| inputs[*n])).collect();
        let before = &producer.epilogue;
        ir.nodes[at].epilogue = if before.is_empty() { name } else { format!("{before}+{name}") };
        uses.rewrite(ir, at, fused, merged);
        return true;
    }
    false
}

/// Makes node `at` one operation with the one that makes its first input, which it hands on as its first output; false
/// where that one does not take it.
fn join(ir: &mut Ir, uses: &Uses, at: usize) -> bool {
    let Some(reader) = ir.nodes[at].op().filter(|op| op.pointwise().is_none()) else { return false };
    let Some(&read) = ir.nodes[at].inputs.first() else { return false };
    let producer = &ir.nodes[read.node];
    let is_read_before = uses.readers(ir, read).first().is_some_and(|first| *first < at);
    let Some(op) = producer.op().filter(|_| producer.types.len() == 1 && !is_read_before) else { return false };
    let Some(joined) = op.absorb(Reader::Op(&**reader)) else { return false };

    let (layer, inputs, types) = (producer.layer.clone(), producer.inputs.clone(), producer.types.clone());
    let node = &mut ir.nodes[at];
    node.source = Source::Op(joined);
    node.layer = layer;
    node.inputs = inputs.into_iter().chain(node.inputs.drain(1..)).collect();
    node.types = types.into_iter().chain(node.types.drain(..)).collect();
    for value in ir.reads() {
        if *value == read {
            *value = Value { node: at, output: 0 };
        } else if value.node == at {
            value.output += 1;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::{
        check,
        graph::{Graph, GraphError, Value},
        ops::{Conv2dOptions, Padding},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::{Tensor, TensorType},
    };

    /// A convolution, its norm, and the running statistics' share of it.
    fn norm(graph: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
        let x = graph.conv2d(v[0], v[1], &Conv2dOptions::default().padding(Padding::Same))?;
        let norm = graph.batch_norm_train(x, v[2], v[3], 1e-5)?;
        let y = graph.add(norm.y, norm.mean)?;
        graph.add(y, norm.variance)
    }

    fn steps(graph: &Graph) -> Vec<String> {
        let plan = Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap();
        plan.steps.iter().map(Step::description).collect()
    }

    fn inputs([images, weight]: [&[usize]; 2]) -> [Tensor; 4] {
        let channels = weight[3];
        [check::random(images, 1), check::random(weight, 2), check::random([channels], 3), check::random([channels], 4)]
    }

    #[test]
    fn bias_and_activation_become_the_convolution_s_epilogue() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([1, 5, 5, 2]));
        let weight = graph.constant(check::random([3, 3, 2, 4], 1));
        let bias = graph.constant(check::random([4], 2));
        let y = graph.conv2d(x, weight, &Conv2dOptions::default()).unwrap();
        let y = graph.add(y, bias).unwrap();
        let y = graph.relu(y).unwrap();
        graph.output("y", y);
        assert_eq!(steps(&graph), ["conv2d+add+relu"]);
    }

    #[test]
    fn a_norm_s_statistics_are_made_by_the_convolution() {
        let mut graph = Graph::new();
        let values = inputs([&[2, 4, 4, 3], &[3, 3, 3, 8]]).map(|tensor| graph.constant(tensor));
        let y = norm(&mut graph, &values).unwrap();
        graph.output("y", y);
        assert_eq!(steps(&graph), ["conv2d+batch_norm_statistics", "batch_norm+add+add"]);
    }

    #[test]
    fn what_is_read_before_its_statistics_keeps_its_place() {
        let mut graph = Graph::new();
        let values = inputs([&[2, 4, 4, 3], &[1, 1, 3, 8]]).map(|tensor| graph.constant(tensor));
        let x = graph.conv2d(values[0], values[1], &Conv2dOptions::default()).unwrap();
        let sum = graph.sum(x, &[0, 1, 2]).unwrap();
        let norm = graph.batch_norm_train(x, sum, values[3], 1e-5).unwrap();
        graph.output("y", norm.y);
        assert_eq!(steps(&graph), ["conv2d", "sum", "batch_norm_statistics", "batch_norm"]);
    }
}
