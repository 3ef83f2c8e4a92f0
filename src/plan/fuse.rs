//! Fusion: a pointwise operation takes in the pointwise operations that only it reads, and a convolution or matrix
//! product takes in the pointwise operation that reads it, as its epilogue.

use std::sync::Arc;

use crate::{
    graph::{Node, Source, Value},
    kernel::Expr,
    ops::Pointwise,
};

/// Storage buffers that one dispatch may bind: WebGPU's smallest limit.
const MAX_BINDINGS: usize = 8;

/// Rewrites `nodes` in place. `uses` counts the readers of each value, results of the graph included; nodes that lose
/// their last reader stay in the list and are to be skipped.
pub(super) fn fuse(nodes: &mut [Node], uses: &mut Uses) {
    for at in 0..nodes.len() {
        while uses.is_live(at) && inline_producer(nodes, uses, at) {}
    }
    // Only then, so that a whole chain becomes the epilogue: an operation takes one.
    for at in 0..nodes.len() {
        while uses.is_live(at) && become_epilogue(nodes, uses, at) {}
    }
}

/// Readers of each value.
pub(super) struct Uses {
    counts: Vec<Vec<usize>>,
}

impl Uses {
    /// Counts the readers among the nodes that `roots` depend on.
    pub fn count(nodes: &[Node], roots: impl IntoIterator<Item = Value>) -> Self {
        let mut counts: Vec<Vec<usize>> = nodes.iter().map(|n| vec![0; n.types.len()]).collect();
        for root in roots {
            counts[root.node][root.output] += 1;
        }
        for at in (0..nodes.len()).rev() {
            if counts[at].iter().any(|c| *c > 0) {
                for input in &nodes[at].inputs {
                    counts[input.node][input.output] += 1;
                }
            }
        }
        Self { counts }
    }

    /// Whether anything reads an output of node `at`.
    pub fn is_live(&self, at: usize) -> bool {
        self.counts[at].iter().any(|c| *c > 0)
    }

    fn of(&self, value: Value) -> usize {
        self.counts[value.node][value.output]
    }

    /// Replaces the inputs of node `at`.
    fn rewire(&mut self, nodes: &mut [Node], at: usize, inputs: Vec<Value>) {
        for input in &inputs {
            self.counts[input.node][input.output] += 1;
        }
        for input in std::mem::replace(&mut nodes[at].inputs, inputs) {
            self.release(nodes, input);
        }
    }

    fn release(&mut self, nodes: &[Node], value: Value) {
        self.counts[value.node][value.output] -= 1;
        if !self.is_live(value.node) {
            for input in nodes[value.node].inputs.clone() {
                self.release(nodes, input);
            }
        }
    }
}

fn expr_of(node: &Node) -> Option<Expr> {
    match &node.source {
        Source::Op(op) => op.pointwise(),
        _ => None,
    }
}

fn name_of(node: &Node) -> String {
    match &node.source {
        Source::Op(op) => op.name().to_string(),
        _ => String::new(),
    }
}

/// Takes one producer into the pointwise node `at`; false where none can be taken in.
fn inline_producer(nodes: &mut [Node], uses: &mut Uses, at: usize) -> bool {
    let Some(expr) = expr_of(&nodes[at]) else { return false };
    let inputs = nodes[at].inputs.clone();
    for (position, input) in inputs.iter().enumerate() {
        let producer = &nodes[input.node];
        let Some(inner) = expr_of(producer) else { continue };
        if producer.types[0].shape != nodes[at].types[0].shape {
            continue;
        }
        // A mere broadcast costs nothing, so it is taken in wherever it is read; anything else only where it is then
        // computed no more often than before.
        let readers: usize = inputs.iter().filter(|v| *v == input).count();
        let free = inner.operations() == 0;
        if !free && (uses.of(*input) > readers || readers * expr.uses(position) > 1) {
            continue;
        }
        let mut merged: Vec<Value> = Vec::new();
        let mut number = |value: Value| {
            let found = merged.iter().position(|v| *v == value);
            found.unwrap_or_else(|| {
                merged.push(value);
                merged.len() - 1
            })
        };
        let fused = expr.substitute(&mut |n| {
            if inputs[n] == *input {
                inner.substitute(&mut |m| Expr::Input(number(producer.inputs[m])))
            } else {
                Expr::Input(number(inputs[n]))
            }
        });
        if merged.len() + 1 > MAX_BINDINGS || merged.is_empty() {
            continue;
        }
        let name = match (name_of(producer), name_of(&nodes[at])) {
            (inner, outer) if free || inner.is_empty() => outer,
            (inner, outer) => format!("{inner}+{outer}"),
        };
        nodes[at].source = Source::Op(Arc::new(Pointwise::new(name, merged.len(), fused)));
        uses.rewire(nodes, at, merged);
        return true;
    }
    false
}

/// Turns the pointwise node `at` into the epilogue of an operation that only it reads; false where none takes it.
fn become_epilogue(nodes: &mut [Node], uses: &mut Uses, at: usize) -> bool {
    let Some(expr) = expr_of(&nodes[at]) else { return false };
    let inputs = nodes[at].inputs.clone();
    for (position, input) in inputs.iter().enumerate() {
        let producer = &nodes[input.node];
        let Source::Op(op) = &producer.source else { continue };
        if producer.types.len() != 1 || producer.types[0].shape != nodes[at].types[0].shape || uses.of(*input) != 1 {
            continue;
        }
        let others: Vec<usize> = (0..inputs.len()).filter(|n| *n != position).collect();
        if producer.inputs.len() + others.len() + 1 > MAX_BINDINGS {
            continue;
        }
        let epilogue = expr.substitute(&mut |n| {
            Expr::Input(if n == position { 0 } else { 1 + others.iter().position(|o| *o == n).unwrap_or(0) })
        });
        let Some(fused) = op.with_epilogue(&epilogue) else { continue };
        let merged = producer.inputs.iter().copied().chain(others.iter().map(|n| inputs[*n])).collect();
        nodes[at].source = Source::Op(fused);
        uses.rewire(nodes, at, merged);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::{
        check,
        graph::Graph,
        ops::Conv2dOptions,
        plan::{Plan, PlanOptions, Target},
        tensor::TensorType,
    };

    fn names(graph: &Graph) -> Vec<String> {
        let plan = Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap();
        plan.steps.iter().map(|step| step.name().to_string()).collect()
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
        assert_eq!(names(&graph).len(), 1, "{:?}", names(&graph));
    }

    #[test]
    fn what_two_operations_read_is_computed_once() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([8]));
        let shared = graph.tanh(x).unwrap();
        let a = graph.relu(shared).unwrap();
        let b = graph.scale(shared, 2.0).unwrap();
        graph.output("a", a);
        graph.output("b", b);
        assert_eq!(names(&graph), ["tanh", "relu", "scale"]);
    }
}
