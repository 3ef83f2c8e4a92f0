//! Tensors in host memory.

use half::f16;

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
    /// 16-bit floats.
    F16(Vec<f16>),
    /// Signed bytes.
    I8(Vec<i8>),
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

    /// A tensor of 16-bit floats.
    pub fn f16(shape: impl Into<Shape>, data: Vec<f16>) -> Self {
        Self::new(shape.into(), TensorData::F16(data))
    }

    /// A tensor of signed bytes.
    pub fn i8(shape: impl Into<Shape>, data: Vec<i8>) -> Self {
        Self::new(shape.into(), TensorData::I8(data))
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
            DType::F16 => TensorData::F16(vec![f16::ZERO; n]),
            DType::I8 => TensorData::I8(vec![0; n]),
        };
        Self { shape: ty.shape.clone(), data }
    }

    fn new(shape: Shape, data: TensorData) -> Self {
        let len = match &data {
            TensorData::F32(v) => v.len(),
            TensorData::U32(v) => v.len(),
            TensorData::U8(v) => v.len(),
            TensorData::F16(v) => v.len(),
            TensorData::I8(v) => v.len(),
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
            TensorData::F16(_) => DType::F16,
            TensorData::I8(_) => DType::I8,
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

    /// The elements as floats, where these are 16-bit floats widened; `None` where they are no floats.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        match &self.data {
            TensorData::F32(v) => Some(v.clone()),
            TensorData::F16(v) => Some(v.iter().map(|x| x.to_f32()).collect()),
            _ => None,
        }
    }

    /// A tensor of floats rounded to the nearest 16-bit floats.
    ///
    /// # Panics
    /// If this holds no floats.
    pub fn to_f16(&self) -> Tensor {
        let floats = self.to_f32().expect("a tensor of floats");
        Tensor::f16(&self.shape, floats.into_iter().map(f16::from_f32).collect())
    }

    /// The raw little-endian bytes, as a device buffer holds them.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            TensorData::F32(v) => bytemuck::cast_slice(v),
            TensorData::U32(v) => bytemuck::cast_slice(v),
            TensorData::U8(v) => v,
            TensorData::F16(v) => bytemuck::cast_slice(v),
            TensorData::I8(v) => bytemuck::cast_slice(v),
        }
    }
}
