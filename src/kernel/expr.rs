//! Scalar expressions over the elements of some inputs.

use std::ops::{Add, Div, Mul, Neg, Sub};

use serde::{Deserialize, Serialize};

use crate::tensor::DType;

/// A scalar expression over the elements of some inputs: what a pointwise operation, or a fused chain of them,
/// computes for each element of its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// The element of input `n` that belongs to the output's element, broadcast where shapes differ.
    Input(usize),
    /// A number.
    Constant(f64),
    /// A function of one argument.
    Unary(Unary, Box<Expr>),
    /// A function of two arguments.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second where the first is above 0, else the third.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// `-x`
    Neg,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Ln,
    /// Square root.
    Sqrt,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// Absolute value.
    Abs,
    /// 1 where the argument is neither infinite nor NaN, else 0.
    IsFinite,
    /// The nearest 16-bit float, ties to even; infinite beyond the largest.
    RoundF16,
    /// The nearest whole number from -128 to 127, ties to even; 0 for NaN.
    RoundI8,
}

/// Functions of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

impl Expr {
    /// `e^self`
    pub fn exp(self) -> Self {
        self.unary(Unary::Exp)
    }

    /// Natural logarithm.
    pub fn ln(self) -> Self {
        self.unary(Unary::Ln)
    }

    /// Square root.
    pub fn sqrt(self) -> Self {
        self.unary(Unary::Sqrt)
    }

    /// Hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.unary(Unary::Tanh)
    }

    /// The error function.
    pub fn erf(self) -> Self {
        self.unary(Unary::Erf)
    }

    /// Absolute value.
    pub fn abs(self) -> Self {
        self.unary(Unary::Abs)
    }

    /// 1 where finite, else 0.
    pub fn is_finite(self) -> Self {
        self.unary(Unary::IsFinite)
    }

    /// As an element of type `dtype` holds it.
    pub fn rounded(self, dtype: DType) -> Self {
        match dtype {
            DType::F16 => self.unary(Unary::RoundF16),
            DType::I8 => self.unary(Unary::RoundI8),
            DType::F32 | DType::U32 | DType::U8 => self,
        }
    }

    /// `1 / (1 + e^-self)`
    pub fn sigmoid(self) -> Self {
        Expr::from(1.0) / (Expr::from(1.0) + (-self).exp())
    }

    /// The larger one.
    pub fn max(self, other: impl Into<Expr>) -> Self {
        Expr::Binary(Binary::Max, Box::new(self), Box::new(other.into()))
    }

    /// The smaller one.
    pub fn min(self, other: impl Into<Expr>) -> Self {
        Expr::Binary(Binary::Min, Box::new(self), Box::new(other.into()))
    }

    /// `then` where this is above 0, else `otherwise`.
    pub fn select(self, then: impl Into<Expr>, otherwise: impl Into<Expr>) -> Self {
        Expr::Select(Box::new(self), Box::new(then.into()), Box::new(otherwise.into()))
    }

    fn unary(self, function: Unary) -> Self {
        Expr::Unary(function, Box::new(self))
    }

    /// This expression with each input replaced by what `with` gives for its number.
    pub fn substitute(&self, with: &mut impl FnMut(usize) -> Expr) -> Expr {
        match self {
            Expr::Input(n) => with(*n),
            Expr::Constant(c) => Expr::Constant(*c),
            Expr::Unary(f, a) => Expr::Unary(*f, Box::new(a.substitute(with))),
            Expr::Binary(f, a, b) => Expr::Binary(*f, Box::new(a.substitute(with)), Box::new(b.substitute(with))),
            Expr::Select(c, a, b) => {
                Expr::Select(Box::new(c.substitute(with)), Box::new(a.substitute(with)), Box::new(b.substitute(with)))
            }
        }
    }

    /// Number of function applications: the cost of one element in flop.
    pub fn operations(&self) -> u64 {
        match self {
            Expr::Input(_) | Expr::Constant(_) => 0,
            Expr::Unary(_, a) => 1 + a.operations(),
            Expr::Binary(_, a, b) => 1 + a.operations() + b.operations(),
            Expr::Select(c, a, b) => 1 + c.operations() + a.operations() + b.operations(),
        }
    }

    /// Whether a function takes many times as long as an addition.
    pub fn is_transcendental(&self) -> bool {
        match self {
            Expr::Input(_) | Expr::Constant(_) => false,
            Expr::Unary(f, a) => {
                matches!(f, Unary::Exp | Unary::Ln | Unary::Tanh | Unary::Erf) || a.is_transcendental()
            }
            Expr::Binary(_, a, b) => a.is_transcendental() || b.is_transcendental(),
            Expr::Select(c, a, b) => c.is_transcendental() || a.is_transcendental() || b.is_transcendental(),
        }
    }

    /// Inputs that there must be: one more than the highest number.
    pub fn inputs(&self) -> usize {
        match self {
            Expr::Input(n) => n.saturating_add(1),
            Expr::Constant(_) => 0,
            Expr::Unary(_, a) => a.inputs(),
            Expr::Binary(_, a, b) => a.inputs().max(b.inputs()),
            Expr::Select(c, a, b) => c.inputs().max(a.inputs()).max(b.inputs()),
        }
    }

    /// How often input `n` occurs.
    pub fn uses(&self, n: usize) -> usize {
        match self {
            Expr::Input(m) => usize::from(*m == n),
            Expr::Constant(_) => 0,
            Expr::Unary(_, a) => a.uses(n),
            Expr::Binary(_, a, b) => a.uses(n) + b.uses(n),
            Expr::Select(c, a, b) => c.uses(n) + a.uses(n) + b.uses(n),
        }
    }
}

impl From<f64> for Expr {
    fn from(value: f64) -> Self {
        Expr::Constant(value)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl<R: Into<Expr>> $trait<R> for Expr {
            type Output = Expr;
            fn $method(self, other: R) -> Expr {
                Expr::Binary(Binary::$trait, Box::new(self), Box::new(other.into()))
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.unary(Unary::Neg)
    }
}
