//! The CPU executor: replays a plan with the operations' native kernels.

mod memory;

use std::time::{Duration, Instant};

use memory::{Memory, Widened};

use crate::{
    graph::{VariableId, Variables},
    kernel::cpu::{Args, RawArg},
    plan::{BufferKind, Executor, ExecutorError, Location, Outputs, Plan, ProgramId, Step, Target, Timing, Work},
    tensor::{DType, Real, Tensor, TensorType},
};

/// Replays plans on this machine's processor, on all threads of rayon's pool. Floats are held and computed as `T`:
/// `f32` in use, `f64` where gradients are checked numerically.
#[derive(Default)]
pub struct CpuExecutor<T: Real = f32> {
    variables: Vec<Memory<T>>,
    /// How often variables changed.
    changes: u64,
    programs: Vec<Program<T>>,
    /// Whether variables were let go of.
    frozen: bool,
}

struct Program<T: Real> {
    plan: Plan,
    /// The state of the variables that its first steps were run for.
    prepared: Option<u64>,
    /// The plan's own buffers; `None` for a variable.
    memory: Vec<Option<Memory<T>>>,
    /// Where the steps' widened arguments lie, one step's over the other's.
    _widened: Memory<T>,
    arguments: Vec<Arguments>,
    finished: Vec<Outputs>,
}

/// The arguments of one step, resolved once.
struct Arguments {
    inputs: Vec<RawArg>,
    outputs: Vec<RawArg>,
    scratch: Option<RawArg>,
    /// Those of them that are stored narrower than floats.
    widened: Vec<Widened>,
}

/// Types of a step's inputs and outputs that are stored narrower than floats are computed, with their places among all.
fn narrow(step: &Step) -> impl Iterator<Item = (usize, &TensorType)> {
    let types = match &step.work {
        Work::Copy => None,
        Work::Run { signature, .. } => Some(signature.inputs.iter().chain(&signature.outputs)),
    };
    types.into_iter().flatten().enumerate().filter(|(_, ty)| ty.dtype.is_narrow())
}

/// Floats that a step's narrow arguments become.
fn widened_elements(step: &Step) -> usize {
    narrow(step).map(|(_, ty)| ty.elements()).sum()
}

impl Arguments {
    /// Replaces the narrow arguments of `step` by windows of `floats`.
    fn widen<T: Real>(&mut self, step: &Step, floats: &mut Memory<T>) {
        let Work::Run { op, .. } = &step.work else { return };
        let inputs = self.inputs.len();
        let mut offset = 0;
        for (at, ty) in narrow(step) {
            let is_updated = op.in_place().iter().any(|(_, output)| inputs + output == at);
            let argument = if at < inputs { &mut self.inputs[at] } else { &mut self.outputs[at - inputs] };
            let stored = std::mem::replace(argument, floats.raw(offset, ty.elements()));
            offset += ty.elements();
            self.widened.push(Widened {
                dtype: ty.dtype,
                stored,
                floats: *argument,
                is_read: at < inputs || is_updated,
                is_written: at >= inputs,
            });
        }
    }
}

/// A float for which operations have a CPU kernel.
pub trait Precision: Real {
    /// Calls the kernel of this precision.
    fn call(op: &dyn crate::graph::DynOp, args: Args<'_, Self>);
}

impl Precision for f32 {
    fn call(op: &dyn crate::graph::DynOp, args: Args<'_, Self>) {
        op.cpu_f32(args);
    }
}

impl Precision for f64 {
    fn call(op: &dyn crate::graph::DynOp, args: Args<'_, Self>) {
        op.cpu_f64(args);
    }
}

impl CpuExecutor<f32> {
    /// An executor without variables or programs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T: Precision> Program<T> {
    /// Computes one step.
    fn step(&self, at: usize) {
        let (step, arguments) = (&self.plan.steps[at], &self.arguments[at]);
        match &step.work {
            Work::Copy => {
                let (from, to) = (arguments.inputs[0], arguments.outputs[0]);
                let size = match self.plan.buffers[step.inputs[0].buffer].dtype {
                    DType::F32 => size_of::<T>(),
                    other => other.size(),
                };
                // SAFETY: both ends lie inside buffers of this element type that outlive the program, and the
                // planner copies only between different values.
                unsafe { std::ptr::copy(from.start, to.start, from.elements * size) };
            }
            Work::Run { op, signature, .. } => {
                // SAFETY: as below; widened floats are the step's alone while it runs.
                arguments.widened.iter().filter(|arg| arg.is_read).for_each(|arg| unsafe { arg.widen::<T>() });
                // SAFETY: the locations were resolved against memory that outlives the program and never moves; variables that
                // were let go of are those of steps that are not run again.
                // The planner gives values that meet in a step different buffers, except declared in-place pairs.
                let args = unsafe { Args::new(signature, &arguments.inputs, &arguments.outputs, arguments.scratch) };
                T::call(op.as_ref(), args);
                // SAFETY: likewise; the kernel is done.
                arguments.widened.iter().filter(|arg| arg.is_written).for_each(|arg| unsafe { arg.round::<T>() });
            }
        }
    }

    /// For each of so many variables the number of the first step by which it is no longer read, so far as that is one of those
    /// that are run once.
    fn read_until(&self, variables: usize) -> Vec<Option<usize>> {
        let plan = &self.plan;
        let variable = |location: &Location| match plan.buffers[location.buffer].kind {
            BufferKind::Variable(VariableId(id)) => Some(id),
            _ => None,
        };
        let mut until = vec![Some(0); variables];
        for (at, step) in plan.steps.iter().enumerate() {
            for id in step.inputs.iter().chain(&step.outputs).filter_map(variable) {
                until[id] = (at < plan.prepared).then_some(at + 1);
            }
        }
        plan.outputs.iter().filter_map(|(_, location, _)| variable(location)).for_each(|id| until[id] = None);
        until
    }
}

impl<T: Precision> CpuExecutor<T> {
    /// The value at `location` after the last run. Meaningful in plans made without sharing.
    pub fn peek(&self, program: ProgramId, location: Location, ty: &TensorType) -> Tensor {
        let program = &self.programs[program.0];
        self.storage(program, location.buffer).to_tensor(ty, location.offset)
    }

    /// As [`CpuExecutor::peek`] for floats, in full precision.
    pub fn peek_float(&self, program: ProgramId, location: Location) -> Vec<T> {
        let program = &self.programs[program.0];
        self.storage(program, location.buffer).float(location.offset, location.elements)
    }

    /// Sets one element of a variable of floats in full precision.
    pub fn poke(&mut self, id: VariableId, at: usize, value: T) {
        self.changes += 1;
        self.variables[id.0].poke(at, value);
    }

    /// The plan that `program` replays.
    pub fn plan(&self, program: ProgramId) -> &Plan {
        &self.programs[program.0].plan
    }

    fn check_not_frozen(&self) -> Result<(), ExecutorError> {
        if self.frozen { Err(ExecutorError::Frozen) } else { Ok(()) }
    }

    /// Takes the feeds over.
    fn feed(&mut self, id: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError> {
        let program = &mut self.programs[id.0];
        for (buffer, memory) in program.plan.buffers.iter().zip(&mut program.memory) {
            let (BufferKind::Feed(name), Some(memory)) = (&buffer.kind, memory) else { continue };
            let mismatch = |got: String| ExecutorError::Feed {
                name: name.clone(),
                expected: format!("{} elements of {}", buffer.elements, buffer.dtype),
                got,
            };
            let (_, tensor) =
                feeds.iter().find(|(given, _)| given == name).ok_or_else(|| mismatch("nothing".to_string()))?;
            let ty = tensor.ty();
            if ty.dtype != buffer.dtype || ty.elements() != buffer.elements {
                return Err(mismatch(ty.to_string()));
            }
            memory.fill_from(tensor);
        }
        Ok(())
    }

    /// Goes through the steps, by one of the pool's threads: another would have to be woken for each part of each step.
    /// `done` is called after each step, with its number.
    fn replay(&mut self, id: ProgramId, mut done: impl FnMut(usize, &Step) + Send) {
        let program = &mut self.programs[id.0];
        let first = if program.prepared == Some(self.changes) { program.plan.prepared } else { 0 };
        rayon::scope(|_| {
            for at in first..program.plan.steps.len() {
                program.step(at);
                done(at, &program.plan.steps[at]);
            }
        });
        self.changes += u64::from(program.plan.changes_variables);
        program.prepared = Some(self.changes);
    }

    fn storage<'a>(&'a self, program: &'a Program<T>, buffer: usize) -> &'a Memory<T> {
        match &program.plan.buffers[buffer].kind {
            BufferKind::Variable(id) => &self.variables[id.0],
            _ => program.memory[buffer].as_ref().expect("every buffer but a variable is the program's own"),
        }
    }
}

impl<T: Precision> Executor for CpuExecutor<T> {
    fn device(&self) -> String {
        format!("CPU, {} threads", rayon::current_num_threads())
    }

    fn target(&self) -> Target {
        Target::Cpu
    }

    fn available_memory(&self) -> Option<u64> {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        Some(system.available_memory()).filter(|bytes| *bytes > 0)
    }

    fn declare(&mut self, variables: &Variables) -> Result<(), ExecutorError> {
        for (_, variable) in variables.iter().skip(self.variables.len()) {
            self.variables.push(Memory::zeros(variable.dtype, variable.elements));
        }
        Ok(())
    }

    fn load(&mut self, plan: Plan) -> Result<ProgramId, ExecutorError> {
        self.check_not_frozen()?;
        let mut memory: Vec<Option<Memory<T>>> = plan
            .buffers
            .iter()
            .map(|buffer| match &buffer.kind {
                BufferKind::Variable(_) => None,
                BufferKind::Constant(tensor) => Some(Memory::from_tensor(tensor)),
                BufferKind::Arena | BufferKind::Kept | BufferKind::Feed(_) => {
                    Some(Memory::zeros(buffer.dtype, buffer.elements))
                }
            })
            .collect();
        let mut floats = Memory::zeros(DType::F32, plan.steps.iter().map(widened_elements).max().unwrap_or(0));
        let mut arguments = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let mut raw = |location: &Location| {
                let storage = match &plan.buffers[location.buffer].kind {
                    BufferKind::Variable(id) => &mut self.variables[id.0],
                    _ => memory[location.buffer].as_mut().expect("every buffer but a variable is the program's own"),
                };
                storage.raw(location.offset, location.elements)
            };
            let mut arguments_of_step = Arguments {
                inputs: step.inputs.iter().map(&mut raw).collect(),
                outputs: step.outputs.iter().map(&mut raw).collect(),
                scratch: step.scratch.first().map(&mut raw),
                widened: Vec::new(),
            };
            arguments_of_step.widen(step, &mut floats);
            arguments.push(arguments_of_step);
        }
        self.programs.push(Program { plan, prepared: None, memory, _widened: floats, arguments, finished: Vec::new() });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn freeze(&mut self, id: ProgramId) -> Result<(), ExecutorError> {
        // Where variables change, what is prepared of them is computed again.
        if self.programs.iter().any(|program| program.plan.changes_variables) || self.programs.len() > 1 {
            return Ok(());
        }
        let program = &mut self.programs[id.0];
        let until = program.read_until(self.variables.len());
        for done in 0..=program.plan.prepared {
            for (variable, until) in self.variables.iter_mut().zip(&until) {
                if *until == Some(done) {
                    *variable = Memory::zeros(variable.ty().dtype, 0);
                }
            }
            if done < program.plan.prepared {
                program.step(done);
            }
        }
        program.prepared = Some(self.changes);
        self.frozen = true;
        Ok(())
    }

    fn run(&mut self, id: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError> {
        self.feed(id, feeds)?;
        self.replay(id, |_, _| ());
        let this = &*self;
        let outputs = {
            let program = &this.programs[id.0];
            let tensor = |(name, location, ty): &(String, Location, TensorType)| {
                (name.clone(), this.storage(program, location.buffer).to_tensor(ty, location.offset))
            };
            program.plan.outputs.iter().map(tensor).collect()
        };
        self.programs[id.0].finished.push(outputs);
        Ok(())
    }

    fn profile(&mut self, id: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<Vec<Timing>, ExecutorError> {
        self.feed(id, feeds)?;
        let mut timings = Vec::new();
        let begun = Instant::now();
        let mut start = Duration::ZERO;
        let done = |at: usize, step: &Step| {
            let name = if matches!(step.work, Work::Copy) { "copy" } else { "native" };
            let end = begun.elapsed();
            timings.push(Timing { step: at, name: name.to_string(), start, time: end - start });
            start = begun.elapsed();
        };
        self.replay(id, done);
        Ok(timings)
    }

    fn collect(&mut self, program: ProgramId, _wait: bool) -> Result<Vec<Outputs>, ExecutorError> {
        Ok(std::mem::take(&mut self.programs[program.0].finished))
    }

    fn write(&mut self, id: VariableId, offset: usize, values: &Tensor) -> Result<(), ExecutorError> {
        self.check_not_frozen()?;
        self.changes += 1;
        self.variables[id.0].write(offset, values);
        Ok(())
    }

    fn read(&mut self, id: VariableId) -> Result<Tensor, ExecutorError> {
        self.check_not_frozen()?;
        let memory = &self.variables[id.0];
        Ok(memory.to_tensor(&memory.ty(), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Graph, plan::PlanOptions};

    /// Twice a variable, which is prepared, times an input.
    #[test]
    fn what_depends_on_variables_alone_is_computed_again_when_they_change() {
        let mut variables = Variables::new();
        let scale = variables.add("scale", DType::F32, 1);
        let mut graph = Graph::new();
        let value = graph.variable(scale, 0, TensorType::f32([1]));
        let factor = graph.scale(value, 2.0).unwrap();
        let x = graph.feed("x", TensorType::f32([1000]));
        let y = graph.multiply(x, factor).unwrap();
        graph.output("y", y);
        let mut update = Graph::new();
        let old = update.variable(scale, 0, TensorType::f32([1]));
        let one = update.constant(Tensor::f32([1], vec![1.0]));
        let new = update.add(old, one).unwrap();
        update.assign(scale, new);

        let mut executors: Vec<Box<dyn Executor>> = vec![Box::new(CpuExecutor::new())];
        let gpu = crate::check::software_gpu();
        executors.extend(gpu.map(|gpu| Box::new(crate::gpu::GpuExecutor::new(gpu)) as Box<dyn Executor>));
        for mut executor in executors {
            executor.declare(&variables).unwrap();
            let plan = Plan::new(&graph, &executor.target(), PlanOptions::inference()).unwrap();
            assert_eq!((plan.prepared, plan.steps.len()), (1, 2));
            let program = executor.load(plan).unwrap();
            let update = Plan::new(&update, &executor.target(), PlanOptions::default()).unwrap();
            let update = executor.load(update).unwrap();
            let x = Tensor::f32([1000], vec![1.0; 1000]);
            let result = |executor: &mut dyn Executor| {
                executor.run(program, &[("x", &x)]).unwrap();
                executor.collect(program, true).unwrap().pop().unwrap()[0].1.as_f32().unwrap()[999]
            };
            for _ in 0..2 {
                assert_eq!(result(executor.as_mut()), 0.0);
            }
            executor.write(scale, 0, &Tensor::f32([1], vec![1.0])).unwrap();
            assert_eq!(result(executor.as_mut()), 2.0);
            executor.run(update, &[]).unwrap();
            for _ in 0..2 {
                assert_eq!(result(executor.as_mut()), 4.0);
            }
        }
    }

    /// `counter += step` by an assignment, with `2 * counter` (the old value) as output.
    #[test]
    fn variables_change_at_the_end_of_a_run() {
        let mut variables = Variables::new();
        let counter = variables.add("counter", DType::F32, 3);
        let mut graph = Graph::new();
        let old = graph.variable(counter, 0, TensorType::f32([3]));
        let step = graph.feed("step", TensorType::f32([]));
        let new = graph.add(old, step).unwrap();
        let doubled = graph.scale(old, 2.0).unwrap();
        graph.assign(counter, new);
        graph.output("doubled", doubled);

        let mut cpu = CpuExecutor::new();
        cpu.declare(&variables).unwrap();
        let program = cpu.load(Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap()).unwrap();
        for _ in 0..2 {
            cpu.run(program, &[("step", &Tensor::scalar(1.5))]).unwrap();
        }
        let outputs = cpu.collect(program, true).unwrap();
        assert_eq!(outputs[0][0].1.as_f32(), Some(&[0.0; 3][..]));
        assert_eq!(outputs[1][0].1.as_f32(), Some(&[3.0; 3][..]));
        assert_eq!(cpu.read(counter).unwrap().as_f32(), Some(&[3.0; 3][..]));
        assert!(matches!(cpu.run(program, &[]), Err(ExecutorError::Feed { .. })));
    }

    #[test]
    fn what_was_prepared_is_all_that_stays() {
        let mut variables = Variables::new();
        let [scale, shift] = ["scale", "shift"].map(|name| variables.add(name, DType::F32, 1));
        let mut graph = Graph::new();
        let [factor, term] = [scale, shift].map(|id| graph.variable(id, 0, TensorType::f32([1])));
        let factor = graph.scale(factor, 2.0).unwrap();
        let x = graph.feed("x", TensorType::f32([1000]));
        let y = graph.multiply(x, factor).unwrap();
        let y = graph.add(y, term).unwrap();
        graph.output("y", y);
        let mut executor = CpuExecutor::new();
        executor.declare(&variables).unwrap();
        executor.write(scale, 0, &Tensor::f32([1], vec![3.0])).unwrap();
        executor.write(shift, 0, &Tensor::f32([1], vec![1.0])).unwrap();
        let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::inference()).unwrap();
        let program = executor.load(plan.clone()).unwrap();
        executor.freeze(program).unwrap();
        let held = |id: VariableId| executor.variables[id.0].ty().elements();
        assert_eq!((held(scale), held(shift)), (0, 1));
        for _ in 0..2 {
            executor.run(program, &[("x", &Tensor::f32([1000], vec![1.0; 1000]))]).unwrap();
        }
        for outputs in executor.collect(program, true).unwrap() {
            assert_eq!(outputs[0].1.as_f32().unwrap()[999], 7.0);
        }
        let one = Tensor::f32([1], vec![1.0]);
        assert!(matches!(executor.write(scale, 0, &one), Err(ExecutorError::Frozen)));
        assert!(matches!(executor.read(shift), Err(ExecutorError::Frozen)));
        assert!(matches!(executor.load(plan), Err(ExecutorError::Frozen)));
    }
}
