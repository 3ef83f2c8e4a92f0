//! Element types, and types of tensors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Shape;

/// The type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit IEEE float: activations, parameters, gradients.
    F32,
    /// Unsigned 32-bit integer: labels, counters, seeds.
    U32,
    /// Unsigned byte: images as they were decoded.
    U8,
    /// 16-bit IEEE float: activations and weights in half the memory. Arithmetic on them is in f32.
    F16,
    /// Signed byte: quantised values.
    I8,
}

impl DType {
    /// Bytes of one element on a device.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 => 2,
            DType::U8 | DType::I8 => 1,
        }
    }

    /// Whether arithmetic is done on values of this type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }

    /// Whether values of this type are stored narrower than the floats that kernels compute with.
    pub fn is_narrow(self) -> bool {
        matches!(self, DType::F16 | DType::I8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::F16 => "f16",
            DType::I8 => "i8",
        })
    }
}

/// What is known of a value before it is computed: its element type and its shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A float tensor of `shape`.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self { dtype: DType::F32, shape: shape.into() }
    }

    /// An unsigned integer tensor of `shape`.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Self { dtype: DType::U32, shape: shape.into() }
    }

    /// A byte tensor of `shape`.
    pub fn u8(shape: impl Into<Shape>) -> Self {
        Self { dtype: DType::U8, shape: shape.into() }
    }

    /// A tensor of 16-bit floats of `shape`.
    pub fn f16(shape: impl Into<Shape>) -> Self {
        Self { dtype: DType::F16, shape: shape.into() }
    }

    /// A tensor of signed bytes of `shape`.
    pub fn i8(shape: impl Into<Shape>) -> Self {
        Self { dtype: DType::I8, shape: shape.into() }
    }

    /// The same shape of elements of type `dtype`.
    pub fn of(&self, dtype: DType) -> Self {
        Self { dtype, shape: self.shape.clone() }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Bytes on a device.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
