//! Rematerialisation: a pointwise value that is read early and again much later, as activations are by the backward
//! pass, is computed again for the late readers instead of being kept (Chen et al. 2016, for values that cost one pass).

use std::collections::HashMap;

use crate::{
    graph::Value,
    plan::ir::{Ir, Uses},
};

/// Nodes between two readers of a value from which on it is worth freeing its memory in between.
const LONG: usize = 8;

/// An input of at least this share of a value's size counts as large: a copy must not keep it alive.
const LARGE: usize = 8;

/// A value that is to be computed again.
struct Again {
    /// The node that makes it.
    node: usize,
    /// The first node that reads the copy, and with it all readers from there on.
    from: usize,
}

pub(super) fn run(ir: &mut Ir) {
    let mut chosen = choose(ir);
    chosen.sort_by_key(|again| (again.from, again.node));
    // The copies come behind all other nodes first, and then before their readers.
    let nodes = ir.nodes.len();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    let mut copies: HashMap<usize, usize> = HashMap::new();
    for Again { node, from } in chosen {
        let mut copy = ir.nodes[node].clone();
        copy.inputs.iter_mut().for_each(|input| input.node = copies.get(&input.node).copied().unwrap_or(input.node));
        copies.insert(node, ir.nodes.len());
        before[from].push(ir.nodes.len());
        for reader in &mut ir.nodes[from..nodes] {
            let reads = reader.inputs.iter_mut().filter(|input| input.node == node);
            reads.for_each(|input| input.node = copies[&node]);
        }
        ir.nodes.push(copy);
    }
    let order: Vec<usize> = (0..nodes).flat_map(|at| before[at].iter().copied().chain([at])).collect();
    ir.reorder(&order);
}

/// Which values to compute again: those whose large inputs are alive at the late readers anyway.
fn choose(ir: &Ir) -> Vec<Again> {
    let uses = Uses::count(ir);
    let nodes = &ir.nodes;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| uses.is_live(*at)) {
        for input in &node.inputs {
            readers[input.node].push(at);
        }
    }
    for root in ir.roots() {
        readers[root.node].push(nodes.len());
    }
    // A view of it, or its being a result, keeps the value itself.
    let keeps = |reader: &usize| nodes.get(*reader).is_none_or(|node| node.is_view());
    let mut freed = vec![false; nodes.len()];
    let mut chosen = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let all = &readers[at];
        if node.op().and_then(|op| op.pointwise()).is_none() || all.iter().any(keeps) {
            continue;
        }
        let gap = all.windows(2).max_by_key(|pair| pair[1] - pair[0]).filter(|pair| pair[1] - pair[0] > LONG);
        let Some(&[_, late]) = gap else { continue };
        let large = |input: &Value| LARGE * ir.ty(*input).elements() >= node.types[0].elements();
        let alive = |input: &Value| match nodes[input.node].op() {
            Some(_) => !freed[input.node] && readers[input.node].last().is_some_and(|&last| last >= late),
            None => true,
        };
        if node.inputs.iter().filter(|input| large(input)).all(alive) {
            freed[at] = true;
            chosen.push(Again { node: at, from: late });
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Graph, plan::ir::Node, tensor::TensorType};

    /// What is computed where `x` is scaled, then goes through so many layers, and is then read again.
    fn operations(layers: usize) -> Vec<String> {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([64, 64]));
        let scaled = graph.scale(x, 2.0).unwrap();
        let deep = (0..layers).fold(scaled, |value, _| graph.softmax(value).unwrap());
        let y = graph.add(deep, scaled).unwrap();
        graph.output("y", y);
        let mut ir = Ir::new(&graph);
        run(&mut ir);
        ir.nodes.iter().filter_map(Node::description).collect()
    }

    #[test]
    fn what_is_read_again_much_later_is_computed_again() {
        let operations = operations(9);
        assert_eq!(operations[0], "scale");
        assert_eq!(operations[10..], ["scale", "add"]);
    }

    #[test]
    fn what_is_read_again_soon_is_kept() {
        assert_eq!(operations(3), ["scale", "softmax", "softmax", "softmax", "add"]);
    }
}
