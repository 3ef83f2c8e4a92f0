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
}

impl DType {
    /// Bytes of one element on a device.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::U8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::U8 => "u8",
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
