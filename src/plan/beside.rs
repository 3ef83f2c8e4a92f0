//! Statistics beside what they are of: where an operation can make the statistics of its output's channels while it has
//! them in registers, as batch norm wants them of a convolution's, it takes the operation that would read them again in.

use super::{fuse::Uses, recompute::Rewritten};
use crate::graph::{Source, Value};

/// Rewrites the graph so that each operation that makes statistics runs in one with what it measures, where that can be.
pub(super) fn make_statistics_beside(graph: &mut Rewritten) {
    let uses = Uses::count(&graph.nodes, graph.roots());
    for at in (0..graph.nodes.len()).filter(|at| uses.is_live(*at)) {
        let Source::Op(op) = &graph.nodes[at].source else { continue };
        let Some(statistics) = op.channel_statistics() else { continue };
        let measured = graph.nodes[at].inputs[0];
        let producer = &graph.nodes[measured.node];
        let Source::Op(op) = &producer.source else { continue };
        let is_read_before = graph.nodes[..at].iter().any(|node| node.inputs.contains(&measured));
        if producer.types.len() != 1 || is_read_before {
            continue;
        }
        let Some(both) = op.with_statistics(statistics) else { continue };
        let (scope, inputs, types) = (producer.scope.clone(), producer.inputs.clone(), producer.types.clone());
        let node = &mut graph.nodes[at];
        node.source = Source::Op(both);
        node.scope = scope;
        node.inputs = inputs.into_iter().chain(node.inputs.drain(1..)).collect();
        node.types = types.into_iter().chain(node.types.drain(..)).collect();
        for read in graph.reads() {
            if *read == measured {
                *read = Value { node: at, output: 0 };
            } else if read.node == at {
                read.output += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        check,
        graph::{Graph, GraphError, Value},
        ops::{Conv2dOptions, Padding},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::Tensor,
    };

    /// A convolution, its norm, and the running statistics' share of it.
    fn norm(graph: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
        let x = graph.conv2d(v[0], v[1], &Conv2dOptions::default().padding(Padding::Same))?;
        let norm = graph.batch_norm_train(x, v[2], v[3], 1e-5)?;
        let y = graph.add(norm.y, norm.mean)?;
        graph.add(y, norm.variance)
    }

    fn inputs([images, weight]: [&[usize]; 2]) -> [Tensor; 4] {
        let channels = weight[3];
        [check::random(images, 1), check::random(weight, 2), check::random([channels], 3), check::random([channels], 4)]
    }

    #[test]
    fn a_norm_s_statistics_are_made_by_the_convolution() {
        let mut graph = Graph::new();
        let values = inputs([&[2, 4, 4, 3], &[3, 3, 3, 8]]).map(|tensor| graph.constant(tensor));
        let y = norm(&mut graph, &values).unwrap();
        graph.output("y", y);
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
        let steps: Vec<String> = plan.steps.iter().map(Step::description).collect();
        assert_eq!(steps, ["conv2d+batch_norm_statistics", "batch_norm+add+add"]);
    }

    #[test]
    fn what_is_read_before_its_statistics_keeps_its_place() {
        let mut graph = Graph::new();
        let values = inputs([&[2, 4, 4, 3], &[1, 1, 3, 8]]).map(|tensor| graph.constant(tensor));
        let x = graph.conv2d(values[0], values[1], &Conv2dOptions::default()).unwrap();
        let sum = graph.sum(x, &[0, 1, 2]).unwrap();
        let norm = graph.batch_norm_train(x, sum, values[3], 1e-5).unwrap();
        graph.output("y", norm.y);
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
        let steps: Vec<String> = plan.steps.iter().map(Step::description).collect();
        assert_eq!(steps, ["conv2d", "sum", "batch_norm_statistics", "batch_norm"]);
    }
}
