//! The inner loops: a tile of the product of a gathered matrix with a packed one, held in registers.

use pulp::Simd;

use crate::kernel::vector::{Kernel, Vector};

/// Rows of the gathered matrix's tile: with two vectors of columns, the accumulators fill most registers.
pub(super) const ROWS: usize = 12;
/// The same where the processor has 16 registers.
const FEW_ROWS: usize = 6;
/// Vectors of columns of a panel.
pub(super) const VECTORS: usize = 2;

/// `count` steps of the inner dimension, whose elements lie `step` apart from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub start: usize,
    pub step: usize,
    pub count: usize,
}

/// Where the rows of a tile come from and go to.
pub(super) trait Rows: Copy {
    /// Number of rows.
    fn count(&self) -> usize;
    /// For the rows from `first` on: where each begins in the gathered matrix, and its result's place in the output.
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N];
}

/// Some of the rows of others.
#[derive(Clone, Copy)]
pub(super) struct Part<R> {
    pub rows: R,
    pub first: usize,
    pub count: usize,
}

impl<R: Rows> Rows for Part<R> {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N] {
        self.rows.place(self.first + first)
    }
}

/// One panel of columns: `out[row, column] = sum over k of a[row, k] panel[k, column]` for all rows.
///
/// Row `i` of `a` is read at `place(i).0` plus what the runs say; its result goes to `place(i).1`. The panel holds, for
/// each step of the runs in order, one or two vectors of columns, of which `columns` elements are stored.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a, R> {
    pub rows: R,
    pub runs: &'a [Run],
    pub columns: usize,
    /// Add to what the output holds.
    pub accumulate: bool,
}

impl<R: Rows> Kernel for Panel<'_, R> {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], b: &[T], out: &mut [T]) {
        if self.columns > T::LANES {
            self.tiles::<S, T, VECTORS>(simd, a, b, out);
        } else {
            self.tiles::<S, T, 1>(simd, a, b, out);
        }
    }
}

impl<R: Rows> Panel<'_, R> {
    #[inline(always)]
    fn tiles<S: Simd, T: Vector<S>, const V: usize>(self, simd: S, a: &[T], b: &[T], out: &mut [T]) {
        let many = S::REGISTER_COUNT >= 32;
        let full = if many { ROWS } else { FEW_ROWS };
        let steps: usize = self.runs.iter().map(|run| run.count).sum();
        assert!(b.len() >= steps * V * T::LANES, "the panel holds every step");
        let mut first = 0;
        while first < self.rows.count() {
            let left = self.rows.count() - first;
            match left {
                _ if left < full && left <= full / 3 => self.tile::<S, T, V, 4>(simd, first, a, b, out),
                _ if many => self.tile::<S, T, V, ROWS>(simd, first, a, b, out),
                _ => self.tile::<S, T, V, FEW_ROWS>(simd, first, a, b, out),
            }
            first += full;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, T: Vector<S>, const V: usize, const N: usize>(
        self,
        simd: S,
        first: usize,
        a: &[T],
        b: &[T],
        out: &mut [T],
    ) {
        // Rows past the last repeat it: they are computed and not stored.
        let places = self.rows.place::<N>(first);
        let far = places.iter().map(|(from, _)| *from).max().unwrap_or(0);
        for run in self.runs {
            assert!(run.count == 0 || far + run.start + (run.count - 1) * run.step < a.len(), "the rows are inside");
        }
        // SAFETY: the two assertions, and the one of `tiles` for the panel.
        let sums = unsafe { accumulate::<S, T, V, N>(simd, a.as_ptr(), places.map(|p| p.0), self.runs, b.as_ptr()) };
        let rows = N.min(self.rows.count() - first);
        for ((_, to), sums) in places.iter().zip(&sums).take(rows) {
            let sums: &[T] = bytemuck::cast_slice(sums);
            let out = &mut out[*to..*to + self.columns];
            if self.accumulate {
                out.iter_mut().zip(sums).for_each(|(o, s)| *o += *s);
            } else if self.columns == V * T::LANES {
                // A length known when compiled: whole vectors are stored.
                out.copy_from_slice(&sums[..V * T::LANES]);
            } else {
                out.copy_from_slice(&sums[..self.columns]);
            }
        }
    }
}

/// # Safety
/// `a + rows[i]` must be readable at every step of the runs, and `b` for `V` vectors a step.
#[inline(always)]
unsafe fn accumulate<S: Simd, T: Vector<S>, const V: usize, const N: usize>(
    simd: S,
    a: *const T,
    rows: [usize; N],
    runs: &[Run],
    mut b: *const T,
) -> [[T::Lanes; V]; N] {
    let mut sums = [[T::splat(simd, T::ZERO); V]; N];
    for run in runs {
        // After the last step the pointers are one step beyond, where nothing is read: hence wrapping.
        let mut a = a.wrapping_add(run.start);
        for _ in 0..run.count {
            let mut columns = [T::splat(simd, T::ZERO); V];
            for (v, column) in columns.iter_mut().enumerate() {
                // SAFETY: promised by the caller, here and below.
                *column = unsafe { b.add(v * T::LANES).cast::<T::Lanes>().read_unaligned() };
            }
            for (sums, row) in sums.iter_mut().zip(rows) {
                let value = T::splat(simd, unsafe { *a.add(row) });
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = T::mul_add(simd, value, column, *sum);
                }
            }
            a = a.wrapping_add(run.step);
            b = b.wrapping_add(V * T::LANES);
        }
    }
    sums
}
