//! The GPU executor: replays a plan with one submission a run.

use std::sync::Arc;

use super::{
    Checks, Gpu, GpuError, buffer,
    profile::profile,
    program::{Arenas, Program, variable},
    readback::Readback,
    tune::{Tell, Tuner, tune},
    wait::block_on,
};
use crate::{
    graph::{Graph, Variable, VariableId, Variables},
    plan::{
        BufferKind, Choices, Executor, ExecutorError, Outputs, Plan, PlanOptions, ProgramId, Target, Timing, Tuned,
        Tuning, TuningProgress,
    },
    tensor::{Tensor, TensorType},
};

/// Replays plans on a GPU. Up to four runs are under way at once; starting another waits for the oldest.
#[derive(Debug)]
pub struct GpuExecutor {
    gpu: Arc<Gpu>,
    checks: Checks,
    variables: Vec<Variable>,
    buffers: Vec<wgpu::Buffer>,
    /// How often variables changed.
    changes: u64,
    arenas: Arenas,
    pub(super) programs: Vec<(Program, Readback)>,
    tuner: Tuner,
}

impl GpuExecutor {
    /// An executor without variables or programs, whose shaders run without bounds checks.
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self::with_checks(gpu, Checks::Off)
    }

    /// An executor without variables or programs.
    pub fn with_checks(gpu: Arc<Gpu>, checks: Checks) -> Self {
        Self {
            gpu,
            checks,
            variables: Vec::new(),
            buffers: Vec::new(),
            changes: 0,
            arenas: Arenas::default(),
            programs: Vec::new(),
            tuner: Tuner::default(),
        }
    }

    /// With kernels chosen by timing them as far as `tuning` allows, except where `known` says which to take.
    pub fn tuned(mut self, tuning: Tuning, known: Choices) -> Self {
        self.tuner = Tuner::new(&self.gpu, tuning, known);
        self
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    pub(super) fn error(&self, error: GpuError, bytes: u64) -> ExecutorError {
        match error {
            GpuError::Lost { reason } => ExecutorError::Lost(reason),
            GpuError::OutOfMemory { .. } => ExecutorError::OutOfMemory { device: self.device(), bytes },
            other => ExecutorError::Device(other.to_string()),
        }
    }
}

/// Each feed's buffer with its tensor.
fn matched<'a>(
    program: &'a Program,
    feeds: &[(&str, &'a Tensor)],
) -> Result<Vec<(&'a wgpu::Buffer, &'a Tensor)>, ExecutorError> {
    let mut found = Vec::new();
    for (buffer, device) in program.plan.buffers.iter().zip(&program.buffers) {
        let BufferKind::Feed(name) = &buffer.kind else { continue };
        let mismatch = |got: String| ExecutorError::Feed {
            name: name.clone(),
            expected: format!("{} elements of {}", buffer.elements, buffer.dtype),
            got,
        };
        let given = feeds.iter().find(|(given, _)| given == name);
        let (_, tensor) = given.ok_or_else(|| mismatch("nothing".to_string()))?;
        let ty = tensor.ty();
        if ty.dtype != buffer.dtype || ty.elements() != buffer.elements {
            return Err(mismatch(ty.to_string()));
        }
        found.push((device, *tensor));
    }
    Ok(found)
}

fn write_feeds(gpu: &Gpu, feeds: &[(&wgpu::Buffer, &Tensor)]) {
    for (device, tensor) in feeds {
        buffer::write(gpu, device, 0, tensor.bytes());
    }
}

/// What waits for the device, for callers that may not block; [`Executor`] has the same, blocking.
impl GpuExecutor {
    /// As [`Executor::tune`].
    ///
    /// # Errors
    /// As [`Executor::tune`].
    pub async fn tune_async(
        &mut self,
        graph: &Graph,
        variables: &Variables,
        options: PlanOptions,
    ) -> Result<Tuned, ExecutorError> {
        tune(&self.gpu, &mut self.tuner, graph, variables, options).await
    }

    /// As [`Executor::run`]: it waits where four runs are under way.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn run_async(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError> {
        let gpu = self.gpu.clone();
        let (program, readback) = &mut self.programs[program.0];
        let feeds = matched(program, feeds)?;
        let first = program.first_step(self.changes);
        let submitted = readback.acquire(&gpu).await.and_then(|outputs| {
            gpu.catch("running a plan", || {
                write_feeds(&gpu, &feeds);
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                program.encode(first, &mut encoder);
                readback.encode(program, &mut encoder, &outputs);
                let submission = gpu.queue.submit([encoder.finish()]);
                readback.submitted(&gpu, outputs, submission);
            })
        });
        if submitted.is_ok() {
            self.changes += u64::from(program.plan.changes_variables);
            program.prepared = Some(self.changes);
        }
        submitted.map_err(|error| self.error(error, 0))
    }

    /// As [`Executor::collect`].
    ///
    /// # Errors
    /// As [`Executor::collect`].
    pub async fn collect_async(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Outputs>, ExecutorError> {
        let collected = self.programs[program.0].1.collect(&self.gpu, wait).await;
        collected.map_err(|error| self.error(error, 0))
    }

    /// As [`Executor::profile`].
    ///
    /// # Errors
    /// As [`Executor::profile`].
    pub async fn profile_async(
        &mut self,
        program: ProgramId,
        feeds: &[(&str, &Tensor)],
    ) -> Result<Vec<Timing>, ExecutorError> {
        let (program, _) = &self.programs[program.0];
        let feeds = matched(program, feeds)?;
        let first = program.first_step(self.changes);
        let timed = match self.gpu.catch("writing inputs", || write_feeds(&self.gpu, &feeds)) {
            Ok(()) => profile(&self.gpu, program, |step| step >= first).await,
            Err(error) => Err(error),
        };
        self.changes += u64::from(program.plan.changes_variables);
        timed.map_err(|error| self.error(error, 0))
    }

    /// As [`Executor::read`].
    ///
    /// # Errors
    /// As [`Executor::read`].
    pub async fn read_async(&mut self, id: VariableId) -> Result<Tensor, ExecutorError> {
        let (variable, device) = (&self.variables[id.0], &self.buffers[id.0]);
        let ty = TensorType { dtype: variable.dtype, shape: [variable.elements].into() };
        let bytes = ty.bytes() as u64;
        let read = buffer::read(&self.gpu, device, 0, bytes).await.map(|bytes| buffer::tensor(&ty, &bytes));
        read.map_err(|error| self.error(error, bytes))
    }
}

impl Executor for GpuExecutor {
    fn device(&self) -> String {
        self.gpu.info().name.clone()
    }

    fn target(&self) -> Target {
        Target::Gpu(self.gpu.limits().clone(), self.tuner.choices.clone())
    }

    /// WebGPU does not tell: what is too much fails when it is allocated.
    fn available_memory(&self) -> Option<u64> {
        None
    }

    fn declare(&mut self, variables: &Variables) -> Result<(), ExecutorError> {
        for (_, declared) in variables.iter().skip(self.variables.len()) {
            let bytes = (declared.elements * declared.dtype.size()) as u64;
            let made = variable(&self.gpu, &declared.name, bytes).map_err(|error| self.error(error, bytes))?;
            self.buffers.push(made);
            self.variables.push(declared.clone());
        }
        Ok(())
    }

    fn load(&mut self, plan: Plan) -> Result<ProgramId, ExecutorError> {
        let bytes = plan.memory.planned + plan.memory.resident;
        let made = Program::new(&self.gpu, plan, &self.buffers, &mut self.arenas, self.checks)
            .and_then(|program| Readback::new(&self.gpu, &program).map(|readback| (program, readback)));
        self.programs.push(made.map_err(|error| self.error(error, bytes))?);
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn write(&mut self, id: VariableId, offset: usize, values: &Tensor) -> Result<(), ExecutorError> {
        let (variable, device) = (&self.variables[id.0], &self.buffers[id.0]);
        let ty = values.ty();
        if ty.dtype != variable.dtype || offset + ty.elements() > variable.elements {
            let message = format!("{ty} at {offset} does not fit {} elements of {}", variable.elements, variable.dtype);
            return Err(ExecutorError::Device(format!("variable {}: {message}", variable.name)));
        }
        self.changes += 1;
        let start = (offset * ty.dtype.size()) as u64;
        let written = self.gpu.catch(&variable.name, || {
            buffer::write(&self.gpu, device, start, values.bytes());
            // Without a submission, writes of many variables would pile up in staging memory.
            self.gpu.queue.submit([]);
        });
        written.map_err(|error| self.error(error, 0))
    }

    fn on_tuning(&mut self, tell: Box<dyn FnMut(TuningProgress) + Send>) {
        self.tuner.tell = Some(Tell(tell));
    }

    fn tune(&mut self, graph: &Graph, variables: &Variables, options: PlanOptions) -> Result<Tuned, ExecutorError> {
        block_on(self.tune_async(graph, variables, options))
    }

    fn run(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError> {
        block_on(self.run_async(program, feeds))
    }

    fn collect(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Outputs>, ExecutorError> {
        block_on(self.collect_async(program, wait))
    }

    fn profile(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<Vec<Timing>, ExecutorError> {
        block_on(self.profile_async(program, feeds))
    }

    fn read(&mut self, id: VariableId) -> Result<Tensor, ExecutorError> {
        block_on(self.read_async(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{self, software_gpu},
        cpu::CpuExecutor,
        gpu::DeviceChoice,
        tensor::{DType, f16},
    };

    fn executor() -> Option<GpuExecutor> {
        software_gpu().map(GpuExecutor::new)
    }

    fn load(executor: &mut dyn Executor, graph: &Graph) -> ProgramId {
        let plan = Plan::new(graph, &executor.target(), PlanOptions::default()).unwrap();
        executor.load(plan).unwrap()
    }

    /// `counter += step` by an assignment, with `2 * counter` (the old value) as output.
    fn counter(id: VariableId) -> Graph {
        let mut graph = Graph::new();
        let old = graph.variable(id, 0, TensorType::f32([3]));
        let step = graph.feed("step", TensorType::f32([]));
        let new = graph.add(old, step).unwrap();
        let doubled = graph.scale(old, 2.0).unwrap();
        graph.assign(id, new);
        graph.output("doubled", doubled);
        graph
    }

    /// An odd number of halves, which end within a word: a variable, its update, a feed, and outputs of each narrow type.
    #[test]
    fn narrow_values_are_those_of_the_cpu() {
        let Some(gpu) = executor().filter(|gpu| gpu.gpu().limits().f16) else { return };
        let mut variables = Variables::new();
        let id = variables.add("halves", DType::F16, 5);
        let mut graph = Graph::new();
        let old = graph.variable(id, 0, TensorType::f16([5]));
        let x = graph.feed("x", TensorType::f16([5]));
        let new = graph.add(old, x).unwrap();
        let bytes = graph.cast(new, DType::I8).unwrap();
        graph.assign(id, new);
        graph.output("new", new);
        graph.output("bytes", bytes);
        let x = Tensor::f16([5], [1.5, -200.0, 0.1, 3e-6, 1000.0].map(f16::from_f32).to_vec());
        let mut executors: [Box<dyn Executor>; 2] = [Box::new(CpuExecutor::new()), Box::new(gpu)];
        let mut results = executors.iter_mut().map(|executor| {
            executor.declare(&variables).unwrap();
            executor.write(id, 0, &Tensor::f16([5], vec![f16::from_f32(0.25); 5])).unwrap();
            let program = load(&mut **executor, &graph);
            for _ in 0..2 {
                executor.run(program, &[("x", &x)]).unwrap();
            }
            (executor.collect(program, true).unwrap(), executor.read(id).unwrap())
        });
        let [cpu, gpu] = [results.next(), results.next()];
        assert_eq!(gpu, cpu);
        let (outputs, halves) = cpu.unwrap();
        assert_eq!(halves.to_f32().unwrap()[..2], [3.25, -399.75]);
        assert_eq!(outputs[1][1].1, Tensor::i8([5], vec![3, -128, 0, 0, 127]));
    }

    #[test]
    fn runs_follow_each_other_and_outputs_come_in_order() {
        let mut variables = Variables::new();
        let id = variables.add("counter", DType::F32, 3);
        let Some(mut gpu) = executor() else { return };
        gpu.declare(&variables).unwrap();
        gpu.write(id, 1, &Tensor::f32([2], vec![10.0, 20.0])).unwrap();
        let program = load(&mut gpu, &counter(id));
        // More runs than may be under way at once.
        for _ in 0..11 {
            gpu.run(program, &[("step", &Tensor::scalar(0.5))]).unwrap();
        }
        let outputs = gpu.collect(program, true).unwrap();
        assert_eq!(outputs.len(), 11);
        for (run, output) in outputs.iter().enumerate() {
            let run = run as f32;
            assert_eq!(output[0].1.as_f32(), Some(&[run, run + 20.0, run + 40.0][..]));
        }
        assert_eq!(gpu.read(id).unwrap().as_f32(), Some(&[5.5, 15.5, 25.5][..]));
        assert!(gpu.collect(program, true).unwrap().is_empty());
    }

    /// A least-squares fit by gradient descent: its losses, and the weights at the end.
    fn fit() -> (Graph, Variables, VariableId) {
        let mut variables = Variables::new();
        let id = variables.add("weight", DType::F32, 6);
        let mut graph = Graph::new();
        let weight = graph.variable(id, 0, TensorType::f32([3, 2]));
        let x = graph.feed("x", TensorType::f32([4, 3]));
        let y = graph.dense(x, weight).unwrap();
        let target = graph.constant(check::random([4, 2], 7));
        let off = graph.subtract(y, target).unwrap();
        let squares = graph.multiply(off, off).unwrap();
        let loss = graph.sum(squares, &[0, 1]).unwrap();
        let gradient = crate::autodiff::gradients(&mut graph, loss, &[weight]).unwrap()[0];
        let step = graph.scale(gradient, -0.05).unwrap();
        let next = graph.add(weight, step).unwrap();
        let next = graph.reshape(next, [6]).unwrap();
        graph.assign(id, next);
        graph.output("loss", loss);
        (graph, variables, id)
    }

    #[test]
    fn training_without_blocking_gives_the_same_numbers() {
        const STEPS: usize = 9;
        let (graph, variables, id) = fit();
        let inputs: Vec<Tensor> = (0..STEPS as u64).map(|step| check::random([4, 3], step)).collect();
        let Some(shared) = software_gpu() else { return };
        let choice = DeviceChoice::Named(shared.info().name.clone());

        let mut blocking = GpuExecutor::new(shared);
        blocking.declare(&variables).unwrap();
        let program = load(&mut blocking, &graph);
        for x in &inputs {
            blocking.run(program, &[("x", x)]).unwrap();
        }
        let expected = (blocking.collect(program, true).unwrap(), blocking.read(id).unwrap());

        let trained = pollster::block_on(async {
            let gpu = Gpu::open_with_async(&choice, None).await.unwrap().unwrap();
            let mut executor = GpuExecutor::new(gpu);
            executor.declare(&variables).unwrap();
            let program = load(&mut executor, &graph);
            let mut losses = Vec::new();
            for x in &inputs {
                executor.run_async(program, &[("x", x)]).await.unwrap();
                losses.extend(executor.collect_async(program, false).await.unwrap());
            }
            losses.extend(executor.collect_async(program, true).await.unwrap());
            (losses, executor.read_async(id).await.unwrap())
        });
        let losses: Vec<f32> = expected.0.iter().map(|outputs| outputs[0].1.as_f32().unwrap()[0]).collect();
        assert!(losses.len() == STEPS && losses.first() != losses.last(), "{losses:?}");
        assert_eq!(trained, expected);
    }

    #[test]
    fn programs_share_variables_and_working_memory() {
        let mut variables = Variables::new();
        let id = variables.add("counter", DType::F32, 3);
        let Some(mut gpu) = executor() else { return };
        gpu.declare(&variables).unwrap();
        let train = load(&mut gpu, &counter(id));
        let before = gpu.arenas.len();
        let mut graph = Graph::new();
        let value = graph.variable(id, 0, TensorType::f32([3]));
        let squared = graph.multiply(value, value).unwrap();
        let sum = graph.sum(squared, &[0]).unwrap();
        graph.output("sum", sum);
        let evaluate = load(&mut gpu, &graph);
        assert_eq!((before, gpu.arenas.len()), (2, 2));
        gpu.run(train, &[("step", &Tensor::scalar(2.0))]).unwrap();
        gpu.run(evaluate, &[]).unwrap();
        assert_eq!(gpu.collect(evaluate, true).unwrap()[0][0].1.as_f32(), Some(&[12.0][..]));
    }

    /// Values of odd sizes side by side: windows that begin off alignment, and one that is computed from its neighbour.
    #[test]
    fn packed_values_match_the_cpu() {
        let Some(mut gpu) = executor() else { return };
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([3, 5]));
        let a = graph.sum(x, &[0]).unwrap();
        let b = graph.scale(a, 3.0).unwrap();
        let c = graph.sum(x, &[1]).unwrap();
        let packed = graph.pack(&[a, b, c], vec![0, 5, 11], 16).unwrap();
        graph.output("packed", packed);
        let x = Tensor::f32([3, 5], (0..15).map(|i| i as f32).collect());
        let run = |executor: &mut dyn Executor| {
            let program = load(executor, &graph);
            executor.run(program, &[("x", &x)]).unwrap();
            executor.collect(program, true).unwrap().remove(0).remove(0).1
        };
        assert_eq!(run(&mut gpu), run(&mut CpuExecutor::new()));
    }

    #[test]
    fn bytes_travel_packed() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::u8([7]));
        graph.output("x", x);
        let Some(mut gpu) = executor() else { return };
        let program = load(&mut gpu, &graph);
        let x = Tensor::u8([7], (1..8).collect());
        gpu.run(program, &[("x", &x)]).unwrap();
        assert_eq!(gpu.collect(program, true).unwrap()[0][0].1, x);
    }

    #[test]
    fn a_run_without_outputs_ends() {
        let mut variables = Variables::new();
        let id = variables.add("v", DType::F32, 2);
        let mut graph = Graph::new();
        let value = graph.variable(id, 0, TensorType::f32([2]));
        let one = graph.constant(Tensor::scalar(1.0));
        let next = graph.add(value, one).unwrap();
        graph.assign(id, next);
        let Some(mut gpu) = executor() else { return };
        gpu.declare(&variables).unwrap();
        let program = load(&mut gpu, &graph);
        for _ in 0..6 {
            gpu.run(program, &[]).unwrap();
        }
        assert_eq!(gpu.collect(program, true).unwrap().len(), 6);
        assert_eq!(gpu.read(id).unwrap().as_f32(), Some(&[6.0, 6.0][..]));
    }

    #[test]
    fn each_dispatch_is_timed() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([100_000]));
        let sum = graph.sum(x, &[0]).unwrap();
        graph.output("sum", sum);
        let Some(mut gpu) = executor() else { return };
        let program = load(&mut gpu, &graph);
        let timings = gpu.profile(program, &[("x", &Tensor::zeros(&TensorType::f32([100_000])))]).unwrap();
        assert_eq!(timings.len(), 2);
        assert!(timings.iter().all(|timing| timing.name == "reduce/terms" && timing.step == 0));
        assert!(timings.iter().any(|timing| !timing.time.is_zero()));
    }

    #[test]
    fn mistakes_are_errors() {
        let mut variables = Variables::new();
        let id = variables.add("counter", DType::F32, 3);
        let Some(mut gpu) = executor() else { return };
        gpu.declare(&variables).unwrap();
        let program = load(&mut gpu, &counter(id));
        assert!(matches!(gpu.run(program, &[]), Err(ExecutorError::Feed { .. })));
        let wrong = Tensor::u32([], vec![1]);
        assert!(matches!(gpu.run(program, &[("step", &wrong)]), Err(ExecutorError::Feed { .. })));
        assert!(gpu.write(id, 2, &Tensor::f32([2], vec![0.0; 2])).is_err());
        variables.add("huge", DType::F32, 1 << 40);
        let error = gpu.declare(&variables).unwrap_err().to_string();
        assert!(error.contains("huge"), "{error}");
    }

    #[test]
    fn compiled_pipelines_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let Some(gpu) = software_gpu() else { return };
        let choice = DeviceChoice::Named(gpu.info().name.clone());
        for _ in 0..2 {
            let gpu = Gpu::open_with(&choice, Some(folder.path().into())).unwrap().unwrap();
            let mut gpu = GpuExecutor::new(gpu);
            let mut graph = Graph::new();
            let x = graph.feed("x", TensorType::f32([4]));
            let doubled = graph.scale(x, 2.0).unwrap();
            graph.output("doubled", doubled);
            let program = load(&mut gpu, &graph);
            gpu.run(program, &[("x", &Tensor::f32([4], vec![1.0; 4]))]).unwrap();
            assert_eq!(gpu.collect(program, true).unwrap()[0][0].1.as_f32(), Some(&[2.0; 4][..]));
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, 1);
        }
    }
}
