//! Subsumption: where a later operation makes the value of an earlier one beside its own, as the gradient of a loss makes
//! the loss, it runs in the place of the earlier one, which is left out.

use super::common_subexpressions::Expression;
use crate::{
    graph::{Subsumed, Value},
    plan::ir::{Ir, Uses},
};

pub(super) fn run(ir: &mut Ir) {
    let mut at = 0;
    while at < ir.nodes.len() {
        // This node has moved then: another one is here.
        if !subsume(ir, at) {
            at += 1;
        }
    }
}

/// Puts node `at` in the place of an earlier one whose value it makes as well; false where there is none.
fn subsume(ir: &mut Ir, at: usize) -> bool {
    let parts = ir.nodes[at].op().map_or_else(Vec::new, |op| op.subsumes());
    if parts.is_empty() {
        return false;
    }
    let uses = Uses::count(ir);
    for Subsumed { output, op, inputs } in parts {
        let part = Expression::of_op(&*op, &ir.nodes[at].inputs[..inputs]);
        let is_part = |earlier: &usize| uses.is_live(*earlier) && Expression::of(&ir.nodes[*earlier]) == part;
        let Some(earlier) = (0..at).find(is_part).filter(|_| uses.is_live(at)) else { continue };
        let Some(order) = order(ir, earlier, at) else { continue };
        let (value, again) = (Value { node: earlier, output: 0 }, Value { node: at, output });
        ir.reads().filter(|read| **read == value).for_each(|read| *read = again);
        ir.reorder(&order);
        return true;
    }
    false
}

/// The order of nodes in which `later`, and before it what it depends on, comes right before `earlier`; `None` where
/// `later` depends on `earlier`.
fn order(ir: &Ir, earlier: usize, later: usize) -> Option<Vec<usize>> {
    let mut needed = vec![false; later + 1];
    needed[later] = true;
    for at in (earlier..=later).rev() {
        if needed[at] {
            ir.nodes[at].inputs.iter().for_each(|input| needed[input.node] = true);
        }
    }
    if needed[earlier] {
        return None;
    }
    let (first, rest): (Vec<usize>, Vec<usize>) =
        (earlier..ir.nodes.len()).partition(|at| needed.get(*at).is_some_and(|needed| *needed));
    Some((0..earlier).chain(first).chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use crate::{
        autodiff,
        graph::{Graph, GraphError, Value},
        ops::{Argmax, Padding, WindowOptions},
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

    #[test]
    fn a_pooling_is_subsumed_by_the_one_that_keeps_positions_for_the_gradient() {
        let mut graph = Graph::new();
        let images = graph.feed("images", TensorType::f32([2, 4, 4, 3]));
        let options =
            WindowOptions { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: Padding::Valid, ceil: false };
        let y = graph.max_pool2d(images, &options, Argmax::Dropped).unwrap();
        let loss = graph.sum(y, &[0, 1, 2, 3]).unwrap();
        graph.output("loss", loss);
        let gradients = autodiff::gradients(&mut graph, loss, &[images]).unwrap();
        graph.output("gradient", gradients[0]);
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
        assert_eq!(plan.steps.iter().filter(|step| step.name() == "max_pool2d").count(), 1);
    }
}
