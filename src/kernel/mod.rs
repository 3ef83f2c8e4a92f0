//! What an operation hands to the executors: arguments of its CPU kernel, candidates of its GPU kernel, and the scalar
//! expressions that both evaluate for chains of pointwise operations.

pub mod cpu;
mod evaluate;
mod expr;
mod fused;
pub mod gpu;
pub(crate) mod instructions;
pub mod random;
mod reduction;
pub(crate) mod vector;

pub use evaluate::{BLOCK, Evaluator};
pub use expr::{Binary, Expr, Unary};
pub use fused::{Access, Pass, fused_module, reduction_module, reduction_width, vector_width};
pub use instructions::{InstructionSet, InstructionSetError};
pub use reduction::{Extents, Reduction};

use crate::tensor::TensorType;

/// The types of an operation's inputs and outputs, as kernels are chosen by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    /// Types of the inputs, in order.
    pub inputs: Vec<TensorType>,
    /// Types of the outputs, in order.
    pub outputs: Vec<TensorType>,
}

impl Signature {
    /// Bytes read and written when each input is read once and each output written once.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().chain(&self.outputs).map(|t| t.bytes() as u64).sum()
    }
}
