//! Common subexpressions: nodes of equal operations, attributes and inputs compute the same, so the first serves all.

use std::collections::HashMap;

use crate::{
    graph::{DynOp, Source, Value, VariableId},
    plan::ir::{Ir, Node},
    tensor::{TensorData, TensorType},
};

/// Elements of a constant up to which it is compared by its content; larger ones are equal where they are the same.
const SMALL: usize = 64;

/// What a node computes: nodes of equal expressions are interchangeable.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Expression {
    Feed(String, TensorType),
    Variable(VariableId, usize, TensorType),
    Constant(TensorType, Vec<u32>),
    Large(usize),
    /// Name, attributes and inputs.
    Op(String, String, Vec<Value>),
}

impl Expression {
    pub fn of(node: &Node) -> Self {
        match &node.source {
            Source::Feed(name) => Self::Feed(name.clone(), node.types[0].clone()),
            Source::Variable { id, offset } => Self::Variable(*id, *offset, node.types[0].clone()),
            Source::Constant(tensor) if tensor.ty().elements() <= SMALL => {
                let bits = match tensor.data() {
                    TensorData::F32(values) => values.iter().map(|value| value.to_bits()).collect(),
                    TensorData::U32(values) => values.clone(),
                    TensorData::U8(values) => values.iter().map(|value| u32::from(*value)).collect(),
                    TensorData::F16(values) => values.iter().map(|value| value.to_bits().into()).collect(),
                    TensorData::I8(values) => values.iter().map(|value| u32::from(*value as u8)).collect(),
                };
                Self::Constant(tensor.ty(), bits)
            }
            Source::Constant(tensor) => Self::Large(std::sync::Arc::as_ptr(tensor).addr()),
            Source::Op(op) => Self::of_op(&**op, &node.inputs),
        }
    }

    pub fn of_op(op: &dyn DynOp, inputs: &[Value]) -> Self {
        Self::Op(op.name().to_string(), op.attributes().to_string(), inputs.to_vec())
    }
}

pub(super) fn run(ir: &mut Ir) {
    let mut first: HashMap<Expression, usize> = HashMap::new();
    let mut same: Vec<usize> = Vec::with_capacity(ir.nodes.len());
    for (at, node) in ir.nodes.iter_mut().enumerate() {
        node.inputs.iter_mut().for_each(|input| input.node = same[input.node]);
        same.push(*first.entry(Expression::of(node)).or_insert(at));
    }
    ir.reads().for_each(|value| value.node = same[value.node]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Graph,
        plan::{Plan, PlanOptions, Step, Target, passes::dead_code},
        tensor::Tensor,
    };

    fn operations(build: impl Fn(&mut Graph, Value) -> Vec<Value>) -> Vec<String> {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4, 4]));
        for (at, value) in build(&mut graph, x).into_iter().enumerate() {
            graph.output(format!("y{at}"), value);
        }
        let mut ir = Ir::new(&graph);
        run(&mut ir);
        dead_code::run(&mut ir);
        ir.nodes.iter().filter_map(Node::description).collect()
    }

    #[test]
    fn equal_chains_are_computed_once() {
        let chain = |graph: &mut Graph, x: Value| {
            let y = graph.softmax(x).unwrap();
            let zero = graph.constant(Tensor::scalar(0.5));
            graph.add(y, zero).unwrap()
        };
        assert_eq!(operations(|graph, x| vec![chain(graph, x), chain(graph, x)]), ["softmax", "add"]);
    }

    #[test]
    fn attributes_and_constants_tell_operations_apart() {
        let factors = operations(|graph, x| vec![graph.scale(x, 2.0).unwrap(), graph.scale(x, 3.0).unwrap()]);
        assert_eq!(factors, ["scale", "scale"]);
        // A sum with -0 keeps the sign that a sum with 0 loses.
        let zeros = operations(|graph, x| {
            [0.0, -0.0].map(|zero| graph.constant(Tensor::scalar(zero))).map(|zero| graph.add(x, zero).unwrap()).into()
        });
        assert_eq!(zeros, ["add", "add"]);
        let factors = operations(|graph, x| vec![graph.scale(x, 0.0).unwrap(), graph.scale(x, -0.0).unwrap()]);
        assert_eq!(factors, ["scale", "scale"]);
    }

    #[test]
    fn a_training_graph_s_sum_of_weights_is_one() {
        let mut graph = Graph::new();
        let [losses, weights] = ["losses", "weights"].map(|name| graph.feed(name, TensorType::f32([100])));
        let mean = graph.weighted_mean(losses, weights).unwrap();
        let weight = graph.sum(weights, &[0]).unwrap();
        graph.output("mean", mean);
        graph.output("weight", weight);
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
        let steps: Vec<String> = plan.steps.iter().map(Step::description).collect();
        assert_eq!(steps, ["multiply+sum", "sum", "divide_positive"]);
    }
}
