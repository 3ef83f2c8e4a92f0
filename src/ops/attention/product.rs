//! Matrix products of factors that lie within larger tensors, on one thread.

use crate::{
    kernel::vector::{self, lanes},
    ops::panel::{Panel, Rows, Run, VECTORS},
    tensor::Real,
};

/// A matrix that is read where it lies: from element `start` on, with so many elements from a row to the next and from a
/// column to the next.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a, T> {
    pub data: &'a [T],
    pub start: usize,
    pub down: usize,
    pub across: usize,
}

impl<'a, T> Factor<'a, T> {
    /// Rows of `pitch` elements.
    pub fn of(data: &'a [T], pitch: usize) -> Self {
        Self { data, start: 0, down: pitch, across: 1 }
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { down: self.across, across: self.down, ..self }
    }

    /// The rows from `row` on.
    pub fn from(self, row: usize) -> Self {
        Self { start: self.start + row * self.down, ..self }
    }

    /// The first elements of a row that lies in one piece.
    pub fn row(self, row: usize, columns: usize) -> &'a [T] {
        &self.data[self.start + row * self.down..][..columns]
    }
}

/// Rows that lie equally far apart, in the factor and in the product.
#[derive(Clone, Copy)]
struct Strided {
    count: usize,
    from: usize,
    down: usize,
    to: usize,
    pitch: usize,
}

impl Rows for Strided {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N] {
        std::array::from_fn(|n| {
            let row = (first + n).min(self.count - 1);
            (self.from + row * self.down, self.to + row * self.pitch)
        })
    }
}

/// Elements of a packed matrix.
pub(super) fn packed(rows: usize, columns: usize, lanes: usize) -> usize {
    rows * columns.next_multiple_of(lanes)
}

/// Packs the first rows and columns of `from` into panels, for [`multiply`].
pub(super) fn pack<T: Real>(from: Factor<'_, T>, [rows, columns]: [usize; 2], packed: &mut [T]) {
    let lanes = lanes::<T>();
    for first in (0..columns).step_by(VECTORS * lanes) {
        let used = (columns - first).min(VECTORS * lanes);
        let width = used.next_multiple_of(lanes);
        for (row, to) in packed[first * rows..].chunks_exact_mut(width).take(rows).enumerate() {
            let data = &from.data[from.start + row * from.down + first * from.across..];
            let (to, beyond) = to.split_at_mut(used);
            match from.across {
                1 => to.copy_from_slice(&data[..used]),
                across => to.iter_mut().zip(data.iter().step_by(across)).for_each(|(to, x)| *to = *x),
            }
            beyond.fill(T::ZERO);
        }
    }
}

/// `out = a b`, or `out += a b` to `accumulate`, of `a` `[rows, terms]` and packed `b` `[terms, columns]`; a row of `out`
/// has `pitch` elements.
pub(super) fn multiply<T: Real>(
    [rows, terms, columns]: [usize; 3],
    a: Factor<'_, T>,
    b: &[T],
    out: &mut [T],
    pitch: usize,
    accumulate: bool,
) {
    let panel = VECTORS * lanes::<T>();
    let runs = [Run { start: 0, step: a.across, count: terms }];
    for first in (0..columns).step_by(panel) {
        let rows = Strided { count: rows, from: a.start, down: a.down, to: first, pitch };
        let columns = (columns - first).min(panel);
        vector::run(Panel { rows, runs: &runs, columns, accumulate }, a.data, &b[first * terms..], out);
    }
}
