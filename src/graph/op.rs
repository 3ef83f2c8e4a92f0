//! What a graph knows of an operation.

use std::{any::Any, fmt::Debug, sync::Arc};

use super::{Attributes, Backward, GraphError, ShapeError, Value};
use crate::{
    kernel::{Expr, Reduction, Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// An operation: a shape rule, a gradient rule, a CPU kernel and its GPU kernels. Operations are pure: their outputs
/// are a function of their inputs and of nothing else.
///
/// A pointwise operation gives only [`Op::pointwise`]; kernels follow from the expression.
pub trait Op: Any + Debug + Send + Sync {
    /// Name in errors and tables, such as `conv2d`.
    fn name(&self) -> &str;

    /// All that tells it apart from others of its kind: operations of equal names and attributes compute the same of the
    /// same inputs, and a graph's file holds them.
    fn attributes(&self) -> Attributes;

    /// Types of the outputs for inputs of these types.
    ///
    /// # Errors
    /// If the operation cannot take such inputs; the message says what would be right.
    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError>;

    /// Appends the nodes that compute the gradient of each input; `None` for an input that has none (labels, masks).
    ///
    /// # Errors
    /// If the operation is not differentiable.
    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        Err(backward.not_differentiable(self.name()))
    }

    /// The expression of a pointwise operation of one output, over its inputs.
    fn pointwise(&self) -> Option<Expr> {
        None
    }

    /// What an operation computes that is sums of expressions over its inputs.
    fn reduction(&self) -> Option<&Reduction> {
        None
    }

    /// This operation with one taken in that reads its only output, so that both are one; `None` where it cannot take
    /// that one. What the reader reads besides follows the operation's own inputs.
    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        let _ = reader;
        None
    }

    /// Outputs that another operation makes by itself: a plan that needs both runs this one alone, unless it depends on
    /// the other. So makes a loss's gradient the loss.
    fn subsumes(&self) -> Vec<Subsumed> {
        Vec::new()
    }

    /// Pairs (input, output) that share their storage: when the kernel starts, the output holds the input's value and
    /// is to be updated in place. A GPU kernel binds only the output.
    fn in_place(&self) -> &[(usize, usize)] {
        &[]
    }

    /// The only output is the first input's storage under another shape: nothing runs.
    fn is_view(&self) -> bool {
        false
    }

    /// The only output is the inputs side by side, input `i` at element `offsets[i]`; what lies between is 0. No
    /// kernel runs: inputs are computed in place where they can be and copied where not.
    fn packs(&self) -> Option<&[usize]> {
        None
    }

    /// Floating-point operations of one call.
    fn flop(&self, signature: &Signature) -> u64 {
        signature.outputs.iter().map(|t| t.elements() as u64).sum()
    }

    /// What the CPU kernel rearranges of an input, such as the weight of a convolution, as an operation of its own: where that
    /// input stays the same from run to run, it runs once.
    fn cpu_prepared(&self, inputs: &[&TensorType]) -> Option<Prepared> {
        let _ = inputs;
        None
    }

    /// Elements of scratch memory that the CPU kernel wants.
    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let _ = signature;
        0
    }

    /// The CPU kernel.
    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>)
    where
        Self: Sized;

    /// The GPU kernels, best guess first. Empty where no kernel can take this signature on a device of these limits.
    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate>;
}

/// An operation that reads another one's only output, as that one may take it in: see [`Op::absorb`].
#[derive(Clone, Copy, Debug)]
pub enum Reader<'a> {
    /// An expression that is applied to each element before it is stored: `Input(0)` is the element, `Input(n)` the
    /// element of additional input `n - 1`, broadcast to the output. Its value takes the output's place.
    Pointwise(&'a Expr),
    /// Any other operation; it reads the output as its first input. Its outputs follow the output.
    Op(&'a dyn DynOp),
}

/// An operation in two: see [`Op::cpu_prepared`].
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The input that is rearranged.
    pub input: usize,
    /// What does so: of that input alone, with one output.
    pub by: Arc<dyn DynOp>,
    /// What takes the result in the input's place, and computes the same.
    pub op: Arc<dyn DynOp>,
}

/// An output that another operation makes by itself: see [`Op::subsumes`].
#[derive(Clone, Debug)]
pub struct Subsumed {
    /// Which output.
    pub output: usize,
    /// The operation of which it is the only output.
    pub op: Arc<dyn DynOp>,
    /// How many of the inputs that one reads: the first ones.
    pub inputs: usize,
}

/// [`Op`] as graphs hold it: with the generic CPU kernel as one method for each float. Implemented for every [`Op`].
pub trait DynOp: Op {
    /// The CPU kernel in single precision.
    fn cpu_f32(&self, args: cpu::Args<'_, f32>);
    /// The CPU kernel in double precision, for numerical differentiation.
    fn cpu_f64(&self, args: cpu::Args<'_, f64>);
    /// The GPU kernels that take the types of this signature on a device of these limits, best guess first.
    fn kernels(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate>;
}

impl<O: Op> DynOp for O {
    fn cpu_f32(&self, args: cpu::Args<'_, f32>) {
        self.cpu(args);
    }

    fn cpu_f64(&self, args: cpu::Args<'_, f64>) {
        self.cpu(args);
    }

    fn kernels(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let mut candidates = self.gpu(signature, limits);
        candidates.retain(|candidate| candidate.takes(signature, limits));
        candidates
    }
}
