//! Shapes, element types and tensors that live in host memory.

mod dtype;
mod host;
mod math;
mod random;
mod real;
mod shape;

pub use half::f16;

pub use dtype::{DType, TensorType};
pub use host::{Tensor, TensorData};
pub use random::random;
pub use real::Real;
pub use shape::Shape;
