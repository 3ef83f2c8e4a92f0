//! Lowering: from nodes to steps, each with its kernel and the locations that it reads and writes.

use super::{
    Buffer, BufferKind, Location, MemoryUse, Plan, PlanError, PlanOptions, Step, Target, Work,
    ir::{Ir, Node},
    memory::{self, Lifetime},
    placement::{Place, Placement, Storage},
};
use crate::{
    graph::{DynOp, Value},
    kernel::{Signature, gpu},
    tensor::TensorType,
};

/// The steps so far. Until buffers are assigned, a location's buffer is the number of a storage.
struct Lowering<'a> {
    ir: &'a Ir,
    target: &'a Target,
    placement: Placement,
    /// The first and the last step that uses each storage; `None` where none does.
    used: Vec<Option<[usize; 2]>>,
    steps: Vec<Step>,
}

/// The plan of `ir`, which holds no node that is not needed.
pub(super) fn lower(ir: &Ir, target: &Target, options: PlanOptions) -> Result<Plan, PlanError> {
    let placement = Placement::new(ir, options.share);
    let mut lowering = Lowering { ir, target, placement, used: Vec::new(), steps: Vec::new() };
    for at in 0..ir.prepared {
        lowering.node(at)?;
    }
    let prepared = lowering.steps.len();
    for at in ir.prepared..ir.nodes.len() {
        lowering.node(at)?;
    }
    lowering.assign_variables();
    lowering.finish(prepared, options.share)
}

impl Lowering<'_> {
    fn node(&mut self, at: usize) -> Result<(), PlanError> {
        let node = &self.ir.nodes[at];
        let Some(op) = node.op().filter(|op| !op.is_view()) else { return Ok(()) };
        match op.packs() {
            Some(offsets) => {
                self.pack(at, offsets);
                Ok(())
            }
            None => self.operation(at, node, op),
        }
    }

    /// Copies to their places in a packed block what was not computed there.
    fn pack(&mut self, at: usize, offsets: &[usize]) {
        let node = &self.ir.nodes[at];
        let block = self.place(Value { node: at, output: 0 });
        for (input, offset) in node.inputs.iter().zip(offsets) {
            let (from, to) = (self.place(*input), Place { offset: *offset, ..block });
            if from != to {
                self.copy(&node.layer, from, to, self.ir.ty(*input).elements());
            }
        }
    }

    fn operation(&mut self, at: usize, node: &Node, op: &std::sync::Arc<dyn DynOp>) -> Result<(), PlanError> {
        for (input, output) in op.in_place() {
            let (from, to) = (self.place(node.inputs[*input]), self.place(Value { node: at, output: *output }));
            if from != to {
                self.copy(&node.layer, from, to, node.types[*output].elements());
            }
        }
        let signature = self.ir.signature(at);
        let (kernel, scratch) = self.kernel(node, &**op, &signature)?;
        let scratch: Vec<Location> = scratch
            .into_iter()
            .map(|elements| {
                let place = self.placement.add(self.ir, at, &TensorType::f32([elements]), None);
                self.touch(place, elements)
            })
            .collect();
        let inputs = node.inputs.iter().map(|value| self.locate(*value)).collect();
        let outputs = (0..node.types.len()).map(|output| self.locate(Value { node: at, output })).collect();
        let work = Work::Run { op: op.clone(), signature, kernel };
        let epilogue = node.epilogue.clone();
        self.steps.push(Step { layer: node.layer.to_string(), inputs, outputs, scratch, work, epilogue });
        Ok(())
    }

    /// The kernel of an operation on a GPU, and the elements of each scratch buffer that it wants.
    fn kernel(
        &self,
        node: &Node,
        op: &dyn DynOp,
        signature: &Signature,
    ) -> Result<(Option<gpu::Candidate>, Vec<usize>), PlanError> {
        match self.target {
            Target::Cpu => {
                let scratch = Some(op.cpu_scratch(signature)).filter(|elements| *elements > 0);
                Ok((None, scratch.into_iter().collect()))
            }
            Target::Gpu(limits, choices) => {
                let kernel = choices
                    .pick(op.name(), op.kernels(signature, limits))
                    .ok_or_else(|| no_kernel(node, op, signature, limits))?;
                let scratch = kernel.scratch.clone();
                Ok((Some(kernel), scratch))
            }
        }
    }

    fn place(&self, value: Value) -> Place {
        self.placement.places[&value]
    }

    /// Where a value lies, which the next step uses.
    fn locate(&mut self, value: Value) -> Location {
        self.touch(self.place(value), self.ir.ty(value).elements())
    }

    /// Marks the storage as used by the next step, and gives the location.
    fn touch(&mut self, place: Place, elements: usize) -> Location {
        let step = self.steps.len();
        self.used.resize(self.placement.storages.len(), None);
        let used = &mut self.used[place.storage];
        *used = Some(used.map_or([step, step], |[first, _]| [first, step]));
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
        for (id, value) in &self.ir.assigns {
            let ty = self.ir.ty(*value);
            let (from, to) = (self.place(*value), self.placement.variable(*id, ty.dtype, ty.elements()));
            if from.storage != to.storage {
                self.copy("", from, to, ty.elements());
            }
        }
    }

    fn finish(mut self, prepared: usize, share: bool) -> Result<Plan, PlanError> {
        let outputs = self.ir.outputs.iter();
        let mut outputs: Vec<(String, Location, TensorType)> =
            outputs.map(|(name, value)| (name.clone(), self.locate(*value), self.ir.ty(*value).clone())).collect();
        self.used.resize(self.placement.storages.len(), None);
        check_sizes(&self.placement.storages, self.target)?;
        check_offsets(&self.steps, &self.placement.storages, self.target)?;
        let (buffers, buffer_of, memory) = assign_buffers(self.placement.storages, &self.used, share);
        let mut steps = self.steps;
        let resolve = |location: &mut Location| location.buffer = buffer_of[location.buffer];
        for step in &mut steps {
            step.inputs.iter_mut().chain(&mut step.outputs).chain(&mut step.scratch).for_each(resolve);
        }
        outputs.iter_mut().for_each(|(_, location, _)| resolve(location));
        let is_variable = |location: &Location| matches!(buffers[location.buffer].kind, BufferKind::Variable(_));
        let changes_variables = steps.iter().flat_map(|step| &step.outputs).any(is_variable);
        Ok(Plan { buffers, steps, prepared, changes_variables, outputs, memory })
    }
}

/// Why an operation has no kernel for a GPU.
fn no_kernel(node: &Node, op: &dyn DynOp, signature: &Signature, limits: &gpu::Limits) -> PlanError {
    let (layer, op_name) = (node.layer.to_string(), op.name().to_string());
    let types = signature.inputs.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
    let with_f16 = gpu::Limits { f16: true, ..limits.clone() };
    match op.kernels(signature, &with_f16).is_empty() {
        true => PlanError::NoKernel { layer, op: op_name, types },
        false => PlanError::NoF16 { layer, op: op_name, types, adapter: limits.adapter.clone() },
    }
}

/// That each value can be bound whole.
fn check_sizes(storages: &[Storage], target: &Target) -> Result<(), PlanError> {
    let Target::Gpu(limits, _) = target else { return Ok(()) };
    let limit = limits.max_binding.min(limits.max_buffer);
    // A variable may be as large as a buffer: only windows of it are bound.
    let whole = |s: &&Storage| !matches!(s.kind, Some(BufferKind::Variable(_) | BufferKind::Kept));
    let bytes = |s: &Storage| (s.elements * s.dtype.size()) as u64;
    match storages.iter().filter(whole).find(|s| bytes(s) > limit) {
        None => Ok(()),
        Some(storage) => Err(PlanError::TooLarge {
            layer: storage.layer.clone(),
            what: format!("a value of {} elements of {}", storage.elements, storage.dtype),
            bytes: bytes(storage),
            limit,
        }),
    }
}

/// That each value begins at a whole word.
fn check_offsets(steps: &[Step], storages: &[Storage], target: &Target) -> Result<(), PlanError> {
    let Target::Gpu(..) = target else { return Ok(()) };
    for step in steps {
        for Location { buffer, offset, elements } in step.inputs.iter().chain(&step.outputs) {
            let dtype = storages[*buffer].dtype;
            if !(offset * dtype.size()).is_multiple_of(4) {
                let what = format!("a value of {elements} elements of {dtype} from element {offset} on");
                return Err(PlanError::Unaligned { layer: step.layer.clone(), what });
            }
        }
    }
    Ok(())
}

/// The buffers, first those that values share; the buffer of each storage; and how much memory that is.
fn assign_buffers(
    storages: Vec<Storage>,
    used: &[Option<[usize; 2]>],
    share: bool,
) -> (Vec<Buffer>, Vec<usize>, MemoryUse) {
    let arena: Vec<usize> = (0..storages.len()).filter(|at| storages[*at].kind.is_none()).collect();
    let lifetime = |at: &usize| {
        let Storage { dtype, elements, .. } = storages[*at];
        let [first, last] = used[*at].unwrap_or_default();
        Lifetime { dtype, elements, first, last }
    };
    let lifetimes: Vec<Lifetime> = arena.iter().map(lifetime).collect();
    let (shared, sizes) = memory::assign(&lifetimes, share);
    let mut memory = MemoryUse {
        values: lifetimes.iter().map(|l| (l.elements * l.dtype.size()) as u64).sum(),
        planned: sizes.iter().map(|(dtype, elements)| (elements * dtype.size()) as u64).sum(),
        resident: 0,
    };
    let mut buffers: Vec<Buffer> =
        sizes.into_iter().map(|(dtype, elements)| Buffer { dtype, elements, kind: BufferKind::Arena }).collect();
    let mut buffer_of = vec![0; storages.len()];
    for (&storage, buffer) in arena.iter().zip(shared) {
        buffer_of[storage] = buffer;
    }
    for (at, storage) in storages.into_iter().enumerate() {
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
    (buffers, buffer_of, memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        graph::{Graph, VariableId},
        plan::Choices,
        tensor::DType,
    };

    /// Two values that live at the same time.
    fn graph(dtype: DType) -> Graph {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType { dtype, shape: [1000].into() });
        let y = graph.tanh(x).unwrap();
        let sum = graph.sum(y, &[0]).unwrap();
        let z = graph.add(y, sum).unwrap();
        graph.output("z", z);
        graph
    }

    #[test]
    fn halves_take_half_the_memory() {
        let memory = |dtype| Plan::new(&graph(dtype), &Target::Cpu, PlanOptions::default()).unwrap().memory;
        let (single, half) = (memory(DType::F32), memory(DType::F16));
        assert_eq!(half.resident, 2000);
        // What the kernels work in stays f32.
        let scratch = single.values - 4 * 2001;
        assert_eq!(half.values, 2 * 2001 + scratch);
        assert!(half.planned < single.planned);
    }

    #[test]
    fn a_window_within_a_word_is_refused() {
        let Some(gpu) = check::software_gpu() else { return };
        let plan = |offset: usize| {
            let mut graph = Graph::new();
            let x = graph.variable(VariableId(0), offset, TensorType::f16([3]));
            let y = graph.relu(x).unwrap();
            graph.output("y", y);
            let limits = gpu::Limits { f16: true, ..gpu.limits().clone() };
            Plan::new(&graph, &Target::Gpu(limits, Choices::default()), PlanOptions::default())
        };
        assert!(plan(2).is_ok());
        let error = plan(3).unwrap_err().to_string();
        assert!(error.contains("3 elements of f16 from element 3 on begins within a word"), "{error}");
    }

    #[test]
    fn a_device_without_halves_is_named() {
        let Some(gpu) = check::software_gpu() else { return };
        let limits = gpu::Limits { f16: false, adapter: "Old GPU".to_string(), ..gpu.limits().clone() };
        let target = Target::Gpu(limits, Choices::default());
        let error = Plan::new(&graph(DType::F16), &target, PlanOptions::default()).unwrap_err().to_string();
        let expected = "tanh(f16[1000]) takes 16-bit floats in shaders (SHADER_F16), which Old GPU does not have";
        assert!(error.contains(expected) && error.contains("use f32"), "{error}");
        assert!(Plan::new(&graph(DType::F32), &target, PlanOptions::default()).is_ok());
    }
}
