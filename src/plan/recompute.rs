//! Recomputation: a pointwise value that is read early and again much later, as activations are by the backward pass,
//! is computed again for the late readers instead of being kept (Chen et al. 2016, for values that cost one pass).

use std::collections::HashMap;

use crate::graph::{Node, Source, Value, VariableId};

use super::fuse::Uses;

/// Nodes between two readers of a value from which on it is worth freeing its memory in between.
const LONG: usize = 8;

/// An input of at least this share of a value's size counts as large: a copy must not keep it alive.
const LARGE: usize = 8;

/// A graph under rewriting: its nodes in order of execution and what its results are.
#[derive(Clone)]
pub(super) struct Rewritten {
    pub nodes: Vec<Node>,
    /// For each node, the names of the operations that its epilogue computes.
    pub epilogues: Vec<String>,
    pub outputs: Vec<(String, Value)>,
    pub assigns: Vec<(VariableId, Value)>,
}

impl Rewritten {
    pub fn roots(&self) -> impl Iterator<Item = Value> {
        self.outputs.iter().map(|(_, v)| *v).chain(self.assigns.iter().map(|(_, v)| *v))
    }

    /// Every place where a value is read: by nodes, and as results.
    pub fn reads(&mut self) -> impl Iterator<Item = &mut Value> {
        let results = self.outputs.iter_mut().map(|(_, v)| v).chain(self.assigns.iter_mut().map(|(_, v)| v));
        self.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(results)
    }
}

/// A value that is to be computed again.
struct Again {
    /// The node that makes it.
    node: usize,
    /// The first node that reads the copy, and with it all readers from there on.
    from: usize,
}

/// Puts copies of pointwise nodes before their late readers.
pub(super) fn recompute(graph: &mut Rewritten, uses: &Uses) {
    let chosen = choose(graph, uses);
    let mut before: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut first_late: HashMap<usize, usize> = HashMap::new();
    for Again { node, from } in chosen {
        before.entry(from).or_default().push(node);
        first_late.insert(node, from);
    }

    let mut nodes = Vec::with_capacity(graph.nodes.len() + first_late.len());
    let mut epilogues = Vec::with_capacity(nodes.capacity());
    let mut moved = vec![0; graph.nodes.len()];
    let mut copies: HashMap<usize, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let place = |value: &Value, copies: &HashMap<usize, usize>, moved: &[usize]| Value {
            node: copies.get(&value.node).copied().unwrap_or(moved[value.node]),
            output: value.output,
        };
        for again in before.remove(&at).unwrap_or_default() {
            let mut copy = graph.nodes[again].clone();
            copy.inputs = copy.inputs.iter().map(|value| place(value, &copies, &moved)).collect();
            nodes.push(copy);
            epilogues.push(graph.epilogues[again].clone());
            copies.insert(again, nodes.len() - 1);
        }
        let mut node = node.clone();
        node.inputs = node.inputs.iter().map(|value| place(value, &copies, &moved)).collect();
        nodes.push(node);
        epilogues.push(graph.epilogues[at].clone());
        moved[at] = nodes.len() - 1;
    }
    let results = graph.outputs.iter_mut().map(|(_, v)| v).chain(graph.assigns.iter_mut().map(|(_, v)| v));
    results.for_each(|value| value.node = moved[value.node]);
    graph.nodes = nodes;
    graph.epilogues = epilogues;
}

/// Which values to compute again: those whose large inputs are alive at the late readers anyway.
fn choose(graph: &Rewritten, uses: &Uses) -> Vec<Again> {
    let nodes = &graph.nodes;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| uses.is_live(*at)) {
        for input in &node.inputs {
            readers[input.node].push(at);
        }
    }
    for root in graph.roots() {
        readers[root.node].push(nodes.len());
    }
    let view = |at: usize| matches!(nodes.get(at).map(|n| &n.source), Some(Source::Op(op)) if op.is_view());
    let mut freed = vec![false; nodes.len()];
    let mut chosen = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let Source::Op(op) = &node.source else { continue };
        let all = &readers[at];
        // A view of it, or its being a result, keeps the value itself.
        if op.pointwise().is_none() || all.iter().any(|&reader| reader == nodes.len() || view(reader)) {
            continue;
        }
        let gap = all.windows(2).max_by_key(|pair| pair[1] - pair[0]).filter(|pair| pair[1] - pair[0] > LONG);
        let Some(&[_, late]) = gap else { continue };
        let large =
            |input: &Value| LARGE * nodes[input.node].types[input.output].elements() >= node.types[0].elements();
        let alive = |input: &Value| match nodes[input.node].source {
            Source::Op(_) => !freed[input.node] && readers[input.node].last().is_some_and(|&last| last >= late),
            _ => true,
        };
        if node.inputs.iter().filter(|input| large(input)).all(alive) {
            freed[at] = true;
            chosen.push(Again { node: at, from: late });
        }
    }
    chosen
}
