use rayon::prelude::*;

use crate::{
    kernel::cpu::RawArg,
    tensor::{DType, Real, Tensor, TensorData, TensorType, f16},
};

/// A block of memory whose address never changes.
pub(super) enum Memory<T> {
    Float(Box<[T]>),
    Uint(Box<[u32]>),
    Byte(Box<[u8]>),
    Half(Box<[f16]>),
    SignedByte(Box<[i8]>),
}

/// An argument of a kernel that memory holds narrower than the floats that kernels take.
pub(super) struct Widened {
    pub dtype: DType,
    /// Where it lies.
    pub stored: RawArg,
    /// Where the kernel finds it or writes it, as floats.
    pub floats: RawArg,
    /// Whether it is widened before the kernel runs, and rounded afterwards.
    pub is_read: bool,
    pub is_written: bool,
}

impl Widened {
    /// Widens what is stored.
    ///
    /// # Safety
    /// Both ends must be valid for their elements, and nothing else may use them meanwhile; likewise in the other method.
    pub unsafe fn widen<T: Real>(&self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.dtype {
                DType::F16 => self.each(|half: &mut f16, float: &mut T| *float = T::from_f32(half.to_f32())),
                DType::I8 => self.each(|byte: &mut i8, float: &mut T| *float = T::from_f32((*byte).into())),
                DType::F32 | DType::U32 | DType::U8 => {}
            }
        }
    }

    /// Stores the floats, rounded.
    ///
    /// # Safety
    /// See [`Widened::widen`].
    pub unsafe fn round<T: Real>(&self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.dtype {
                DType::F16 => self.each(|half: &mut f16, float: &mut T| *half = float.to_f16()),
                DType::I8 => self.each(|byte: &mut i8, float: &mut T| *byte = float.round_i8().to_f32() as i8),
                DType::F32 | DType::U32 | DType::U8 => {}
            }
        }
    }

    unsafe fn each<S: Send, T: Send>(&self, body: impl Fn(&mut S, &mut T) + Sync) {
        const CHUNK: usize = 1 << 14;
        let elements = self.stored.elements;
        // SAFETY: promised by the caller.
        let stored = unsafe { std::slice::from_raw_parts_mut(self.stored.start.cast::<S>(), elements) };
        // SAFETY: likewise.
        let floats = unsafe { std::slice::from_raw_parts_mut(self.floats.start.cast::<T>(), elements) };
        let chunks = stored.par_chunks_mut(CHUNK).zip(floats.par_chunks_mut(CHUNK));
        chunks
            .for_each(|(stored, floats)| stored.iter_mut().zip(floats).for_each(|(stored, float)| body(stored, float)));
    }
}

impl<T: Real> Memory<T> {
    pub fn zeros(dtype: DType, elements: usize) -> Self {
        match dtype {
            DType::F32 => Memory::Float(bytemuck::zeroed_slice_box(elements)),
            DType::U32 => Memory::Uint(bytemuck::zeroed_slice_box(elements)),
            DType::U8 => Memory::Byte(bytemuck::zeroed_slice_box(elements)),
            DType::F16 => Memory::Half(bytemuck::zeroed_slice_box(elements)),
            DType::I8 => Memory::SignedByte(bytemuck::zeroed_slice_box(elements)),
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
            Memory::Half(v) => TensorType::f16([v.len()]),
            Memory::SignedByte(v) => TensorType::i8([v.len()]),
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
            (Memory::Half(to), TensorData::F16(from)) => to[offset..offset + from.len()].copy_from_slice(from),
            (Memory::SignedByte(to), TensorData::I8(from)) => to[offset..offset + from.len()].copy_from_slice(from),
            _ => panic!("a tensor of {} was written to memory of another element type", tensor.ty()),
        }
    }

    pub fn to_tensor(&self, ty: &TensorType, offset: usize) -> Tensor {
        let end = offset + ty.elements();
        match self {
            Memory::Float(v) => Tensor::f32(&ty.shape, v[offset..end].iter().map(|x| x.to_f32()).collect()),
            Memory::Uint(v) => Tensor::u32(&ty.shape, v[offset..end].to_vec()),
            Memory::Byte(v) => Tensor::u8(&ty.shape, v[offset..end].to_vec()),
            Memory::Half(v) => Tensor::f16(&ty.shape, v[offset..end].to_vec()),
            Memory::SignedByte(v) => Tensor::i8(&ty.shape, v[offset..end].to_vec()),
        }
    }

    /// Floats in full precision, 16-bit ones widened; empty where the memory holds another type.
    pub fn float(&self, offset: usize, elements: usize) -> Vec<T> {
        match self {
            Memory::Float(v) => v[offset..offset + elements].to_vec(),
            Memory::Half(v) => v[offset..offset + elements].iter().map(|x| T::from_f32(x.to_f32())).collect(),
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
            Memory::Half(v) => v[offset..offset + elements].as_mut_ptr().cast(),
            Memory::SignedByte(v) => v[offset..offset + elements].as_mut_ptr().cast(),
        };
        RawArg { start, elements }
    }
}
