//! The floats that CPU kernels compute in.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign},
};

use half::f16;

use super::math;

/// The float that a CPU kernel computes in: `f32` in use, `f64` where a test differentiates numerically.
pub trait Real:
    Copy
    + PartialOrd
    + Default
    + Send
    + Sync
    + fmt::Debug
    + fmt::Display
    + bytemuck::Pod
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Negative infinity, the identity of a maximum.
    const NEG_INFINITY: Self;

    /// Rounded from a double.
    fn from_f64(value: f64) -> Self;
    /// Rounded from a single.
    fn from_f32(value: f32) -> Self;
    /// Rounded from a count.
    fn from_usize(value: usize) -> Self {
        Self::from_f64(value as f64)
    }
    /// Widened to a double.
    fn to_f64(self) -> f64;
    /// Rounded to a single.
    fn to_f32(self) -> f32;
    /// `e^self`.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger one.
    fn max(self, other: Self) -> Self;
    /// The smaller one.
    fn min(self, other: Self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The nearest 16-bit float, ties to even; infinite beyond the largest, 65504.
    fn to_f16(self) -> f16;
    /// As [`Real::to_f16`], and back.
    fn round_f16(self) -> Self {
        Self::from_f32(self.to_f16().to_f32())
    }
    /// The nearest whole number from -128 to 127, ties to even; 0 for NaN.
    fn round_i8(self) -> Self;
}

macro_rules! real {
    ($t:ident, $exp:path, $tanh:path, $erf:path, $to_f16:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;

            fn from_f64(value: f64) -> Self {
                value as $t
            }
            fn from_f32(value: f32) -> Self {
                value as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            fn ln(self) -> Self {
                $t::ln(self)
            }
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            fn abs(self) -> Self {
                $t::abs(self)
            }
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            fn to_f16(self) -> f16 {
                $to_f16(self)
            }
            fn round_i8(self) -> Self {
                if self.is_nan() { 0.0 } else { self.round_ties_even().clamp(-128.0, 127.0) }
            }
        }
    };
}

real!(f32, math::exp, math::tanh, math::erf, f16::from_f32);
real!(f64, f64::exp, f64::tanh, libm::erf, f16::from_f64);
