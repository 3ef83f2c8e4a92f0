//! Dead-code elimination: nodes that no result depends on go.

use crate::plan::ir::{Ir, Uses};

pub(super) fn run(ir: &mut Ir) {
    let uses = Uses::count(ir);
    let live: Vec<usize> = (0..ir.nodes.len()).filter(|at| uses.is_live(*at)).collect();
    ir.reorder(&live);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Graph, plan::ir::Node, tensor::TensorType};

    #[test]
    fn what_no_result_depends_on_goes() {
        let mut graph = Graph::new();
        let [x, unused] = ["x", "unused"].map(|name| graph.feed(name, TensorType::f32([4])));
        let dead = graph.tanh(unused).unwrap();
        graph.relu(dead).unwrap();
        let y = graph.sigmoid(x).unwrap();
        graph.output("y", y);
        let mut ir = Ir::new(&graph);
        run(&mut ir);
        assert_eq!(ir.nodes.iter().map(Node::description).collect::<Vec<_>>(), [None, Some("sigmoid".to_string())]);
    }
}
