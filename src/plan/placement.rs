//! Placement: which storage each value lies in. Inputs of a packed block are computed inside of it, what is updated in
//! place takes over its input's storage, views lie where the value they show lies, and all else gets storage of its own.

use std::collections::{HashMap, HashSet};

use super::{BufferKind, ir::Ir};
use crate::{
    graph::{DynOp, Source, Value, VariableId},
    tensor::{DType, TensorType},
};

/// Memory before buffers are shared.
pub(super) struct Storage {
    pub dtype: DType,
    pub elements: usize,
    /// `None`: an arena buffer, shared by lifetime.
    pub kind: Option<BufferKind>,
    /// The layer that it was made for.
    pub layer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub storage: usize,
    pub offset: usize,
}

/// The storages of a graph, and where in them its values lie.
#[derive(Default)]
pub(super) struct Placement {
    pub storages: Vec<Storage>,
    pub places: HashMap<Value, Place>,
    variables: HashMap<VariableId, usize>,
}

/// Last node that reads each value, views of it included, and each variable.
#[derive(Default)]
struct LastReads {
    values: HashMap<Value, usize>,
    variables: HashMap<VariableId, usize>,
}

impl LastReads {
    fn of(ir: &Ir) -> Self {
        let mut last = Self::default();
        for (at, node) in ir.nodes.iter().enumerate() {
            for input in &node.inputs {
                let value = ir.viewed(*input);
                last.values.insert(value, at);
                if let Source::Variable { id, .. } = ir.nodes[value.node].source {
                    last.variables.insert(id, at);
                }
            }
        }
        for (_, value) in &ir.outputs {
            last.values.insert(ir.viewed(*value), usize::MAX);
        }
        last
    }
}

impl Placement {
    /// Places the values of `ir`; where they do not `share`, nothing is overwritten but variables.
    pub fn new(ir: &Ir, share: bool) -> Self {
        let mut placement = Self::default();
        let last = LastReads::of(ir);
        placement.pack(ir);
        for at in 0..ir.nodes.len() {
            placement.node(ir, at, share.then_some(&last));
        }
        for (id, value) in &ir.assigns {
            let ty = ir.ty(*value);
            placement.variable(*id, ty.dtype, ty.elements());
        }
        placement
    }

    /// Storage of this type for node `at`.
    pub fn add(&mut self, ir: &Ir, at: usize, ty: &TensorType, kind: Option<BufferKind>) -> Place {
        let layer = ir.nodes[at].layer.to_string();
        self.storages.push(Storage { dtype: ty.dtype, elements: ty.elements(), kind, layer });
        Place { storage: self.storages.len() - 1, offset: 0 }
    }

    /// The beginning of a variable, which has at least so many elements.
    pub fn variable(&mut self, id: VariableId, dtype: DType, elements: usize) -> Place {
        let storage = *self.variables.entry(id).or_insert_with(|| {
            let kind = Some(BufferKind::Variable(id));
            self.storages.push(Storage { dtype, elements: 0, kind, layer: String::new() });
            self.storages.len() - 1
        });
        let storage_elements = &mut self.storages[storage].elements;
        *storage_elements = elements.max(*storage_elements);
        Place { storage, offset: 0 }
    }

    /// Gives the inputs of each packed block their place inside of it, where they are free to be computed there.
    fn pack(&mut self, ir: &Ir) {
        let mut taken: HashSet<Value> = HashSet::new();
        for (at, node) in ir.nodes.iter().enumerate() {
            let Some(offsets) = node.op().and_then(|op| op.packs()) else { continue };
            let block = self.add(ir, at, &node.types[0], Some(BufferKind::Kept));
            self.places.insert(Value { node: at, output: 0 }, block);
            for (input, offset) in node.inputs.iter().zip(offsets) {
                let value = ir.viewed(*input);
                let Some(op) = ir.nodes[value.node].op() else { continue };
                let in_place = op.in_place().iter().any(|(_, output)| *output == value.output);
                if op.packs().is_none() && !in_place && taken.insert(value) {
                    self.places.insert(value, Place { offset: *offset, ..block });
                }
            }
        }
    }

    fn node(&mut self, ir: &Ir, at: usize, last: Option<&LastReads>) {
        let node = &ir.nodes[at];
        let place = match &node.source {
            Source::Feed(name) => self.add(ir, at, &node.types[0], Some(BufferKind::Feed(name.clone()))),
            Source::Constant(tensor) => self.add(ir, at, &node.types[0], Some(BufferKind::Constant(tensor.clone()))),
            Source::Variable { id, offset } => {
                let end = offset + node.types[0].elements();
                Place { offset: *offset, ..self.variable(*id, node.types[0].dtype, end) }
            }
            Source::Op(op) if op.is_view() => self.places[&node.inputs[0]],
            Source::Op(op) => return self.operation(ir, at, &**op, last),
        };
        self.places.insert(Value { node: at, output: 0 }, place);
    }

    fn operation(&mut self, ir: &Ir, at: usize, op: &dyn DynOp, last: Option<&LastReads>) {
        let node = &ir.nodes[at];
        for (output, ty) in node.types.iter().enumerate() {
            let value = Value { node: at, output };
            if self.places.contains_key(&value) {
                continue;
            }
            let pair = op.in_place().iter().find(|(_, o)| *o == output);
            let source = pair.map(|(input, _)| node.inputs[*input]);
            let free =
                source.filter(|source| last.is_some_and(|last| self.may_overwrite(ir, at, *source, value, last)));
            let place = match free {
                Some(source) => self.places[&source],
                None => self.add(ir, at, ty, (at < ir.prepared).then_some(BufferKind::Kept)),
            };
            self.places.insert(value, place);
        }
    }

    /// Whether node `at` may compute `result` in the storage of its input `source`.
    fn may_overwrite(&self, ir: &Ir, at: usize, source: Value, result: Value, last: &LastReads) -> bool {
        let value = ir.viewed(source);
        match ir.nodes[value.node].source {
            Source::Variable { id, offset } => {
                let assigned = ir.assigns.iter().any(|(to, value)| *to == id && *value == result);
                assigned && offset == 0 && last.variables.get(&id) == Some(&at)
            }
            Source::Op(_) => {
                let storage = &self.storages[self.places[&source].storage];
                storage.kind.is_none() && last.values.get(&value) == Some(&at)
            }
            Source::Feed(_) | Source::Constant(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Graph,
        plan::{Plan, PlanOptions, Step, Target},
    };

    fn steps(graph: &Graph) -> Vec<String> {
        let plan = Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap();
        plan.steps.iter().map(Step::description).collect()
    }

    #[test]
    fn what_is_packed_is_computed_in_its_place() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4]));
        let [a, b] = [graph.tanh(x).unwrap(), graph.softmax(x).unwrap()];
        let packed = graph.pack(&[a, b], vec![0, 8], 12).unwrap();
        graph.output("packed", packed);
        let ir = Ir::new(&graph);
        let places = Placement::new(&ir, true).places;
        let block = places[&packed];
        assert_eq!([places[&a], places[&b]], [block, Place { offset: 8, ..block }]);
        assert_eq!(steps(&graph), ["tanh", "softmax"]);
    }

    #[test]
    fn what_is_packed_twice_or_given_is_copied() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4]));
        let y = graph.tanh(x).unwrap();
        let packed = graph.pack(&[x, y, y], vec![0, 4, 8], 12).unwrap();
        graph.output("packed", packed);
        assert_eq!(steps(&graph), ["tanh", "copy", "copy"]);
    }

    #[test]
    fn a_variable_that_is_read_after_its_update_is_updated_beside_it() {
        let variable = VariableId(0);
        let step = |late: bool| {
            let mut graph = Graph::new();
            let ty = TensorType::f32([8]);
            let (gradient, hyper) = (graph.feed("gradient", ty.clone()), graph.feed("hyper", TensorType::f32([8])));
            let [scale, guard] = ["scale", "guard"].map(|name| graph.feed(name, TensorType::f32([])));
            let value = graph.variable(variable, 0, ty);
            let sgd = crate::ops::Optimizer::Sgd { momentum: 0.0, nesterov: false };
            let new = graph.optimizer_step(&sgd, value, &[], gradient, hyper, scale, guard, &[]).unwrap()[0];
            graph.assign(variable, new);
            if late {
                let y = graph.softmax(value).unwrap();
                graph.output("y", y);
            }
            steps(&graph)
        };
        assert_eq!(step(false), ["sgd"]);
        assert_eq!(step(true), ["copy", "sgd", "softmax", "copy"]);
    }
}
