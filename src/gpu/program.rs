//! A plan made ready to be replayed: its buffers, and its steps as dispatches and copies.

use std::{collections::HashSet, sync::Arc};

use super::{Checks, Gpu, GpuError, buffer, buffer::padded, pipeline::Pipeline, shader};
use crate::{
    kernel::gpu::{Binding, Candidate},
    plan::{BufferKind, Location, Plan, Step, Work},
    tensor::Tensor,
};

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// Bytes of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
}

/// What the device is told to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Copies between two buffers.
    Copy { from: Window, to: Window },
    /// Runs a shader.
    Dispatch { name: String, pipeline: Arc<Pipeline>, group: wgpu::BindGroup, workgroups: [u32; 3] },
}

/// A loaded plan.
#[derive(Debug)]
pub(super) struct Program {
    pub plan: Plan,
    pub buffers: Vec<wgpu::Buffer>,
    /// The commands of the steps in order, each with the number of its step.
    pub commands: Vec<(usize, Command)>,
    /// The state of the variables that its first steps were run for.
    pub prepared: Option<u64>,
}

/// Working memory that all programs of an executor share: one runs after the other, and none expects anything there.
#[derive(Debug, Default)]
pub(super) struct Arenas(Vec<wgpu::Buffer>);

impl Arenas {
    /// Buffers of at least these sizes, each another one.
    fn take(&mut self, gpu: &Gpu, sizes: &[u64]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let mut free: Vec<wgpu::Buffer> = self.0.clone();
        sizes
            .iter()
            .map(|&bytes| {
                let fitting = (0..free.len()).filter(|&at| free[at].size() >= bytes).min_by_key(|&at| free[at].size());
                if let Some(at) = fitting {
                    return Ok(free.swap_remove(at));
                }
                let buffer = gpu.buffer("working memory", bytes, USAGE)?;
                self.0.push(buffer.clone());
                Ok(buffer)
            })
            .collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Allocates the buffer of a variable, zeroed.
pub(super) fn variable(gpu: &Gpu, name: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
    gpu.buffer(name, bytes, USAGE)
}

impl Program {
    /// Allocates buffers, compiles pipelines and makes bind groups.
    pub fn new(
        gpu: &Gpu,
        plan: Plan,
        variables: &[wgpu::Buffer],
        arenas: &mut Arenas,
        checks: Checks,
    ) -> Result<Self, GpuError> {
        let buffers = allocate(gpu, &plan, variables, arenas)?;
        let passes: Vec<_> = plan.steps.iter().filter_map(kernel).flat_map(|kernel| &kernel.passes).collect();
        let pipelines = gpu.pipelines(&passes, checks)?;
        let mut pipelines = pipelines.into_iter();
        let mut commands = Vec::new();
        for (at, step) in plan.steps.iter().enumerate() {
            let layer = if step.layer.is_empty() { step.name() } else { &step.layer };
            let mut builder = StepBuilder { gpu, plan: &plan, buffers: &buffers, step, what: layer, after: Vec::new() };
            let made = match kernel(step) {
                Some(kernel) => builder.dispatches(kernel, &mut pipelines)?,
                None => builder.copy()?,
            };
            commands.extend(made.into_iter().map(|command| (at, command)));
        }
        Ok(Self { plan, buffers, commands, prepared: None })
    }

    /// Bytes at a location.
    pub fn window(&self, location: &Location) -> Window {
        window(&self.plan, &self.buffers, location)
    }

    /// The first step that has to run where variables have changed so often.
    pub fn first_step(&self, changes: u64) -> usize {
        if self.prepared == Some(changes) { self.plan.prepared } else { 0 }
    }

    /// Records the commands of the steps from `first` on.
    pub fn encode(&self, first: usize, encoder: &mut wgpu::CommandEncoder) {
        let skipped = self.commands.partition_point(|(step, _)| *step < first);
        for run in self.commands[skipped..].chunk_by(|(_, a), (_, b)| a.is_dispatch() == b.is_dispatch()) {
            if run[0].1.is_dispatch() {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                run.iter().for_each(|(_, command)| command.dispatch(&mut pass));
            } else {
                run.iter().for_each(|(_, command)| command.copy(encoder));
            }
        }
    }
}

impl Command {
    pub fn is_dispatch(&self) -> bool {
        matches!(self, Command::Dispatch { .. })
    }

    /// Records the command if it runs a shader.
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Command::Dispatch { pipeline, group, workgroups: [x, y, z], .. } = self {
            pass.set_pipeline(&pipeline.compute);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }

    /// Records the command if it copies.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Command::Copy { from, to } = self {
            encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &to.buffer, to.offset, padded(from.bytes));
        }
    }
}

fn kernel(step: &Step) -> Option<&Candidate> {
    match &step.work {
        Work::Run { kernel, .. } => kernel.as_ref(),
        Work::Copy => None,
    }
}

fn window(plan: &Plan, buffers: &[wgpu::Buffer], location: &Location) -> Window {
    let size = plan.buffers[location.buffer].dtype.size();
    Window {
        buffer: buffers[location.buffer].clone(),
        offset: (location.offset * size) as u64,
        bytes: (location.elements * size) as u64,
    }
}

fn allocate(
    gpu: &Gpu,
    plan: &Plan,
    variables: &[wgpu::Buffer],
    arenas: &mut Arenas,
) -> Result<Vec<wgpu::Buffer>, GpuError> {
    let bytes = |buffer: &crate::plan::Buffer| (buffer.elements * buffer.dtype.size()) as u64;
    let shared: Vec<u64> =
        plan.buffers.iter().filter(|buffer| matches!(buffer.kind, BufferKind::Arena)).map(bytes).collect();
    let mut shared = arenas.take(gpu, &shared)?.into_iter();
    let mut buffers = Vec::with_capacity(plan.buffers.len());
    for buffer in &plan.buffers {
        let bytes = bytes(buffer);
        buffers.push(match &buffer.kind {
            BufferKind::Arena => shared.next().expect("one buffer was taken for each"),
            BufferKind::Variable(id) => variables
                .get(id.0)
                .cloned()
                .ok_or_else(|| GpuError::invalid("loading a plan", format!("variable {} is not declared", id.0)))?,
            // Buffers begin as zeros.
            BufferKind::Kept => gpu.buffer("what is kept", bytes, USAGE)?,
            BufferKind::Feed(name) => gpu.buffer(name, bytes, USAGE)?,
            BufferKind::Constant(tensor) => constant(gpu, tensor)?,
        });
    }
    Ok(buffers)
}

fn constant(gpu: &Gpu, tensor: &Tensor) -> Result<wgpu::Buffer, GpuError> {
    let made = gpu.buffer("constant", tensor.bytes().len() as u64, USAGE)?;
    gpu.catch("writing a constant", || buffer::write(gpu, &made, 0, tensor.bytes()))?;
    Ok(made)
}

/// Makes the commands of one step.
struct StepBuilder<'a> {
    gpu: &'a Gpu,
    plan: &'a Plan,
    buffers: &'a [wgpu::Buffer],
    step: &'a Step,
    /// The step in messages.
    what: &'a str,
    /// Copies that follow the dispatches.
    after: Vec<Command>,
}

impl StepBuilder<'_> {
    fn window(&self, location: &Location) -> Window {
        window(self.plan, self.buffers, location)
    }

    /// A buffer of its own for what cannot be bound where it lies.
    fn aside(&self, window: &Window) -> Result<Window, GpuError> {
        tracing::debug!("{}: {} bytes are copied to be bound", self.what, window.bytes);
        let buffer = self.gpu.buffer(self.what, window.bytes, USAGE)?;
        Ok(Window { buffer, offset: 0, bytes: window.bytes })
    }

    fn copy(&mut self) -> Result<Vec<Command>, GpuError> {
        let (from, to) = (self.window(&self.step.inputs[0]), self.window(&self.step.outputs[0]));
        if from.buffer != to.buffer {
            return Ok(vec![Command::Copy { from, to }]);
        }
        // A copy within one buffer is not allowed.
        let aside = self.aside(&from)?;
        Ok(vec![Command::Copy { from, to: aside.clone() }, Command::Copy { from: aside, to }])
    }

    fn dispatches(
        &mut self,
        kernel: &Candidate,
        pipelines: &mut impl Iterator<Item = Arc<Pipeline>>,
    ) -> Result<Vec<Command>, GpuError> {
        let bound: HashSet<Binding> = kernel.passes.iter().flat_map(|pass| &pass.bindings).copied().collect();
        let mut commands = Vec::new();
        let inputs = self.inputs(&bound, &mut commands)?;
        let outputs = self.outputs(&bound, &mut commands)?;
        let scratch: Vec<Window> = self.step.scratch.iter().map(|location| self.window(location)).collect();
        for pass in &kernel.passes {
            let windows: Vec<&Window> = pass
                .bindings
                .iter()
                .map(|binding| match *binding {
                    Binding::Input(at) => &inputs[at],
                    Binding::Output(at) | Binding::OutputRead(at) => &outputs[at],
                    Binding::Scratch(at) | Binding::ScratchRead(at) => &scratch[at],
                })
                .collect();
            for window in &windows {
                self.gpu.check_binding(self.what, window.bytes)?;
            }
            let pipeline = pipelines.next().expect("one pipeline was made for each pass");
            let bindings = windows.iter().map(|window| (&window.buffer, window.offset, padded(window.bytes)));
            let group = self.gpu.catch(self.what, || pipeline.bind(self.gpu, bindings))?;
            let name = shader::name(&pass.shader);
            commands.push(Command::Dispatch { name, pipeline, group, workgroups: pass.workgroups });
        }
        commands.append(&mut self.after);
        Ok(commands)
    }

    fn aligned(&self, window: &Window) -> bool {
        window.offset.is_multiple_of(self.gpu.limits().offset_alignment.into())
    }

    /// Where the inputs are bound. One that is misaligned, or shares its buffer with an output, is copied first: a
    /// buffer may not be read only and written in one dispatch.
    fn inputs(&self, bound: &HashSet<Binding>, commands: &mut Vec<Command>) -> Result<Vec<Window>, GpuError> {
        let mut inputs = Vec::with_capacity(self.step.inputs.len());
        for (at, location) in self.step.inputs.iter().enumerate() {
            let mut window = self.window(location);
            let written = self.step.outputs.iter().any(|output| output.buffer == location.buffer);
            if bound.contains(&Binding::Input(at)) && (written || !self.aligned(&window)) {
                let aside = self.aside(&window)?;
                commands.push(Command::Copy { from: window, to: aside.clone() });
                window = aside;
            }
            inputs.push(window);
        }
        Ok(inputs)
    }

    /// Where the outputs are bound. One that is misaligned, or is read by a later pass beside another output in its
    /// buffer, is computed elsewhere and copied to its place.
    fn outputs(&mut self, bound: &HashSet<Binding>, commands: &mut Vec<Command>) -> Result<Vec<Window>, GpuError> {
        let locations = &self.step.outputs;
        let mut outputs = Vec::with_capacity(locations.len());
        for (at, location) in locations.iter().enumerate() {
            let mut window = self.window(location);
            let neighbours = locations.iter().filter(|other| other.buffer == location.buffer).count() > 1;
            if neighbours && bound.contains(&Binding::OutputRead(at)) || !self.aligned(&window) {
                let aside = self.aside(&window)?;
                if let Work::Run { op, .. } = &self.step.work
                    && op.in_place().iter().any(|(_, output)| *output == at)
                {
                    commands.push(Command::Copy { from: window.clone(), to: aside.clone() });
                }
                self.after.push(Command::Copy { from: aside.clone(), to: window });
                window = aside;
            }
            outputs.push(window);
        }
        Ok(outputs)
    }
}
