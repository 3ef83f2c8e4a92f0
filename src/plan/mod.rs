//! The plan: a graph made flat, once. Operations are fused, kernels chosen, values laid out in buffers that they share
//! where their lifetimes do not meet, and what is left is a list of steps that an executor replays.

mod choices;
mod executor;
mod ir;
mod lower;
mod memory;
mod passes;
mod placement;
mod table;

pub use choices::{Choices, Tuning, call};
pub use executor::{Executor, ExecutorError, Outputs, ProgramId, Timing, Tuned, TuningProgress};
pub use memory::MemoryUse;
pub use passes::PassReport;

use std::sync::Arc;

use ir::Ir;
use thiserror::Error;

use crate::{
    graph::{DynOp, Graph, VariableId},
    kernel::{Signature, gpu},
    tensor::{DType, Tensor, TensorType},
};

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Native code on this machine's processor.
    Cpu,
    /// A GPU of these limits, and the kernels that were found to be fast on it.
    Gpu(gpu::Limits, Choices),
}

impl Target {
    /// Elements that a block of parameters may have, so that one binding spans it.
    pub fn block_limit(&self) -> usize {
        match self {
            Self::Cpu => usize::MAX,
            Self::Gpu(limits, _) => (limits.max_binding.min(limits.max_buffer) / 4) as usize,
        }
    }
}

/// How a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Compute equal values once, and what one operation makes beside another's value by that one alone; fuse chains of
    /// pointwise operations, and those after a convolution or a matrix product into it.
    pub fuse: bool,
    /// Let values share buffers. Without it every value of the graph can be read after a run.
    pub share: bool,
    /// Compute pointwise values again for readers much later, such as a backward pass, instead of keeping them: less
    /// memory for more time.
    pub recompute: bool,
    /// Compute what depends on variables and constants alone once, and again when variables changed, instead of in each
    /// run: such as the scale and shift of a batch norm in inference.
    pub prepare: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { fuse: true, share: true, recompute: false, prepare: false }
    }
}

impl PlanOptions {
    /// Of a program that runs often between changes of the variables.
    pub fn inference() -> Self {
        Self { prepare: true, ..Self::default() }
    }
}

/// A graph ready to be replayed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Memory that the steps work on.
    pub buffers: Vec<Buffer>,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// How many of the steps, which come first, need to run only once after variables changed.
    pub prepared: usize,
    /// Whether a run changes variables.
    pub changes_variables: bool,
    /// What a run hands back: name, place and type.
    pub outputs: Vec<(String, Location, TensorType)>,
    /// How much memory that is.
    pub memory: MemoryUse,
}

/// A block of memory.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub elements: usize,
    /// Whose it is and what it holds when a run begins.
    pub kind: BufferKind,
}

/// Whose a buffer is and what it holds when a run begins.
#[derive(Clone, Debug)]
pub enum BufferKind {
    /// Shared by values of this plan; arbitrary.
    Arena,
    /// This plan's own, zero before the first run; what no step writes stays as it is from run to run.
    Kept,
    /// A variable, shared with other plans.
    Variable(VariableId),
    /// What the caller gives for each run under this name.
    Feed(String),
    /// Always this tensor.
    Constant(Arc<Tensor>),
}

/// A window into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Number of the buffer in [`Plan::buffers`].
    pub buffer: usize,
    /// First element.
    pub offset: usize,
    /// Number of elements.
    pub elements: usize,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// Path of the layer it belongs to.
    pub layer: String,
    /// What it reads.
    pub inputs: Vec<Location>,
    /// What it writes.
    pub outputs: Vec<Location>,
    /// Working memory, its contents arbitrary.
    pub scratch: Vec<Location>,
    /// What it does.
    pub work: Work,
    /// Names of the pointwise operations that it applies to its result before it is stored, joined by `+`.
    pub epilogue: String,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Copies its input to its output.
    Copy,
    /// Applies an operation.
    Run {
        /// The operation.
        op: Arc<dyn DynOp>,
        /// Types of its inputs and outputs.
        signature: Signature,
        /// The GPU kernel, in a plan for a GPU.
        kernel: Option<gpu::Candidate>,
    },
}

impl Step {
    /// Name of the operation.
    pub fn name(&self) -> &str {
        match &self.work {
            Work::Copy => "copy",
            Work::Run { op, .. } => op.name(),
        }
    }

    /// The operation with all that was fused into it, such as `conv2d+bias+relu`.
    pub fn description(&self) -> String {
        if self.epilogue.is_empty() { self.name().to_string() } else { format!("{}+{}", self.name(), self.epilogue) }
    }

    /// Floating-point operations.
    pub fn flop(&self) -> u64 {
        match &self.work {
            Work::Copy => 0,
            Work::Run { op, signature, .. } => op.flop(signature),
        }
    }

    /// Bytes that its dispatches move, each buffer that one binds once: partial sums between two dispatches of one
    /// kernel count on top of [`Step::bytes`].
    pub fn moved(&self) -> u64 {
        let Work::Run { op, signature, kernel: Some(kernel) } = &self.work else { return self.bytes() };
        let read_in_place: usize = op.in_place().iter().map(|(input, _)| signature.inputs[*input].bytes()).sum();
        let bindings = kernel.passes.iter().flat_map(|pass| &pass.bindings);
        let bytes = bindings.map(|binding| match *binding {
            gpu::Binding::Input(at) => signature.inputs[at].bytes(),
            gpu::Binding::Output(at) | gpu::Binding::OutputRead(at) => signature.outputs[at].bytes(),
            gpu::Binding::Scratch(at) | gpu::Binding::ScratchRead(at) => 4 * kernel.scratch[at],
        });
        (read_in_place + bytes.sum::<usize>()) as u64
    }

    /// Number of dispatches, or of calls of native code.
    pub fn dispatches(&self) -> usize {
        match &self.work {
            Work::Run { kernel: Some(kernel), .. } => kernel.passes.len(),
            _ => 1,
        }
    }

    /// Bytes that must at least be moved: each input read once, each output written once.
    pub fn bytes(&self) -> u64 {
        match &self.work {
            Work::Copy => 8 * self.outputs[0].elements as u64,
            Work::Run { signature, .. } => signature.bytes(),
        }
    }
}

/// A graph that no plan can be made of for this target.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// No GPU kernel takes these shapes.
    #[error("layer {layer}: {op}({types}) has no kernel for this device; use the `device` cpu")]
    NoKernel {
        /// Path of the layer.
        layer: String,
        /// Name of the operation.
        op: String,
        /// Types of the inputs.
        types: String,
    },
    /// The kernels hold 16-bit floats, and the device has none.
    #[error(
        "layer {layer}: {op}({types}) takes 16-bit floats in shaders (SHADER_F16), which {adapter} does not have; \
         use f32 or --device cpu"
    )]
    NoF16 {
        /// Path of the layer.
        layer: String,
        /// Name of the operation.
        op: String,
        /// Types of the inputs.
        types: String,
        /// Name of the device.
        adapter: String,
    },
    /// A value of narrow elements begins within a word of the device's memory.
    #[error(
        "layer {layer}: {what} begins within a word of 4 bytes, which this device cannot address; \
         use an offset of whole words or --device cpu"
    )]
    Unaligned {
        /// Path of the layer.
        layer: String,
        /// The value's type and where it begins.
        what: String,
    },
    /// A value does not fit into one buffer of the device.
    #[error(
        "layer {layer}: {what} needs a buffer of {bytes} bytes, and this device's limit is {limit}; \
         use a smaller `batch_size`, smaller images or the `device` cpu"
    )]
    TooLarge {
        /// Path of the layer.
        layer: String,
        /// Type of the value.
        what: String,
        /// Bytes that it needs.
        bytes: u64,
        /// Bytes that a binding may span.
        limit: u64,
    },
}

impl Plan {
    /// Makes the plan of `graph` for `target`.
    ///
    /// # Errors
    /// If an operation has no kernel for the target, or a value passes its limits.
    pub fn new(graph: &Graph, target: &Target, options: PlanOptions) -> Result<Self, PlanError> {
        Self::compile(graph, target, options, None)
    }

    /// As [`Plan::new`], and what each pass did to the graph on the way, in order.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn explained(
        graph: &Graph,
        target: &Target,
        options: PlanOptions,
    ) -> Result<(Self, Vec<PassReport>), PlanError> {
        let mut report = Vec::new();
        let plan = Self::compile(graph, target, options, Some(&mut report))?;
        Ok((plan, report))
    }

    fn compile(
        graph: &Graph,
        target: &Target,
        options: PlanOptions,
        report: Option<&mut Vec<PassReport>>,
    ) -> Result<Self, PlanError> {
        let mut ir = Ir::new(graph);
        passes::run(&mut ir, &options, target, report);
        lower::lower(&ir, target, options)
    }

    /// Bytes that this plan, made of `graph` in this way, takes less than one that keeps what this one computes again.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn recomputation_saves(&self, graph: &Graph, target: &Target, options: PlanOptions) -> Result<u64, PlanError> {
        if !options.recompute {
            return Ok(0);
        }
        let kept = Self::new(graph, target, PlanOptions { recompute: false, ..options })?;
        Ok(kept.memory.planned.saturating_sub(self.memory.planned))
    }
}
