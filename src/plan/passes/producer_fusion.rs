//! Producer fusion: a pointwise operation or a reduction computes what it alone reads, where that is pointwise, inside of
//! itself.

use super::producer::{Fused, Producer};
use crate::plan::ir::{Ir, Uses};

pub(super) fn run(ir: &mut Ir) {
    let mut uses = Uses::count(ir);
    for at in 0..ir.nodes.len() {
        while uses.is_live(at) && take_in_producer(ir, &mut uses, at) {}
    }
}

/// Takes one producer that only node `at` reads into it; false where there is none.
fn take_in_producer(ir: &mut Ir, uses: &mut Uses, at: usize) -> bool {
    for input in ir.nodes[at].inputs.clone() {
        let Some(producer) = Producer::of(ir, input.node) else { continue };
        // A mere broadcast costs nothing, so it is taken in wherever it is read.
        let readings = ir.nodes[at].inputs.iter().filter(|v| **v == input).count();
        if producer.expr.operations() > 0 && uses.of(input) > readings {
            continue;
        }
        if let Some(Fused { op, inputs }) = producer.inside(ir, at) {
            uses.rewrite(ir, at, op, inputs);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::{
        graph::Graph,
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    fn names(graph: &Graph) -> Vec<String> {
        let plan = Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap();
        plan.steps.iter().map(Step::description).collect()
    }

    #[test]
    fn a_loss_is_weighted_where_it_is_summed() {
        let mut graph = Graph::new();
        let [losses, weights] = ["losses", "weights"].map(|name| graph.feed(name, TensorType::f32([100])));
        let mean = graph.weighted_mean(losses, weights).unwrap();
        graph.output("mean", mean);
        assert_eq!(names(&graph), ["multiply+sum", "sum", "divide_positive"]);
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
