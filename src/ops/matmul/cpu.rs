//! The CPU kernel: tiles of the result, each computed by the `gemm` crate on one thread and finished by the epilogue
//! while it is in the cache.

use gemm::{Parallelism, gemm};
use rayon::prelude::*;

use super::Product;
use crate::{
    kernel::{
        Evaluator, Expr,
        cpu::{Args, Shared},
    },
    tensor::{Real, Shape},
};

/// Tiles that a product is cut into where its extents allow it.
const TILES: usize = 16;

/// How a product is cut: a function of its extents alone, so that the result does not depend on the number of threads.
#[derive(Clone, Copy, Debug)]
struct Tiling {
    /// Rows and columns of a tile.
    rows: usize,
    columns: usize,
    /// Terms of a partial sum, and the number of partial sums.
    depth: usize,
    splits: usize,
}

/// `extent` in equal parts of at least `smallest` and at most `largest`, `parts` where that is possible; the size of a
/// part is a multiple of 16, which the kernels' registers divide.
fn part(extent: usize, parts: usize, smallest: usize, largest: usize) -> usize {
    let parts = parts.min(extent / smallest).max(extent.div_ceil(largest)).max(1);
    extent.div_ceil(parts).next_multiple_of(16).min(extent)
}

impl Tiling {
    fn new(product: &Product) -> Self {
        let Product { batch, m, n, k, .. } = *product;
        // Each tile packs its columns of the second factor anew, which few rows do not repay.
        let fewest_rows = if m < 512 { 64 } else { 128 };
        let rows = part(m, TILES.div_ceil(batch), fewest_rows, 512);
        let row_tiles = batch * m.div_ceil(rows);
        let columns = part(n, TILES.div_ceil(row_tiles), 256, n);
        let tiles = row_tiles * n.div_ceil(columns);
        let depth = part(k, TILES / tiles.min(TILES), 1024, k);
        Self { rows, columns, depth, splits: k.div_ceil(depth) }
    }
}

/// Elements of the partial sums; none where there is one.
fn partial_sums(product: &Product) -> usize {
    match Tiling::new(product).splits {
        1 => 0,
        splits => splits * product.batch * product.m * product.n,
    }
}

/// Elements of the second factor where it is transposed first. Each tile would read all its columns across memory, which
/// takes longer than to write it once the other way where there are several tiles of rows.
fn turned(product: &Product) -> usize {
    const FEWEST_ROWS: usize = 256;
    let Product { batch, m, n, k, transpose_b, .. } = *product;
    if transpose_b && batch == 1 && m >= FEWEST_ROWS { k * n } else { 0 }
}

/// Elements of scratch memory: the partial sums and the transposed factor.
pub(super) fn scratch(product: &Product) -> usize {
    partial_sums(product) + turned(product)
}

pub(super) fn run<T: Real>(product: &Product, epilogue: Option<&Expr>, mut args: Args<'_, T>) {
    let shape = &args.outputs.ty(0).shape;
    let extra = 2..args.inputs.len();
    let shapes: Vec<&Shape> = std::iter::once(shape).chain(extra.clone().map(|n| &args.inputs.ty(n).shape)).collect();
    let evaluator = epilogue.map(|expr| Evaluator::new(expr, &shapes, shape));
    let values: Vec<Option<&[T]>> = std::iter::once(None).chain(extra.map(|n| Some(args.inputs.float(n)))).collect();
    let finish = |window: &mut [T], first: usize| {
        if let Some(evaluator) = &evaluator {
            evaluator.run(&values, window, first);
        }
    };
    let (a, b, y) = (args.inputs.float(0), args.inputs.float(1), args.outputs.float(0));
    if y.is_empty() {
        return;
    }
    let tiling = Tiling::new(product);
    let (partial, turned) = args.scratch.split_at_mut(partial_sums(product));
    let (mut product, mut b) = (*product, b);
    if !turned.is_empty() {
        transpose(b, product.k, turned);
        (product.transpose_b, b) = (false, turned);
    }
    if tiling.splits == 1 {
        multiply(&product, &tiling, a, b, y, finish);
        return;
    }
    multiply(&product, &tiling, a, b, partial, |_, _| ());
    const CHUNK: usize = 4096;
    let elements = y.len();
    y.par_chunks_mut(CHUNK).enumerate().for_each(|(at, chunk)| {
        let first = at * CHUNK;
        chunk.copy_from_slice(&partial[first..first + chunk.len()]);
        for sums in partial.chunks_exact(elements).skip(1) {
            chunk.iter_mut().zip(&sums[first..]).for_each(|(y, sum)| *y += *sum);
        }
        finish(chunk, first);
    });
}

/// Writes the transpose of `matrix`, which has `columns` columns, to `turned`.
fn transpose<T: Real>(matrix: &[T], columns: usize, turned: &mut [T]) {
    // A square at a time, which the first-level cache holds.
    const SIDE: usize = 16;
    let rows = matrix.len() / columns;
    turned.par_chunks_mut(SIDE * rows).enumerate().for_each(|(at, turned)| {
        for (block, matrix) in matrix.chunks(SIDE * columns).enumerate() {
            for (column, turned) in turned.chunks_exact_mut(rows).enumerate() {
                let values = matrix.iter().skip(at * SIDE + column).step_by(columns);
                turned[block * SIDE..].iter_mut().zip(values).for_each(|(to, value)| *to = *value);
            }
        }
    });
}

/// Writes the partial sums `[splits, batch, m, n]` to `y`, and calls `finish` with each run of finished elements and the
/// position of its first.
fn multiply<T: Real>(
    product: &Product,
    tiling: &Tiling,
    a: &[T],
    b: &[T],
    y: &mut [T],
    finish: impl Fn(&mut [T], usize) + Sync,
) {
    let Product { batch, m, n, k, transpose_a, transpose_b } = *product;
    let Tiling { rows, columns, depth, splits } = *tiling;
    assert_eq!(a.len(), batch * m * k);
    assert_eq!(b.len(), batch * k * n);
    assert_eq!(y.len(), splits * batch * m * n);
    // Distances of neighbouring rows and columns of the factors.
    let (row_a, column_a) = if transpose_a { (1, m) } else { (k, 1) };
    let (row_b, column_b) = if transpose_b { (1, k) } else { (n, 1) };
    let (row_tiles, column_tiles) = (m.div_ceil(rows), n.div_ceil(columns));
    let target = Shared::new(y);
    (0..splits * batch * row_tiles * column_tiles).into_par_iter().for_each(|tile| {
        let column = tile % column_tiles * columns;
        let row = tile / column_tiles % row_tiles * rows;
        let matrix = tile / (column_tiles * row_tiles) % batch;
        let split = tile / (column_tiles * row_tiles * batch);
        let (rows, columns) = (rows.min(m - row), columns.min(n - column));
        let term = split * depth;
        let depth = depth.min(k - term);
        let first = ((split * batch + matrix) * m + row) * n + column;
        let a = &a[matrix * m * k + row * row_a + term * column_a..];
        let b = &b[matrix * k * n + term * row_b + column * column_b..];
        // SAFETY: the lengths were checked above, the tile lies inside its matrices, and no other task has this tile.
        unsafe {
            gemm(
                rows,
                columns,
                depth,
                target.at(first),
                1,
                n as isize,
                false,
                a.as_ptr(),
                column_a as isize,
                row_a as isize,
                b.as_ptr(),
                column_b as isize,
                row_b as isize,
                T::ZERO,
                T::ONE,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        // Whole rows follow each other in memory; of a part of the columns, each row is a run of its own.
        let (runs, length) = if columns == n { (1, rows * n) } else { (rows, columns) };
        for run in 0..runs {
            let at = first + run * n;
            // SAFETY: the run lies inside the tile, which this task alone has.
            finish(unsafe { target.part(at, length) }, at);
        }
    });
}
