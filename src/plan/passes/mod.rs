//! The passes that rewrite a graph before steps are made of it, in order.

mod common_subexpressions;
mod consumer_fusion;
mod dead_code;
mod hoisting;
mod preparation;
mod producer;
mod producer_duplication;
mod producer_fusion;
mod rematerialisation;
mod subsumption;

use std::collections::BTreeMap;

use super::{
    PlanOptions, Target,
    ir::{Ir, Node, Uses},
};

/// A rewriting of a graph that leaves its results as they are.
struct Pass {
    name: &'static str,
    /// Whether a plan of these options for this target takes it.
    applies: fn(&PlanOptions, &Target) -> bool,
    run: fn(&mut Ir),
}

/// All passes, in the order in which they run. Fusion leaves nodes behind that nothing reads any more; what counts nodes
/// comes after these are gone.
const PASSES: [Pass; 10] = [
    Pass { name: "dead-code elimination", applies: |_, _| true, run: dead_code::run },
    Pass { name: "common subexpressions", applies: |options, _| options.fuse, run: common_subexpressions::run },
    Pass { name: "subsumption", applies: |options, _| options.fuse, run: subsumption::run },
    Pass { name: "producer fusion", applies: |options, _| options.fuse, run: producer_fusion::run },
    Pass { name: "producer duplication", applies: |options, _| options.fuse, run: producer_duplication::run },
    Pass { name: "consumer fusion", applies: |options, _| options.fuse, run: consumer_fusion::run },
    Pass { name: "dead-code elimination", applies: |options, _| options.fuse, run: dead_code::run },
    Pass { name: "rematerialisation", applies: |options, _| options.recompute, run: rematerialisation::run },
    Pass {
        name: "preparation",
        applies: |options, target| options.prepare && *target == Target::Cpu,
        run: preparation::run,
    },
    Pass { name: "hoisting", applies: |options, _| options.prepare, run: hoisting::run },
];

/// What one pass did to a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassReport {
    /// Name of the pass.
    pub name: &'static str,
    /// Nodes that are needed, before and after.
    pub nodes: [usize; 2],
    /// Bytes that these move when each reads its inputs once and writes its outputs once, before and after.
    pub bytes: [u64; 2],
    /// Operations that are gone, by name and number.
    pub removed: Vec<(String, usize)>,
    /// Operations that are new, by name and number.
    pub added: Vec<(String, usize)>,
    /// Nodes that run once and not in each run, before and after.
    pub prepared: [usize; 2],
}

/// Runs the passes that `options` ask for. `report` gets what each did.
pub(super) fn run(ir: &mut Ir, options: &PlanOptions, target: &Target, mut report: Option<&mut Vec<PassReport>>) {
    for pass in PASSES.iter().filter(|pass| (pass.applies)(options, target)) {
        let before = report.is_some().then(|| Summary::of(ir));
        (pass.run)(ir);
        if let (Some(before), Some(report)) = (before, report.as_mut()) {
            report.push(before.compare(Summary::of(ir), pass.name));
        }
    }
}

/// What a report compares.
struct Summary {
    nodes: usize,
    bytes: u64,
    operations: BTreeMap<String, usize>,
    prepared: usize,
}

impl Summary {
    fn of(ir: &Ir) -> Self {
        let uses = Uses::count(ir);
        let live = || ir.nodes.iter().enumerate().filter(|(at, _)| uses.is_live(*at)).map(|(_, node)| node);
        let mut operations = BTreeMap::new();
        live().filter_map(Node::description).for_each(|name| *operations.entry(name).or_insert(0) += 1);
        Self { nodes: live().count(), bytes: ir.bytes(), operations, prepared: ir.prepared }
    }

    fn compare(self, after: Self, name: &'static str) -> PassReport {
        let more = |here: &BTreeMap<String, usize>, there: &BTreeMap<String, usize>| {
            let surplus = |(name, count): (&String, &usize)| {
                let surplus = count.saturating_sub(there.get(name).copied().unwrap_or(0));
                (surplus > 0).then(|| (name.clone(), surplus))
            };
            here.iter().filter_map(surplus).collect()
        };
        PassReport {
            name,
            nodes: [self.nodes, after.nodes],
            bytes: [self.bytes, after.bytes],
            removed: more(&self.operations, &after.operations),
            added: more(&after.operations, &self.operations),
            prepared: [self.prepared, after.prepared],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Graph, tensor::TensorType};

    #[test]
    fn a_report_names_what_a_pass_took_and_made() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4]));
        let y = graph.tanh(x).unwrap();
        let y = graph.relu(y).unwrap();
        graph.output("y", y);
        let (mut ir, mut report) = (Ir::new(&graph), Vec::new());
        run(&mut ir, &PlanOptions::default(), &Target::Cpu, Some(&mut report));
        let fusion = report.iter().find(|pass| pass.name == "producer fusion").unwrap();
        assert_eq!((fusion.nodes, fusion.bytes), ([3, 2], [64, 32]));
        assert_eq!(fusion.removed, [("relu".to_string(), 1), ("tanh".to_string(), 1)]);
        assert_eq!(fusion.added, [("tanh+relu".to_string(), 1)]);
    }

    #[test]
    fn a_pass_runs_where_its_option_is_set() {
        let names = |options: PlanOptions| {
            let (mut ir, mut report) = (Ir::new(&Graph::new()), Vec::new());
            run(&mut ir, &options, &Target::Cpu, Some(&mut report));
            report.into_iter().map(|pass| pass.name).collect::<Vec<_>>()
        };
        assert!(names(PlanOptions::default()).contains(&"consumer fusion"));
        assert!(!names(PlanOptions { fuse: false, ..PlanOptions::default() }).contains(&"consumer fusion"));
        assert!(names(PlanOptions { recompute: true, ..PlanOptions::default() }).contains(&"rematerialisation"));
        assert!(names(PlanOptions::inference()).contains(&"hoisting"));
        assert!(names(PlanOptions::inference()).contains(&"preparation"));
    }
}
