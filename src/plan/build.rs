//! From a graph to a plan: where each value lives, and the steps in order.

use std::collections::{HashMap, HashSet};

use super::{
    Buffer, BufferKind, Location, MemoryUse, Plan, PlanError, PlanOptions, Step, Target, Work,
    beside::make_statistics_beside,
    fuse::{self, Uses},
    memory::{self, Lifetime},
    merge::merge,
    recompute::{Rewritten, recompute},
};
use crate::{
    graph::{Graph, Node, Source, Value, VariableId},
    kernel::Signature,
    tensor::{DType, TensorType},
};

/// Memory before buffers are shared.
struct Storage {
    dtype: DType,
    elements: usize,
    /// `None`: an arena buffer, shared by lifetime.
    kind: Option<BufferKind>,
    first: usize,
    last: usize,
    layer: String,
}

#[derive(Clone, Copy)]
struct Place {
    storage: usize,
    offset: usize,
}

struct Builder {
    graph: Rewritten,
    options: PlanOptions,
    uses: Uses,
    storages: Vec<Storage>,
    /// Nodes that are prepared.
    fixed: Vec<bool>,
    /// Steps of these.
    prepared: usize,
    variables: HashMap<VariableId, usize>,
    places: HashMap<Value, Place>,
    /// Last node that reads a value, views of it included.
    last_read: HashMap<Value, usize>,
    last_read_variable: HashMap<VariableId, usize>,
    steps: Vec<Step>,
}

pub(super) fn build(graph: &Graph, target: &Target, options: PlanOptions) -> Result<Plan, PlanError> {
    let equal = graph.equated();
    let mut graph = Rewritten {
        nodes: graph.nodes().to_vec(),
        epilogues: vec![String::new(); graph.nodes().len()],
        outputs: graph.outputs().to_vec(),
        assigns: graph.assigns().to_vec(),
    };
    if options.fuse {
        merge(&mut graph, equal);
        make_statistics_beside(&mut graph);
    }
    let mut uses = Uses::count(&graph.nodes, graph.roots());
    if options.fuse {
        graph.epilogues = fuse::fuse(&mut graph.nodes, &mut uses);
    }
    if options.recompute {
        recompute(&mut graph, &uses);
        uses = Uses::count(&graph.nodes, graph.roots());
    }
    let mut builder = Builder {
        fixed: fixed(&graph, options),
        prepared: 0,
        graph,
        options,
        uses,
        storages: Vec::new(),
        variables: HashMap::new(),
        places: HashMap::new(),
        last_read: HashMap::new(),
        last_read_variable: HashMap::new(),
        steps: Vec::new(),
    };
    builder.find_last_reads();
    builder.place_packs();
    let live = |builder: &Builder, fixed: bool| -> Vec<usize> {
        let nodes = 0..builder.graph.nodes.len();
        nodes.filter(|at| builder.uses.is_live(*at) && builder.fixed[*at] == fixed).collect()
    };
    for at in live(&builder, true) {
        builder.node(at, target)?;
    }
    builder.prepared = builder.steps.len();
    for at in live(&builder, false) {
        builder.node(at, target)?;
    }
    builder.assign_variables();
    builder.finish(target)
}

/// Which nodes depend on variables and constants alone, where these are to be prepared.
fn fixed(graph: &Rewritten, options: PlanOptions) -> Vec<bool> {
    let mut fixed = vec![false; graph.nodes.len()];
    if !options.prepare || !graph.assigns.is_empty() {
        return fixed;
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        fixed[at] = match &node.source {
            Source::Variable { .. } | Source::Constant(_) => true,
            Source::Feed(_) => false,
            Source::Op(op) => op.packs().is_none() && node.inputs.iter().all(|input| fixed[input.node]),
        };
    }
    fixed
}

impl Builder {
    /// The value whose storage `value` is a view of.
    fn root(&self, mut value: Value) -> Value {
        while let Source::Op(op) = &self.graph.nodes[value.node].source {
            if !op.is_view() {
                break;
            }
            value = self.graph.nodes[value.node].inputs[0];
        }
        value
    }

    fn find_last_reads(&mut self) {
        for at in 0..self.graph.nodes.len() {
            if !self.uses.is_live(at) {
                continue;
            }
            for input in self.graph.nodes[at].inputs.clone() {
                let root = self.root(input);
                self.last_read.insert(root, at);
                if let Source::Variable { id, .. } = self.graph.nodes[root.node].source {
                    self.last_read_variable.insert(id, at);
                }
            }
        }
        for (_, value) in &self.graph.outputs.clone() {
            self.last_read.insert(self.root(*value), usize::MAX);
        }
    }

    /// Gives the inputs of each pack their place inside it, where they are free to be computed there.
    fn place_packs(&mut self) {
        let mut taken: HashSet<Value> = HashSet::new();
        for at in 0..self.graph.nodes.len() {
            let Source::Op(op) = &self.graph.nodes[at].source else { continue };
            let Some(offsets) = op.packs().map(<[usize]>::to_vec) else { continue };
            if !self.uses.is_live(at) {
                continue;
            }
            let ty = self.graph.nodes[at].types[0].clone();
            let storage = self.add_storage(&ty, Some(BufferKind::Kept), at);
            self.places.insert(Value { node: at, output: 0 }, Place { storage, offset: 0 });
            for (input, offset) in self.graph.nodes[at].inputs.clone().into_iter().zip(offsets) {
                let root = self.root(input);
                let Source::Op(op) = &self.graph.nodes[root.node].source else { continue };
                let in_place = op.in_place().iter().any(|(_, output)| *output == root.output);
                if op.packs().is_none() && !in_place && taken.insert(root) {
                    self.places.insert(root, Place { storage, offset });
                }
            }
        }
    }

    fn add_storage(&mut self, ty: &TensorType, kind: Option<BufferKind>, at: usize) -> usize {
        self.storages.push(Storage {
            dtype: ty.dtype,
            elements: ty.elements(),
            kind,
            first: usize::MAX,
            last: 0,
            layer: self.graph.nodes[at].scope.to_string(),
        });
        self.storages.len() - 1
    }

    fn node(&mut self, at: usize, target: &Target) -> Result<(), PlanError> {
        let node = self.graph.nodes[at].clone();
        let first = Value { node: at, output: 0 };
        match &node.source {
            Source::Feed(name) => {
                let storage = self.add_storage(&node.types[0], Some(BufferKind::Feed(name.clone())), at);
                self.places.insert(first, Place { storage, offset: 0 });
            }
            Source::Constant(tensor) => {
                let storage = self.add_storage(&node.types[0], Some(BufferKind::Constant(tensor.clone())), at);
                self.places.insert(first, Place { storage, offset: 0 });
            }
            Source::Variable { id, offset } => {
                let storage = self.variable(*id, node.types[0].dtype);
                let end = offset + node.types[0].elements();
                self.storages[storage].elements = self.storages[storage].elements.max(end);
                self.places.insert(first, Place { storage, offset: *offset });
            }
            Source::Op(op) if op.is_view() => {
                let place = self.places[&node.inputs[0]];
                self.places.insert(first, place);
            }
            Source::Op(op) if op.packs().is_some() => {
                let pack = self.places[&first];
                let offsets = op.packs().unwrap_or_default().to_vec();
                for (input, offset) in node.inputs.iter().zip(offsets) {
                    let place = self.places[input];
                    if place.storage != pack.storage || place.offset != offset {
                        let elements = self.graph.nodes[input.node].types[input.output].elements();
                        let to = Place { storage: pack.storage, offset };
                        self.copy(&node.scope, place, to, elements);
                    }
                }
            }
            Source::Op(_) => self.operation(at, &node, target)?,
        }
        Ok(())
    }

    fn variable(&mut self, id: VariableId, dtype: DType) -> usize {
        *self.variables.entry(id).or_insert_with(|| {
            let kind = Some(BufferKind::Variable(id));
            self.storages.push(Storage { dtype, elements: 0, kind, first: 0, last: 0, layer: String::new() });
            self.storages.len() - 1
        })
    }

    fn operation(&mut self, at: usize, node: &Node, target: &Target) -> Result<(), PlanError> {
        let Source::Op(op) = &node.source else { return Ok(()) };
        let mut copies = Vec::new();
        for (output, ty) in node.types.iter().enumerate() {
            let value = Value { node: at, output };
            if self.places.contains_key(&value) {
                continue;
            }
            let pair = op.in_place().iter().find(|(_, o)| *o == output);
            let source = pair.map(|(input, _)| node.inputs[*input]);
            let reused = source.filter(|source| self.may_overwrite(at, *source, value));
            let place = match reused {
                Some(source) => self.places[&source],
                None => {
                    let kind = self.fixed[at].then_some(BufferKind::Kept);
                    let place = Place { storage: self.add_storage(ty, kind, at), offset: 0 };
                    if let Some(source) = source {
                        copies.push((self.places[&source], place, ty.elements()));
                    }
                    place
                }
            };
            self.places.insert(value, place);
        }
        for (from, to, elements) in copies {
            self.copy(&node.scope, from, to, elements);
        }

        let signature = Signature {
            inputs: node.inputs.iter().map(|v| self.graph.nodes[v.node].types[v.output].clone()).collect(),
            outputs: node.types.clone(),
        };
        let (kernel, scratch) = match target {
            Target::Cpu => {
                (None, Some(op.cpu_scratch(&signature)).filter(|elements| *elements > 0).into_iter().collect())
            }
            Target::Gpu(limits, choices) => {
                let candidates = op.gpu(&signature, limits);
                let kernel = choices.pick(op.name(), candidates).ok_or_else(|| PlanError::NoKernel {
                    layer: node.scope.to_string(),
                    op: op.name().to_string(),
                    types: signature.inputs.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", "),
                })?;
                let scratch = kernel.scratch.clone();
                (Some(kernel), scratch)
            }
        };
        let scratch: Vec<Location> = scratch
            .into_iter()
            .map(|elements: usize| {
                let storage = self.add_storage(&TensorType::f32([elements]), None, at);
                self.touch(Place { storage, offset: 0 }, elements)
            })
            .collect();
        let inputs = node.inputs.iter().zip(&signature.inputs).map(|(v, t)| (self.places[v], t.elements()));
        let inputs: Vec<_> = inputs.collect();
        let inputs = inputs.into_iter().map(|(place, elements)| self.touch(place, elements)).collect();
        let outputs = (0..node.types.len())
            .map(|output| {
                let place = self.places[&Value { node: at, output }];
                self.touch(place, node.types[output].elements())
            })
            .collect();
        let work = Work::Run { op: op.clone(), signature, kernel };
        let epilogue = self.graph.epilogues[at].clone();
        self.steps.push(Step { layer: node.scope.to_string(), inputs, outputs, scratch, work, epilogue });
        Ok(())
    }

    /// Whether node `at` may compute `result` in the storage of its input `source`.
    fn may_overwrite(&self, at: usize, source: Value, result: Value) -> bool {
        if !self.options.share {
            return false;
        }
        let root = self.root(source);
        match self.graph.nodes[root.node].source {
            Source::Variable { id, offset } => {
                let assigned = self.graph.assigns.iter().any(|(to, value)| *to == id && *value == result);
                assigned && offset == 0 && self.last_read_variable.get(&id) == Some(&at)
            }
            Source::Op(_) => {
                let storage = &self.storages[self.places[&source].storage];
                storage.kind.is_none() && self.last_read.get(&root) == Some(&at)
            }
            Source::Feed(_) | Source::Constant(_) => false,
        }
    }

    /// Marks the storage as used by the next step, and gives the location.
    fn touch(&mut self, place: Place, elements: usize) -> Location {
        let step = self.steps.len();
        let storage = &mut self.storages[place.storage];
        storage.first = storage.first.min(step);
        storage.last = storage.last.max(step);
        Location { buffer: place.storage, offset: place.offset, elements }
    }

    fn copy(&mut self, layer: &str, from: Place, to: Place, elements: usize) {
        let inputs = vec![self.touch(from, elements)];
        let outputs = vec![self.touch(to, elements)];
        self.steps.push(Step {
            layer: layer.to_string(),
            inputs,
            outputs,
            scratch: Vec::new(),
            work: Work::Copy,
            epilogue: String::new(),
        });
    }

    fn assign_variables(&mut self) {
        for (id, value) in &self.graph.assigns.clone() {
            let ty = self.graph.nodes[value.node].types[value.output].clone();
            let storage = self.variable(*id, ty.dtype);
            self.storages[storage].elements = self.storages[storage].elements.max(ty.elements());
            let place = self.places[value];
            if place.storage != storage {
                self.copy("", place, Place { storage, offset: 0 }, ty.elements());
            }
        }
    }

    fn finish(mut self, target: &Target) -> Result<Plan, PlanError> {
        let mut outputs = Vec::new();
        for (name, value) in &self.graph.outputs.clone() {
            let ty = self.graph.nodes[value.node].types[value.output].clone();
            let location = self.touch(self.places[value], ty.elements());
            outputs.push((name.clone(), location, ty));
        }
        if let Target::Gpu(limits, _) = target {
            let limit = limits.max_binding.min(limits.max_buffer);
            // A variable may be as large as a buffer: only windows of it are bound.
            let whole = |s: &&Storage| !matches!(s.kind, Some(BufferKind::Variable(_) | BufferKind::Kept));
            let bytes = |s: &Storage| (s.elements * s.dtype.size()) as u64;
            if let Some(storage) = self.storages.iter().filter(whole).find(|s| bytes(s) > limit) {
                return Err(PlanError::TooLarge {
                    layer: storage.layer.clone(),
                    what: format!("a value of {} elements of {}", storage.elements, storage.dtype),
                    bytes: bytes(storage),
                    limit,
                });
            }
        }

        let arena: Vec<usize> = (0..self.storages.len()).filter(|s| self.storages[*s].kind.is_none()).collect();
        let lifetimes: Vec<Lifetime> = arena
            .iter()
            .map(|&s| {
                let Storage { dtype, elements, first, last, .. } = self.storages[s];
                Lifetime { dtype, elements, first: first.min(last), last }
            })
            .collect();
        let (shared, sizes) = memory::assign(&lifetimes, self.options.share);

        let mut memory = MemoryUse {
            values: lifetimes.iter().map(|l| (l.elements * l.dtype.size()) as u64).sum(),
            planned: sizes.iter().map(|(dtype, elements)| (elements * dtype.size()) as u64).sum(),
            resident: 0,
        };
        let mut buffers: Vec<Buffer> =
            sizes.into_iter().map(|(dtype, elements)| Buffer { dtype, elements, kind: BufferKind::Arena }).collect();
        let mut buffer_of = vec![0; self.storages.len()];
        for (&storage, buffer) in arena.iter().zip(shared) {
            buffer_of[storage] = buffer;
        }
        for (at, storage) in self.storages.into_iter().enumerate() {
            let Some(kind) = storage.kind else { continue };
            buffer_of[at] = buffers.len();
            let bytes = (storage.elements * storage.dtype.size()) as u64;
            if matches!(kind, BufferKind::Kept) {
                memory.planned += bytes;
                memory.values += bytes;
            } else {
                memory.resident += bytes;
            }
            buffers.push(Buffer { dtype: storage.dtype, elements: storage.elements, kind });
        }
        let resolve = |location: &mut Location| location.buffer = buffer_of[location.buffer];
        for step in &mut self.steps {
            step.inputs.iter_mut().chain(&mut step.outputs).chain(&mut step.scratch).for_each(resolve);
        }
        outputs.iter_mut().for_each(|(_, location, _)| resolve(location));
        let is_variable = |location: &Location| matches!(buffers[location.buffer].kind, BufferKind::Variable(_));
        let changes_variables = self.steps.iter().flat_map(|step| &step.outputs).any(is_variable);
        Ok(Plan { buffers, steps: self.steps, prepared: self.prepared, changes_variables, outputs, memory })
    }
}
