//! Preparation: what a CPU kernel rearranges of an input that stays the same from run to run, such as the weight of a convolution,
//! becomes a node of its own, which hoisting moves out of what each run repeats.

use super::hoisting;
use crate::{
    graph::{Source, Value},
    plan::ir::{Ir, Node},
};

pub(super) fn run(ir: &mut Ir) {
    let fixed = hoisting::fixed(ir);
    let mut nodes: Vec<Node> = Vec::with_capacity(ir.nodes.len());
    let mut place = Vec::with_capacity(ir.nodes.len());
    for (at, mut node) in std::mem::take(&mut ir.nodes).into_iter().enumerate() {
        let was: Vec<usize> = node.inputs.iter().map(|input| input.node).collect();
        node.inputs.iter_mut().for_each(|input| input.node = place[input.node]);
        if let Source::Op(op) = &node.source
            && !fixed[at]
        {
            let types: Vec<_> = node.inputs.iter().map(|value| &nodes[value.node].types[value.output]).collect();
            if let Some(prepared) = op.cpu_prepared(&types).filter(|prepared| fixed[was[prepared.input]])
                && let Ok(made) = prepared.by.infer(&[types[prepared.input]])
            {
                let by = Node {
                    source: Source::Op(prepared.by),
                    inputs: vec![node.inputs[prepared.input]],
                    types: made,
                    layer: node.layer.clone(),
                    epilogue: String::new(),
                };
                node.inputs[prepared.input] = Value { node: nodes.len(), output: 0 };
                node.source = Source::Op(prepared.op);
                nodes.push(by);
            }
        }
        place.push(nodes.len());
        nodes.push(node);
    }
    ir.nodes = nodes;
    let results = ir.outputs.iter_mut().map(|(_, value)| value).chain(ir.assigns.iter_mut().map(|(_, value)| value));
    results.for_each(|value| value.node = place[value.node]);
}

#[cfg(test)]
mod tests {
    use crate::{
        check,
        graph::Graph,
        ops::Conv2dOptions,
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    #[test]
    fn a_weight_that_stays_is_packed_once() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([1, 9, 9, 16]));
        let weight = graph.constant(check::random([3, 3, 16, 32], 1));
        let y = graph.conv2d(x, weight, &Conv2dOptions::default()).unwrap();
        let y = graph.relu(y).unwrap();
        // One that does not stay is packed in each run.
        let other = graph.feed("w", TensorType::f32([1, 1, 32, 32]));
        let y = graph.conv2d(y, other, &Conv2dOptions::default()).unwrap();
        graph.output("y", y);
        let steps = |options| {
            let plan = Plan::new(&graph, &Target::Cpu, options).unwrap();
            (plan.prepared, plan.steps.iter().map(Step::description).collect::<Vec<_>>())
        };
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(steps(PlanOptions::inference()), (1, named(&["pack_weight", "conv2d+relu", "conv2d"])));
        assert_eq!(steps(PlanOptions::default()), (0, named(&["conv2d+relu", "conv2d"])));
    }
}
