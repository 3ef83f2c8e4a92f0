//! What the operations over the last axis share: the tensor as rows, and how a GPU takes them.

use crate::{
    kernel::gpu,
    tensor::{Real, Shape},
};

/// A tensor as `[rows, columns]`, where a row is the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub rows: usize,
    pub columns: usize,
}

impl Rows {
    pub fn of(shape: &Shape) -> Self {
        let columns = shape.last();
        Self { rows: shape.elements() / columns.max(1), columns }
    }

    /// Rows that a thread of the CPU takes at least, so that what it gains is more than what handing it over costs.
    pub fn min_rows(&self) -> usize {
        1024usize.div_ceil(self.columns.max(1))
    }

    /// Invocations of a workgroup of 256 that share one row: all for a long row, else no more than it has columns. A
    /// processor gains nothing from more of them, so there they are one subgroup, which needs no barrier.
    fn lanes(&self, limits: &gpu::Limits) -> usize {
        let most = limits.subgroup.filter(|_| limits.software).map_or(256, |(smallest, _)| smallest as usize);
        self.columns.next_power_of_two().min(most)
    }

    /// The shader in `path`, of which a workgroup of 256 owns 256 / LANES rows.
    pub fn shader(&self, path: &'static str, limits: &gpu::Limits) -> gpu::Shader {
        gpu::Shader::file(path)
            .feature("SUBGROUPS", limits.subgroup.is_some())
            .constant("ROWS", self.rows)
            .constant("COLUMNS", self.columns)
            .constant("LANES", self.lanes(limits))
    }

    pub fn workgroups(&self, limits: &gpu::Limits) -> [u32; 3] {
        gpu::spread_workgroups(self.rows.div_ceil(256 / self.lanes(limits)))
    }
}

/// The maximum of a row and the sum of `e^(x - maximum)`, which is at least 1 and does not overflow.
#[inline(always)]
pub(super) fn maximum_and_exponentials<T: Real>(row: &[T]) -> (T, T) {
    let maximum = row.iter().fold(T::NEG_INFINITY, |best, &x| best.max(x));
    (maximum, row.iter().map(|&x| (x - maximum).exp()).sum())
}
