use std::fmt::Debug;

use super::{Backward, GraphError, ShapeError, Value};
use crate::{
    kernel::{ChannelStatistics, Expr, Reduction, Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// An operation: a shape rule, a gradient rule, a CPU kernel and its GPU kernels. Operations are pure: their outputs
/// are a function of their inputs and of nothing else.
///
/// A pointwise operation gives only [`Op::pointwise`]; kernels follow from the expression.
pub trait Op: Debug + Send + Sync + 'static {
    /// Name in errors and tables, such as `conv2d`.
    fn name(&self) -> &str;

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

    /// This operation with an expression applied to each element of its only output before it is stored: in
    /// `epilogue`, `Input(0)` is the element, `Input(n)` the element of additional input `n - 1`, broadcast to the
    /// output. `None` where the operation cannot take this one.
    fn with_epilogue(&self, epilogue: &Expr) -> Option<std::sync::Arc<dyn DynOp>> {
        let _ = epilogue;
        None
    }

    /// What an operation of a value, gamma and beta computes that is statistics of the value's channels.
    fn channel_statistics(&self) -> Option<ChannelStatistics> {
        None
    }

    /// This operation with the statistics of its only output's channels as further outputs, and gamma and beta as further
    /// inputs. `None` where the operation cannot take them in.
    fn with_statistics(&self, statistics: ChannelStatistics) -> Option<std::sync::Arc<dyn DynOp>> {
        let _ = statistics;
        None
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

/// [`Op`] as graphs hold it: with the generic CPU kernel as one method for each float. Implemented for every [`Op`].
pub trait DynOp: Op {
    /// The CPU kernel in single precision.
    fn cpu_f32(&self, args: cpu::Args<'_, f32>);
    /// The CPU kernel in double precision, for numerical differentiation.
    fn cpu_f64(&self, args: cpu::Args<'_, f64>);
}

impl<O: Op> DynOp for O {
    fn cpu_f32(&self, args: cpu::Args<'_, f32>) {
        self.cpu(args);
    }

    fn cpu_f64(&self, args: cpu::Args<'_, f64>) {
        self.cpu(args);
    }
}
