//! Arithmetic with broadcasting.

use super::Pointwise;
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
};

fn a() -> Expr {
    Expr::Input(0)
}

fn b() -> Expr {
    Expr::Input(1)
}

impl Graph {
    /// `a + b`, with broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast; likewise for the other operations of two inputs.
    pub fn add(&mut self, x: Value, y: Value) -> Result<Value, GraphError> {
        let op = Pointwise::new("add", 2, a() + b()).with_derivatives([Some(1.0.into()), Some(1.0.into())]);
        self.apply1(op, &[x, y])
    }

    /// `a - b`, with broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn subtract(&mut self, x: Value, y: Value) -> Result<Value, GraphError> {
        let op = Pointwise::new("subtract", 2, a() - b()).with_derivatives([Some(1.0.into()), Some(Expr::from(-1.0))]);
        self.apply1(op, &[x, y])
    }

    /// `a * b`, with broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn multiply(&mut self, x: Value, y: Value) -> Result<Value, GraphError> {
        let op = Pointwise::new("multiply", 2, a() * b()).with_derivatives([Some(b()), Some(a())]);
        self.apply1(op, &[x, y])
    }

    /// `a / b`, with broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn divide(&mut self, x: Value, y: Value) -> Result<Value, GraphError> {
        let quotient = Expr::Input(2);
        let op = Pointwise::new("divide", 2, a() / b())
            .with_derivatives([Some(Expr::from(1.0) / b()), Some(-(quotient / b()))]);
        self.apply1(op, &[x, y])
    }

    /// `factor * x`
    ///
    /// # Errors
    /// If `x` does not hold f32 or f16.
    pub fn scale(&mut self, x: Value, factor: f64) -> Result<Value, GraphError> {
        let op = Pointwise::new("scale", 1, a() * factor).with_derivatives([Some(factor.into())]);
        self.apply1(op, &[x])
    }
}
