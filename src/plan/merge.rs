//! Merging: where a later operation makes the value of an earlier one beside its own, as the gradient of a loss makes
//! the loss, it runs in the place of the earlier one, which is left out.

use super::{fuse::Uses, recompute::Rewritten};
use crate::graph::Value;

/// Merges the nodes of each pair of equal values, the earlier one first, where both are needed and the later one does
/// not depend on the earlier one.
pub(super) fn merge(graph: &mut Rewritten, equal: &[(Value, Value)]) {
    // Where each node of the graph has moved to.
    let mut moved: Vec<usize> = (0..graph.nodes.len()).collect();
    for (value, again) in equal {
        let [value, again] = [value, again].map(|value| Value { node: moved[value.node], ..*value });
        let Some(order) = order(graph, value.node, again.node) else { continue };
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| place[*from] = to);

        graph.nodes = order.iter().map(|at| graph.nodes[*at].clone()).collect();
        for read in graph.reads() {
            let Value { node, output } = if *read == value { again } else { *read };
            *read = Value { node: place[node], output };
        }
        moved.iter_mut().for_each(|node| *node = place[*node]);
    }
}

/// The order of nodes in which `later`, and before it what it depends on, comes right before `earlier`; `None` where one
/// of the two is not needed, or `later` depends on `earlier`.
fn order(graph: &Rewritten, earlier: usize, later: usize) -> Option<Vec<usize>> {
    let uses = Uses::count(&graph.nodes, graph.roots());
    let mut needed = vec![false; later + 1];
    needed[later] = true;
    for at in (earlier..=later).rev() {
        if needed[at] {
            graph.nodes[at].inputs.iter().for_each(|input| needed[input.node] = true);
        }
    }
    if !uses.is_live(earlier) || !uses.is_live(later) || needed[earlier] {
        return None;
    }
    let (first, rest): (Vec<usize>, Vec<usize>) =
        (earlier..graph.nodes.len()).partition(|at| needed.get(*at).is_some_and(|needed| *needed));
    Some((0..earlier).chain(first).chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use crate::{
        autodiff,
        graph::{Graph, GraphError, Value},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    /// The steps of the kernels of a loss that `reduce` makes of the losses of samples, and of its gradient if asked for.
    fn losses(gradient: bool, reduce: impl Fn(&mut Graph, Value) -> Result<Value, GraphError>) -> Vec<String> {
        let mut graph = Graph::new();
        let logits = graph.feed("logits", TensorType::f32([8, 3]));
        let labels = graph.feed("labels", TensorType::u32([8]));
        let losses = graph.softmax_cross_entropy(logits, labels, 0.0).unwrap();
        let loss = reduce(&mut graph, losses).unwrap();
        graph.output("loss", loss);
        if gradient {
            let gradients = autodiff::gradients(&mut graph, loss, &[logits]).unwrap();
            graph.output("gradient", gradients[0]);
        }
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
        plan.steps.iter().map(Step::description).filter(|name| name.contains("entropy")).collect()
    }

    #[test]
    fn a_loss_and_its_gradient_are_one_step() {
        assert_eq!(losses(true, |graph, losses| graph.mean(losses, &[0])), ["softmax_cross_entropy+grad"]);
    }

    #[test]
    fn a_loss_alone_has_no_gradient() {
        assert_eq!(losses(false, |graph, losses| graph.mean(losses, &[0])), ["softmax_cross_entropy"]);
    }

    #[test]
    fn a_gradient_that_depends_on_the_loss_follows_it() {
        let squares = |graph: &mut Graph, losses: Value| {
            let squares = graph.multiply(losses, losses)?;
            graph.mean(squares, &[0])
        };
        assert_eq!(losses(true, squares), ["softmax_cross_entropy", "softmax_cross_entropy+grad"]);
    }
}
