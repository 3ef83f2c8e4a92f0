//! What transposition, slices and padding share: a move of elements that follows a stride along each axis.

use rayon::prelude::*;

use crate::{
    graph::ShapeError,
    kernel::{cpu, gpu},
    tensor::{DType, Real, Shape, TensorType},
};

/// Axes that the GPU kernel can walk along.
const MAX_AXES: usize = 6;

/// `output[coordinates] = input[offset + sum of (coordinate - begin) * stride]` where every coordinate lies in
/// `begin..begin + length` of its axis, else 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gather {
    axes: Vec<Axis>,
    offset: usize,
}

/// One axis of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// Extent of the output.
    pub extent: usize,
    /// Distance in the input of neighbours along this axis.
    pub stride: usize,
    /// First coordinate that has an element in the input.
    pub begin: usize,
    /// Number of coordinates that have one.
    pub length: usize,
}

impl Axis {
    /// An axis on which every coordinate has an element in the input.
    pub fn full(extent: usize, stride: usize) -> Self {
        Self { extent, stride, begin: 0, length: extent }
    }

    fn is_full(&self) -> bool {
        self.begin == 0 && self.length == self.extent
    }
}

impl Gather {
    /// A move along these axes, outermost first. Axes that can be walked as one become one.
    pub fn new(axes: impl IntoIterator<Item = Axis>, offset: usize) -> Self {
        let mut merged: Vec<Axis> = Vec::new();
        for axis in axes.into_iter().filter(|axis| axis.extent != 1 || !axis.is_full()) {
            match merged.last_mut() {
                Some(outer) if axis.is_full() && outer.stride == axis.stride * axis.extent => {
                    outer.extent *= axis.extent;
                    outer.begin *= axis.extent;
                    outer.length *= axis.extent;
                    outer.stride = axis.stride;
                }
                _ => merged.push(axis),
            }
        }
        if merged.is_empty() {
            merged.push(Axis::full(1, 1));
        }
        Self { axes: merged, offset }
    }

    /// The axes after those that can be walked as one became one; at least one.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The type of the output, of an input whose elements can be moved.
    pub fn infer(&self, input: &TensorType, output: Shape) -> Result<Vec<TensorType>, ShapeError> {
        if input.dtype.size() != 4 || input.elements() == 0 {
            return Err(ShapeError::new(format!("expects f32 or u32 and at least one element, not {input}")));
        }
        if self.axes.len() > MAX_AXES {
            return Err(ShapeError::new(format!("more than {MAX_AXES} axes cannot be moved at once")));
        }
        Ok(vec![TensorType { dtype: input.dtype, shape: output }])
    }

    /// The CPU kernel.
    pub fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        match args.inputs.ty(0).dtype {
            DType::F32 | DType::F16 | DType::I8 => self.move_elements(args.inputs.float(0), args.outputs.float(0)),
            DType::U32 => self.move_elements(args.inputs.uint(0), args.outputs.uint(0)),
            DType::U8 => self.move_elements(args.inputs.byte(0), args.outputs.byte(0)),
        }
    }

    fn move_elements<E: Copy + Default + Send + Sync>(&self, input: &[E], output: &mut [E]) {
        let (inner, outer) = self.axes.split_last().expect("there is at least one axis");
        let rows = output.par_chunks_mut(inner.extent).enumerate();
        rows.with_min_len(1 + 4096 / inner.extent).for_each(|(row, output)| {
            let Some(start) = source_of_row(outer, row) else { return output.fill(E::default()) };
            let start = self.offset + start;
            let (before, rest) = output.split_at_mut(inner.begin);
            let (moved, after) = rest.split_at_mut(inner.length);
            before.fill(E::default());
            after.fill(E::default());
            if inner.stride == 1 {
                moved.copy_from_slice(&input[start..start + inner.length]);
            } else {
                for (output, input) in moved.iter_mut().zip(input[start..].iter().step_by(inner.stride)) {
                    *output = *input;
                }
            }
        });
    }

    /// The GPU kernel.
    pub fn gpu(&self) -> gpu::Candidate {
        const NAMES: [[&str; 4]; MAX_AXES] = [
            ["EXTENT_0", "STRIDE_0", "BEGIN_0", "LENGTH_0"],
            ["EXTENT_1", "STRIDE_1", "BEGIN_1", "LENGTH_1"],
            ["EXTENT_2", "STRIDE_2", "BEGIN_2", "LENGTH_2"],
            ["EXTENT_3", "STRIDE_3", "BEGIN_3", "LENGTH_3"],
            ["EXTENT_4", "STRIDE_4", "BEGIN_4", "LENGTH_4"],
            ["EXTENT_5", "STRIDE_5", "BEGIN_5", "LENGTH_5"],
        ];
        let (vector, walk) = match self.in_vectors() {
            Some(vectors) => (4, vectors),
            None => (1, self.clone()),
        };
        let count = walk.axes.iter().map(|axis| axis.extent).product();
        let missing = MAX_AXES - walk.axes.len();
        let axes = std::iter::repeat_n(Axis::full(1, 0), missing).chain(walk.axes);
        let mut shader = gpu::Shader::file("layout/gather")
            .feature("VECTOR", vector == 4)
            .constant("COUNT", count)
            .constant("OFFSET", walk.offset);
        for ([extent, stride, begin, length], axis) in NAMES.into_iter().zip(axes) {
            shader = shader
                .constant(extent, axis.extent)
                .constant(stride, axis.stride)
                .constant(begin, axis.begin)
                .constant(length, axis.length);
        }
        let pass = gpu::Pass {
            shader,
            bindings: vec![gpu::Binding::Input(0), gpu::Binding::Output(0)],
            workgroups: gpu::linear_workgroups(count),
        };
        gpu::Candidate::single(format!("gather x{vector}"), pass)
    }

    /// The same move of vectors of four elements, where it never cuts one.
    fn in_vectors(&self) -> Option<Self> {
        let (inner, outer) = self.axes.split_last()?;
        let multiples = [self.offset, inner.extent, inner.begin, inner.length];
        let strides = outer.iter().map(|axis| axis.stride);
        if inner.stride != 1 || !multiples.into_iter().chain(strides).all(|n| n.is_multiple_of(4)) {
            return None;
        }
        let inner = Axis { extent: inner.extent / 4, stride: 1, begin: inner.begin / 4, length: inner.length / 4 };
        let outer = outer.iter().map(|axis| Axis { stride: axis.stride / 4, ..*axis });
        Some(Self { axes: outer.chain([inner]).collect(), offset: self.offset / 4 })
    }
}

/// Where row number `row` of the output begins in the input; `None` where it lies outside.
fn source_of_row(outer: &[Axis], row: usize) -> Option<usize> {
    let mut rest = row;
    let mut start = 0;
    for axis in outer.iter().rev() {
        let coordinate = (rest % axis.extent).checked_sub(axis.begin).filter(|c| *c < axis.length)?;
        start += coordinate * axis.stride;
        rest /= axis.extent;
    }
    Some(start)
}
