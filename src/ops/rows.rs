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

/// Elements that a sum over a row keeps apart: whole vectors of every processor, and a smaller error.
const APART: usize = 16;

/// What `of` makes of the elements of some rows of equal length, folded in [`APART`] interleaved parts.
#[inline(always)]
fn fold<T: Real, const N: usize>(rows: [&[T]; N], start: T, of: impl Fn([T; N]) -> T, both: impl Fn(T, T) -> T) -> T {
    let length = rows.first().map_or(0, |row| row.len());
    let rows = rows.map(|row| &row[..length]);
    let mut parts = [start; APART];
    for first in (0..length / APART * APART).step_by(APART) {
        let rows = rows.map(|row| &row[first..first + APART]);
        for (at, part) in parts.iter_mut().enumerate() {
            *part = both(*part, of(rows.map(|row| row[at])));
        }
    }
    for (at, part) in (length / APART * APART..length).zip(&mut parts) {
        *part = both(*part, of(rows.map(|row| row[at])));
    }
    parts.into_iter().fold(start, both)
}

/// The sum of what `of` makes of the elements of some rows of equal length.
#[inline(always)]
pub(super) fn sum<T: Real, const N: usize>(rows: [&[T]; N], of: impl Fn([T; N]) -> T) -> T {
    fold(rows, T::ZERO, of, |a, b| a + b)
}

/// The largest element of a row.
#[inline(always)]
pub(super) fn largest<T: Real>(row: &[T]) -> T {
    fold([row], T::NEG_INFINITY, |[x]| x, T::max)
}

/// The maximum of a row and the sum of `e^(x - maximum)`, which is at least 1 and does not overflow.
#[inline(always)]
pub(super) fn maximum_and_exponentials<T: Real>(row: &[T]) -> (T, T) {
    let maximum = largest(row);
    (maximum, row.iter().map(|&x| (x - maximum).exp()).sum())
}
