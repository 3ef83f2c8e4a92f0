//! What replays plans.

use std::time::Duration;

use thiserror::Error;

use super::{Plan, PlanOptions, Target};
use crate::{
    graph::{Graph, VariableId, Variables},
    tensor::Tensor,
};

/// Number of a plan that an executor has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub usize);

/// What one run hands back, by name.
pub type Outputs = Vec<(String, Tensor)>;

/// When one dispatch, copy or native kernel ran in a profiled run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Number of the step in the plan.
    pub step: usize,
    /// The shader, `native` on the CPU, or `copy`.
    pub name: String,
    /// When it began, from the beginning of the run.
    pub start: Duration,
    /// How long it ran: on the device's clock where it has one, else on the host's with all its overhead.
    pub time: Duration,
}

/// A failure of a device.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The device went away: driver reset, cable, suspend.
    #[error("the device was lost: {0}")]
    Lost(String),
    /// Memory ran out.
    #[error("{device} has not enough memory for this: {bytes} bytes were asked for; use a smaller batch or model")]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Bytes that were to be allocated.
        bytes: u64,
    },
    /// A run lacks an input, or an input is of another type.
    #[error("feed {name}: expected {expected}, got {got}")]
    Feed {
        /// Name of the feed.
        name: String,
        /// Type that the graph declares.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A variable is asked for after [`Executor::freeze`].
    #[error("the variables were let go of when the executor was frozen: load the weights into another one")]
    Frozen,
    /// Anything else that the device reports.
    #[error("{0}")]
    Device(String),
}

/// What tuning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    /// Different calls that more than one kernel can compute.
    pub calls: usize,
    /// Of these, the ones whose kernels were timed now; others were known, or time ran out before them.
    pub timed: usize,
    /// Of these, the ones for which another kernel than the estimated best was faster.
    pub faster: usize,
    /// How long it took.
    pub time: Duration,
}

/// How far tuning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuningProgress {
    /// Different calls whose kernels are to be timed.
    pub calls: usize,
    /// Of these, the ones that are done.
    pub timed: usize,
    /// Time since the kernels were ready that would run without tuning.
    pub elapsed: Duration,
    /// How long that may take.
    pub budget: Duration,
    /// Whether it has ended, be it for want of time.
    pub ended: bool,
}

/// Something that replays plans. Variables belong to the executor and are shared by all plans that it has loaded.
pub trait Executor: Send {
    /// Name of the device, as a person knows it.
    fn device(&self) -> String;

    /// What plans for this executor are made for.
    fn target(&self) -> Target;

    /// Bytes that plans may take here, as far as that is known.
    fn available_memory(&self) -> Option<u64>;

    /// Fails where a plan takes more memory than there is, as far as that is known.
    ///
    /// # Errors
    /// See above.
    fn check_memory(&self, plan: &Plan) -> Result<(), ExecutorError> {
        let bytes = plan.memory.planned.saturating_add(plan.memory.resident);
        match self.available_memory() {
            Some(available) if bytes > available => Err(ExecutorError::OutOfMemory { device: self.device(), bytes }),
            _ => Ok(()),
        }
    }

    /// Allocates the variables that it does not have yet, as zeros.
    ///
    /// # Errors
    /// If memory runs out or the device fails; likewise in the other methods.
    fn declare(&mut self, variables: &Variables) -> Result<(), ExecutorError>;

    /// Times the kernels among which the operations of `graph` can choose, and from then on hands out a
    /// [`Executor::target`] that takes the fastest; as far as it was told to when it was opened. Nothing where there is
    /// no choice.
    ///
    /// # Errors
    /// If memory runs out or the device fails.
    fn tune(&mut self, graph: &Graph, variables: &Variables, options: PlanOptions) -> Result<Tuned, ExecutorError> {
        let _ = (graph, variables, options);
        Ok(Tuned::default())
    }

    /// Tells how far [`Executor::tune`] is, as it goes on.
    fn on_tuning(&mut self, tell: Box<dyn FnMut(TuningProgress) + Send>) {
        drop(tell);
    }

    /// Prepares a plan: allocates its buffers and makes its pipelines. Its variables must have been declared.
    ///
    /// # Errors
    /// If memory runs out or the device fails.
    fn load(&mut self, plan: Plan) -> Result<ProgramId, ExecutorError>;

    /// Computes what a program prepares of variables alone, and lets go of those of them that it reads for nothing else, where that
    /// saves memory. From then on variables can neither be read nor written, and no other program loaded.
    ///
    /// # Errors
    /// If the device fails.
    fn freeze(&mut self, program: ProgramId) -> Result<(), ExecutorError> {
        let _ = program;
        Ok(())
    }

    /// Replays a plan with these feeds. Returns when the work is handed to the device, not when it is done.
    ///
    /// # Errors
    /// If a feed is missing or of another type, or the device fails.
    fn run(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError>;

    /// Outputs of finished runs that were not collected yet, oldest first; with `wait`, of all runs.
    ///
    /// # Errors
    /// If the device fails.
    fn collect(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Outputs>, ExecutorError>;

    /// Replays a plan once, timing each dispatch. The run counts: variables change, but its outputs are dropped.
    ///
    /// # Errors
    /// As [`Executor::run`].
    fn profile(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<Vec<Timing>, ExecutorError>;

    /// Sets the elements of a variable from `offset` on.
    ///
    /// # Errors
    /// If the device fails.
    fn write(&mut self, id: VariableId, offset: usize, values: &Tensor) -> Result<(), ExecutorError>;

    /// The whole of a variable, after all runs so far.
    ///
    /// # Errors
    /// If the device fails.
    fn read(&mut self, id: VariableId) -> Result<Tensor, ExecutorError>;
}
