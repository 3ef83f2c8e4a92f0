//! Hoisting: what depends on variables and constants alone moves before all else, out of what each run repeats, as the
//! scale and shift of a batch norm in inference.

use crate::{graph::Source, plan::ir::Ir};

/// Of each node whether it is the same from run to run.
pub(super) fn fixed(ir: &Ir) -> Vec<bool> {
    let mut fixed = vec![false; ir.nodes.len()];
    // Where a run changes variables, all that depends on them changes with it.
    for (at, node) in ir.nodes.iter().enumerate().filter(|_| ir.assigns.is_empty()) {
        fixed[at] = match &node.source {
            Source::Variable { .. } | Source::Constant(_) => true,
            Source::Feed(_) => false,
            Source::Op(op) => op.packs().is_none() && node.inputs.iter().all(|input| fixed[input.node]),
        };
    }
    fixed
}

pub(super) fn run(ir: &mut Ir) {
    let fixed = fixed(ir);
    let (first, rest): (Vec<usize>, Vec<usize>) = (0..ir.nodes.len()).partition(|at| fixed[*at]);
    ir.prepared = first.len();
    ir.reorder(&[first, rest].concat());
}

#[cfg(test)]
mod tests {
    use crate::{
        graph::{Graph, VariableId},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    fn prepared(assign: bool) -> (usize, Vec<String>) {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4]));
        let y = graph.tanh(x).unwrap();
        let weight = graph.variable(VariableId(0), 0, TensorType::f32([4]));
        let root = graph.sigmoid(weight).unwrap();
        let sum = graph.sum(root, &[0]).unwrap();
        let y = graph.softmax(y).unwrap();
        let y = graph.add(y, sum).unwrap();
        graph.output("y", y);
        if assign {
            graph.assign(VariableId(0), y);
        }
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::inference()).unwrap();
        (plan.prepared, plan.steps.iter().map(Step::description).collect())
    }

    #[test]
    fn what_depends_on_variables_alone_comes_first() {
        assert_eq!(prepared(false), (1, ["sigmoid+sum", "tanh", "softmax", "add"].map(String::from).to_vec()));
    }

    #[test]
    fn nothing_is_hoisted_where_variables_change() {
        assert_eq!(prepared(true).0, 0);
    }
}
