//! Tensors in host memory.

use super::{DType, Shape, TensorType};

/// The elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Floats.
    F32(Vec<f32>),
    /// Unsigned integers.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

/// A tensor in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: TensorData,
}

impl Tensor {
    /// A float tensor.
    ///
    /// # Panics
    /// If `data` does not hold exactly the shape's number of elements; likewise in the other constructors.
    pub fn f32(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        Self::new(shape.into(), TensorData::F32(data))
    }

    /// An unsigned integer tensor.
    pub fn u32(shape: impl Into<Shape>, data: Vec<u32>) -> Self {
        Self::new(shape.into(), TensorData::U32(data))
    }

    /// A byte tensor.
    pub fn u8(shape: impl Into<Shape>, data: Vec<u8>) -> Self {
        Self::new(shape.into(), TensorData::U8(data))
    }

    /// A tensor of one float.
    pub fn scalar(value: f32) -> Self {
        Self::f32(Shape::scalar(), vec![value])
    }

    /// A tensor of zeros.
    pub fn zeros(ty: &TensorType) -> Self {
        let n = ty.elements();
        let data = match ty.dtype {
            DType::F32 => TensorData::F32(vec![0.0; n]),
            DType::U32 => TensorData::U32(vec![0; n]),
            DType::U8 => TensorData::U8(vec![0; n]),
        };
        Self { shape: ty.shape.clone(), data }
    }

    fn new(shape: Shape, data: TensorData) -> Self {
        let len = match &data {
            TensorData::F32(v) => v.len(),
            TensorData::U32(v) => v.len(),
            TensorData::U8(v) => v.len(),
        };
        assert_eq!(len, shape.elements(), "a tensor of shape {shape} was given {len} elements");
        Self { shape, data }
    }

    /// Extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Element type and shape.
    pub fn ty(&self) -> TensorType {
        let dtype = match self.data {
            TensorData::F32(_) => DType::F32,
            TensorData::U32(_) => DType::U32,
            TensorData::U8(_) => DType::U8,
        };
        TensorType { dtype, shape: self.shape.clone() }
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, moved out.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The elements as floats; `None` where the element type is another.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as unsigned integers; `None` where the element type is another.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.data {
            TensorData::U32(v) => Some(v),
            _ => None,
        }
    }

    /// The raw little-endian bytes, as a device buffer holds them.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            TensorData::F32(v) => bytemuck::cast_slice(v),
            TensorData::U32(v) => bytemuck::cast_slice(v),
            TensorData::U8(v) => v,
        }
    }
}
