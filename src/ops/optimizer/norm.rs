//! Clipping of gradients by their global norm.

use crate::{
    graph::{Graph, GraphError, Value},
    kernel::{Expr, Reduction},
    ops::{Pointwise, reduce::Reduce},
};

impl Graph {
    /// The factor that brings the Euclidean norm of all `gradients` together down to `max_norm` where it is larger:
    /// `min(1, max_norm / (norm + 1e-6))`, one f32.
    ///
    /// # Errors
    /// If there are no gradients or they are not f32.
    pub fn global_norm_scale(&mut self, gradients: &[Value], max_norm: f64) -> Result<Value, GraphError> {
        let squares = gradients.iter().map(|block| self.squared_norms(*block, 0)).collect::<Result<Vec<_>, _>>()?;
        let sum = (1..squares.len()).fold(Expr::Input(0), |sum, n| sum + Expr::Input(n));
        let factor = Expr::from(max_norm) / (sum.sqrt() + 1e-6);
        self.map(Pointwise::new("global_norm_scale", squares.len().max(1), factor.min(1.0)), &squares)
    }

    /// The sums of the squares over the axes from `first_axis` on.
    pub(super) fn squared_norms(&mut self, value: Value, first_axis: usize) -> Result<Value, GraphError> {
        let shape = self.shape(value).clone();
        let (terms, outputs) = (vec![Expr::Input(0) * Expr::Input(0)], vec![Expr::Input(0)]);
        let reduction = Reduction { axes: shape.rank() - first_axis, shape, first_axis, terms, outputs };
        self.apply1(Reduce::new("squared_norm", reduction), &[value])
    }
}
