use crate::{
    kernel::cpu::RawArg,
    tensor::{DType, Real, Tensor, TensorData, TensorType},
};

/// A block of memory whose address never changes.
pub(super) enum Memory<T> {
    Float(Box<[T]>),
    Uint(Box<[u32]>),
    Byte(Box<[u8]>),
}

impl<T: Real> Memory<T> {
    pub fn zeros(dtype: DType, elements: usize) -> Self {
        match dtype {
            DType::F32 => Memory::Float(bytemuck::zeroed_slice_box(elements)),
            DType::U32 => Memory::Uint(bytemuck::zeroed_slice_box(elements)),
            DType::U8 => Memory::Byte(bytemuck::zeroed_slice_box(elements)),
        }
    }

    pub fn from_tensor(tensor: &Tensor) -> Self {
        let mut memory = Self::zeros(tensor.ty().dtype, tensor.shape().elements());
        memory.fill_from(tensor);
        memory
    }

    pub fn ty(&self) -> TensorType {
        match self {
            Memory::Float(v) => TensorType::f32([v.len()]),
            Memory::Uint(v) => TensorType::u32([v.len()]),
            Memory::Byte(v) => TensorType::u8([v.len()]),
        }
    }

    pub fn fill_from(&mut self, tensor: &Tensor) {
        self.write(0, tensor);
    }

    /// Overwrites the elements from `offset` on.
    ///
    /// # Panics
    /// If the element type differs or the tensor does not fit.
    pub fn write(&mut self, offset: usize, tensor: &Tensor) {
        match (self, tensor.data()) {
            (Memory::Float(to), TensorData::F32(from)) => {
                to[offset..offset + from.len()].iter_mut().zip(from).for_each(|(t, f)| *t = T::from_f32(*f));
            }
            (Memory::Uint(to), TensorData::U32(from)) => to[offset..offset + from.len()].copy_from_slice(from),
            (Memory::Byte(to), TensorData::U8(from)) => to[offset..offset + from.len()].copy_from_slice(from),
            _ => panic!("a tensor of {} was written to memory of another element type", tensor.ty()),
        }
    }

    pub fn to_tensor(&self, ty: &TensorType, offset: usize) -> Tensor {
        let end = offset + ty.elements();
        match self {
            Memory::Float(v) => Tensor::f32(&ty.shape, v[offset..end].iter().map(|x| x.to_f32()).collect()),
            Memory::Uint(v) => Tensor::u32(&ty.shape, v[offset..end].to_vec()),
            Memory::Byte(v) => Tensor::u8(&ty.shape, v[offset..end].to_vec()),
        }
    }

    /// Floats in full precision; empty where the memory holds another type.
    pub fn float(&self, offset: usize, elements: usize) -> Vec<T> {
        match self {
            Memory::Float(v) => v[offset..offset + elements].to_vec(),
            _ => Vec::new(),
        }
    }

    /// Sets one float.
    ///
    /// # Panics
    /// If the memory holds another type.
    pub fn poke(&mut self, at: usize, value: T) {
        match self {
            Memory::Float(v) => v[at] = value,
            _ => panic!("a float was written to memory of another element type"),
        }
    }

    pub fn raw(&mut self, offset: usize, elements: usize) -> RawArg {
        let start: *mut u8 = match self {
            Memory::Float(v) => v[offset..offset + elements].as_mut_ptr().cast(),
            Memory::Uint(v) => v[offset..offset + elements].as_mut_ptr().cast(),
            Memory::Byte(v) => v[offset..offset + elements].as_mut_ptr().cast(),
        };
        RawArg { start, elements }
    }
}
