//! Reductions: sums of expressions over neighbouring axes.

use serde::{Deserialize, Serialize};

use super::Expr;
use crate::tensor::Shape;

/// Sums over neighbouring axes of some expressions, and what is made of the sums: what a reduction, or several of them
/// with the pointwise operations before and after, computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduction {
    /// Shape of the elements that are added up; inputs broadcast to it.
    pub shape: Shape,
    /// First of the axes that are added up.
    pub first_axis: usize,
    /// Number of these axes.
    pub axes: usize,
    /// What is added up, over the inputs.
    pub terms: Vec<Expr>,
    /// What is stored, in each output for each remaining element: `Input(t)` is the sum of term `t`,
    /// `Input(terms.len() + n)` the element of input `n`, broadcast to the outputs' shape.
    pub outputs: Vec<Expr>,
}

/// A tensor seen as `[outer, n, inner]` with `n` the elements that are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Elements before the axes that are added up.
    pub outer: usize,
    /// Elements that one sum is of.
    pub n: usize,
    /// Elements after these axes.
    pub inner: usize,
}

impl Reduction {
    /// Shape of each output: the axes that are added up disappear.
    pub fn output_shape(&self) -> Shape {
        let end = self.first_axis + self.axes;
        [&self.shape[..self.first_axis], &self.shape[end..]].concat().into()
    }

    /// The elements as three axes.
    pub fn extents(&self) -> Extents {
        let end = self.first_axis + self.axes;
        Extents {
            outer: self.shape[..self.first_axis].iter().product(),
            n: self.shape[self.first_axis..end].iter().product(),
            inner: self.shape[end..].iter().product(),
        }
    }

    /// Whether a term reads input `n`.
    pub fn adds(&self, n: usize) -> bool {
        self.terms.iter().any(|term| term.uses(n) > 0)
    }

    /// Whether an output reads input `n` besides the sums.
    pub fn finishes_with(&self, n: usize) -> bool {
        self.outputs.iter().any(|output| output.uses(self.terms.len() + n) > 0)
    }

    /// Storage buffers that one pass binds at most where the sums of `inputs` inputs are made in two.
    pub fn bindings(&self, inputs: usize) -> usize {
        let added = (0..inputs).filter(|n| self.adds(*n)).count();
        let finished = (0..inputs).filter(|n| self.finishes_with(*n)).count();
        1 + added.max(finished + self.outputs.len())
    }
}
