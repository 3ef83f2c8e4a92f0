//! The planner's intermediate representation: nodes in order of execution, what each took in as its epilogue, and which
//! values are results. Passes rewrite it; lowering makes steps of it.

use std::sync::Arc;

use crate::{
    graph::{DynOp, Graph, Source, Value, VariableId},
    kernel::Signature,
    tensor::{Shape, TensorType},
};

/// A node of the graph under rewriting.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub source: Source,
    pub inputs: Vec<Value>,
    pub types: Vec<TensorType>,
    /// Path of the layer it belongs to.
    pub layer: Arc<str>,
    /// Names of the pointwise operations that it applies to its result, joined by `+`.
    pub epilogue: String,
}

impl Node {
    /// The operation, where the node is not a source of a value.
    pub fn op(&self) -> Option<&Arc<dyn DynOp>> {
        match &self.source {
            Source::Op(op) => Some(op),
            Source::Feed(_) | Source::Variable { .. } | Source::Constant(_) => None,
        }
    }

    /// Whether the node is only another name of its input's storage.
    pub fn is_view(&self) -> bool {
        self.op().is_some_and(|op| op.is_view())
    }

    /// The operation and its epilogue by name; `None` of a source.
    pub fn description(&self) -> Option<String> {
        let name = self.op()?.name();
        Some(if self.epilogue.is_empty() { name.to_string() } else { format!("{name}+{}", self.epilogue) })
    }
}

/// A graph under rewriting.
#[derive(Clone, Debug)]
pub(super) struct Ir {
    /// In order of execution: a node reads earlier ones only.
    pub nodes: Vec<Node>,
    /// How many nodes, which come first, depend on variables and constants alone and are computed once.
    pub prepared: usize,
    pub outputs: Vec<(String, Value)>,
    pub assigns: Vec<(VariableId, Value)>,
}

impl Ir {
    pub fn new(graph: &Graph) -> Self {
        let node = |node: &crate::graph::Node| Node {
            source: node.source.clone(),
            inputs: node.inputs.clone(),
            types: node.types.clone(),
            layer: node.scope.clone(),
            epilogue: String::new(),
        };
        Self {
            nodes: graph.nodes().iter().map(node).collect(),
            prepared: 0,
            outputs: graph.outputs().to_vec(),
            assigns: graph.assigns().to_vec(),
        }
    }

    /// The results: outputs, and what variables are set to.
    pub fn roots(&self) -> impl Iterator<Item = Value> {
        self.outputs.iter().map(|(_, v)| *v).chain(self.assigns.iter().map(|(_, v)| *v))
    }

    /// Every place where a value is read: by nodes, and as a result.
    pub fn reads(&mut self) -> impl Iterator<Item = &mut Value> {
        let results = self.outputs.iter_mut().map(|(_, v)| v).chain(self.assigns.iter_mut().map(|(_, v)| v));
        self.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(results)
    }

    pub fn ty(&self, value: Value) -> &TensorType {
        &self.nodes[value.node].types[value.output]
    }

    pub fn shape(&self, value: Value) -> &Shape {
        &self.ty(value).shape
    }

    /// The types that node `at` reads and makes.
    pub fn signature(&self, at: usize) -> Signature {
        let node = &self.nodes[at];
        let inputs = node.inputs.iter().map(|value| self.ty(*value).clone()).collect();
        Signature { inputs, outputs: node.types.clone() }
    }

    /// The value whose storage `value` is a view of.
    pub fn viewed(&self, mut value: Value) -> Value {
        while self.nodes[value.node].is_view() {
            value = self.nodes[value.node].inputs[0];
        }
        value
    }

    /// Puts the nodes `order` in this order, and drops all others, which nothing may read.
    pub fn reorder(&mut self, order: &[usize]) {
        let mut place = vec![usize::MAX; self.nodes.len()];
        order.iter().enumerate().for_each(|(to, from)| place[*from] = to);
        self.nodes = order.iter().map(|at| self.nodes[*at].clone()).collect();
        self.reads().for_each(|value| value.node = place[value.node]);
    }

    /// Bytes that the nodes that are needed move when each reads its inputs once and writes its outputs once.
    pub fn bytes(&self) -> u64 {
        let uses = Uses::count(self);
        let moves = |at: &usize| {
            let node = &self.nodes[*at];
            uses.is_live(*at) && node.op().is_some_and(|op| !op.is_view() && op.packs().is_none())
        };
        (0..self.nodes.len()).filter(moves).map(|at| self.signature(at).bytes()).sum()
    }
}

/// How often each value is read.
pub(super) struct Uses(Vec<Vec<usize>>);

impl Uses {
    /// Counts the readers among the nodes that the results depend on, and the results.
    pub fn count(ir: &Ir) -> Self {
        let mut uses = Self(ir.nodes.iter().map(|node| vec![0; node.types.len()]).collect());
        ir.roots().for_each(|root| uses.0[root.node][root.output] += 1);
        for at in (0..ir.nodes.len()).rev() {
            if uses.is_live(at) {
                ir.nodes[at].inputs.iter().for_each(|input| uses.0[input.node][input.output] += 1);
            }
        }
        uses
    }

    /// Whether anything reads an output of node `at`.
    pub fn is_live(&self, at: usize) -> bool {
        self.0[at].iter().any(|count| *count > 0)
    }

    /// How often `value` is read.
    pub fn of(&self, value: Value) -> usize {
        self.0[value.node][value.output]
    }

    /// The nodes that are needed and read `value`.
    pub fn readers(&self, ir: &Ir, value: Value) -> Vec<usize> {
        let reads = |at: &usize| self.is_live(*at) && ir.nodes[*at].inputs.contains(&value);
        (value.node + 1..ir.nodes.len()).filter(reads).collect()
    }

    /// Replaces the operation of node `at` and what it reads.
    pub fn rewrite(&mut self, ir: &mut Ir, at: usize, op: Arc<dyn DynOp>, inputs: Vec<Value>) {
        ir.nodes[at].source = Source::Op(op);
        inputs.iter().for_each(|input| self.0[input.node][input.output] += 1);
        for input in std::mem::replace(&mut ir.nodes[at].inputs, inputs) {
            self.release(ir, input);
        }
    }

    fn release(&mut self, ir: &Ir, value: Value) {
        self.0[value.node][value.output] -= 1;
        if !self.is_live(value.node) {
            ir.nodes[value.node].inputs.iter().for_each(|input| self.release(ir, *input));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tanh(x)`, which is read twice, and a value that nothing reads.
    fn example() -> Ir {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([2, 4]));
        let y = graph.tanh(x).unwrap();
        graph.relu(x).unwrap();
        let flat = graph.flatten(y).unwrap();
        let flat = graph.reshape(flat, [8]).unwrap();
        graph.output("y", y);
        graph.output("flat", flat);
        Ir::new(&graph)
    }

    #[test]
    fn readers_and_views() {
        let ir = example();
        let uses = Uses::count(&ir);
        let y = Value { node: 1, output: 0 };
        assert_eq!((uses.of(y), uses.readers(&ir, y)), (2, vec![3]));
        assert!(!uses.is_live(2));
        assert_eq!(ir.viewed(ir.outputs[1].1), y);
    }

    #[test]
    fn a_node_that_loses_its_last_reader_releases_what_it_reads() {
        let mut ir = example();
        ir.outputs.remove(0);
        let mut uses = Uses::count(&ir);
        let (x, y) = (Value { node: 0, output: 0 }, Value { node: 1, output: 0 });
        assert_eq!(uses.of(y), 1);
        let op = ir.nodes[3].op().unwrap().clone();
        uses.rewrite(&mut ir, 3, op, vec![x]);
        assert_eq!((uses.of(x), uses.of(y)), (1, 0));
    }

    #[test]
    fn reads_follow_the_nodes() {
        let mut ir = example();
        ir.reorder(&[0, 1, 3]);
        let names: Vec<_> = ir.nodes.iter().filter_map(Node::description).collect();
        assert_eq!(names, ["tanh", "reshape"]);
        assert_eq!(ir.outputs[1].1, Value { node: 2, output: 0 });
    }
}
