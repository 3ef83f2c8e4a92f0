//! The transforms of F(2x2, 3x3), vectors along the channels.

use pulp::Simd;

use super::{CHANNELS, PRODUCTS, TILE, Tiles};
use crate::kernel::vector::{Kernel, Vector};

/// A linear map of `N` values to `M`, applied to the rows and the columns of a square.
pub(super) trait Transform<const N: usize, const M: usize>: Copy {
    fn apply<S: Simd, T: Vector<S>>(simd: S, values: [T::Lanes; N]) -> [T::Lanes; M];
}

/// `B'`: a patch of pixels.
#[derive(Clone, Copy)]
pub(super) struct Patch;

impl Transform<4, 4> for Patch {
    #[inline(always)]
    fn apply<S: Simd, T: Vector<S>>(simd: S, [a, b, c, d]: [T::Lanes; 4]) -> [T::Lanes; 4] {
        [T::minus(simd, a, c), T::plus(simd, b, c), T::minus(simd, c, b), T::minus(simd, b, d)]
    }
}

/// `A`: the gradient of the results.
#[derive(Clone, Copy)]
pub(super) struct Gradient;

impl Transform<2, 4> for Gradient {
    #[inline(always)]
    fn apply<S: Simd, T: Vector<S>>(simd: S, [a, b]: [T::Lanes; 2]) -> [T::Lanes; 4] {
        [a, T::plus(simd, a, b), T::minus(simd, a, b), T::minus(simd, T::splat(simd, T::ZERO), b)]
    }
}

/// `A'`: the results.
#[derive(Clone, Copy)]
struct Result;

impl Transform<4, 2> for Result {
    #[inline(always)]
    fn apply<S: Simd, T: Vector<S>>(simd: S, [a, b, c, d]: [T::Lanes; 4]) -> [T::Lanes; 2] {
        let (sum, difference) = (T::plus(simd, b, c), T::minus(simd, b, c));
        [T::plus(simd, a, sum), T::minus(simd, difference, d)]
    }
}

/// `G`: the weights.
#[derive(Clone, Copy)]
struct Weight;

impl Transform<3, 4> for Weight {
    #[inline(always)]
    fn apply<S: Simd, T: Vector<S>>(simd: S, [a, b, c]: [T::Lanes; 3]) -> [T::Lanes; 4] {
        let half = T::splat(simd, T::from_f32(0.5));
        let sum = T::plus(simd, a, c);
        let (plus, minus) = (T::plus(simd, sum, b), T::minus(simd, sum, b));
        [a, T::times(simd, plus, half), T::times(simd, minus, half), c]
    }
}

/// `G'`: the gradient of the weights.
#[derive(Clone, Copy)]
struct WeightGradient;

impl Transform<4, 3> for WeightGradient {
    #[inline(always)]
    fn apply<S: Simd, T: Vector<S>>(simd: S, [a, b, c, d]: [T::Lanes; 4]) -> [T::Lanes; 3] {
        let half = T::splat(simd, T::from_f32(0.5));
        let sum = T::times(simd, T::plus(simd, b, c), half);
        [T::plus(simd, a, sum), T::times(simd, T::minus(simd, b, c), half), T::plus(simd, sum, d)]
    }
}

/// `f` of the rows of a square, then of the columns of what that gives.
#[inline(always)]
fn both<S: Simd, T: Vector<S>, F: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    _: F,
    square: [[T::Lanes; N]; N],
) -> [[T::Lanes; M]; M] {
    let zero = T::splat(simd, T::ZERO);
    let (mut rows, mut result) = ([[zero; M]; N], [[zero; M]; M]);
    for (row, values) in rows.iter_mut().zip(square) {
        *row = F::apply::<S, T>(simd, values);
    }
    for m in 0..M {
        let mut column = [zero; N];
        for (value, row) in column.iter_mut().zip(&rows) {
            *value = row[m];
        }
        for (row, value) in result.iter_mut().zip(F::apply::<S, T>(simd, column)) {
            row[m] = value;
        }
    }
    result
}

/// Transforms a patch of `N` x `N` pixels of each tile of some images `a`; `b` holds a pixel of zeros, which is what lies
/// outside of the images.
///
/// The result is `[panels, 16, tiles, columns of a panel]`, `pitch` elements a matrix.
#[derive(Clone, Copy)]
pub(super) struct Scatter<F, const N: usize> {
    pub transform: F,
    pub tiles: Tiles,
    /// Height, width and channels of the images.
    pub image: [usize; 3],
    /// Where the first tile's patch begins.
    pub offset: [isize; 2],
    /// Channels of a panel; the last one may have fewer.
    pub columns: usize,
    pub pitch: usize,
}

impl<F: Transform<N, 4>, const N: usize> Kernel for Scatter<F, N> {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], b: &[T], out: &mut [T]) {
        let Self { tiles, image: [height, width, channels], offset, columns, pitch, .. } = self;
        let panels = channels.div_ceil(columns);
        assert!(channels.is_multiple_of(T::LANES) && columns.is_multiple_of(T::LANES), "whole vectors");
        assert!(tiles.count() * columns <= pitch && panels * PRODUCTS * pitch <= out.len(), "room for every tile");
        let zeros = &b[..channels];
        for tile in 0..tiles.count() {
            let [image, row, column] = tiles.place(tile);
            let mut pixels = [[zeros.as_ptr(); N]; N];
            for (i, pixels) in pixels.iter_mut().enumerate() {
                let row = (row + i).wrapping_add_signed(offset[0]);
                for (j, pixel) in pixels.iter_mut().enumerate() {
                    let column = (column + j).wrapping_add_signed(offset[1]);
                    if row < height && column < width {
                        let at = ((image * height + row) * width + column) * channels;
                        *pixel = a[at..at + channels].as_ptr();
                    }
                }
            }
            for first in (0..channels).step_by(columns) {
                let panel = columns.min(channels - first);
                let to = first / columns * PRODUCTS * pitch + tile * panel;
                for vector in (0..panel).step_by(T::LANES) {
                    let mut patch = [[T::splat(simd, T::ZERO); N]; N];
                    for (value, pixel) in patch.iter_mut().flatten().zip(pixels.as_flattened()) {
                        // SAFETY: each pointer has a pixel's channels, and vectors divide them.
                        *value = unsafe { pixel.add(first + vector).cast::<T::Lanes>().read_unaligned() };
                    }
                    let patch = both::<S, T, F, N, 4>(simd, self.transform, patch);
                    for (product, value) in patch.iter().flatten().enumerate() {
                        let to = to + product * pitch + vector;
                        // SAFETY: `to + LANES` is at most a matrix's end, of which there is room for all.
                        unsafe { out.as_mut_ptr().add(to).cast::<T::Lanes>().write_unaligned(*value) };
                    }
                }
            }
        }
    }
}

/// Transforms the products `a` `[16, tiles, channels]`, `pitch` elements a matrix, back to the pixels `out` of some rows
/// of some images.
#[derive(Clone, Copy)]
pub(super) struct Gather {
    pub tiles: Tiles,
    pub width: usize,
    pub channels: usize,
    pub pitch: usize,
}

impl Kernel for Gather {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], _: &[T], out: &mut [T]) {
        let Self { tiles, width, channels, pitch } = self;
        assert!(channels.is_multiple_of(T::LANES), "whole vectors");
        assert!(tiles.count() * channels <= pitch && PRODUCTS * pitch <= a.len(), "every product is there");
        let height = out.len() / (tiles.images * width * channels);
        for tile in 0..tiles.count() {
            let [image, row, column] = tiles.place(tile);
            let row = row - tiles.first_row * TILE;
            for vector in (0..channels).step_by(T::LANES) {
                let mut products = [[T::splat(simd, T::ZERO); 4]; 4];
                for (product, value) in products.iter_mut().flatten().enumerate() {
                    let from = product * pitch + tile * channels + vector;
                    // SAFETY: `from + LANES` is at most a matrix's end, and all of them are there.
                    *value = unsafe { a.as_ptr().add(from).cast::<T::Lanes>().read_unaligned() };
                }
                let results = both::<S, T, Result, 4, 2>(simd, Result, products);
                for (i, results) in results.iter().enumerate() {
                    for (j, value) in results.iter().enumerate() {
                        if row + i < height && column + j < width {
                            let to = ((image * height + row + i) * width + column + j) * channels + vector;
                            out[to..to + T::LANES].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(value)));
                        }
                    }
                }
            }
        }
    }
}

/// Transforms the weight `a` for one panel of target channels, to `[16, source channels, columns]`.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// Where the weights of each tap begin for the panel.
    pub taps: [[usize; 3]; 3],
    /// Distance in the weight of neighbouring source and target channels; one of them is 1.
    pub source: usize,
    pub target: usize,
    pub source_channels: usize,
    pub columns: usize,
}

impl Kernel for Weights {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], _: &[T], out: &mut [T]) {
        // Where target channels do not lie side by side they are turned, a square of source and target channels a time.
        let taps = self.taps.as_flattened();
        let mut turned = [[T::ZERO; CHANNELS * CHANNELS]; 9];
        for first in (0..self.source_channels).step_by(CHANNELS) {
            for column in (0..self.columns).step_by(T::LANES) {
                if self.target != 1 {
                    for (turned, tap) in turned.iter_mut().zip(taps) {
                        for lane in 0..T::LANES {
                            let from = tap + (column + lane) * self.target + first * self.source;
                            for (channel, weight) in a[from..from + CHANNELS].iter().enumerate() {
                                turned[channel * T::LANES + lane] = *weight;
                            }
                        }
                    }
                }
                for channel in 0..CHANNELS {
                    let mut weights = [[T::splat(simd, T::ZERO); 3]; 3];
                    for (value, (tap, turned)) in weights.iter_mut().flatten().zip(taps.iter().zip(&turned)) {
                        let from = match self.target {
                            1 => &a[tap + (first + channel) * self.source + column..],
                            _ => &turned[channel * T::LANES..],
                        };
                        *value = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..T::LANES]));
                    }
                    let weights = both::<S, T, Weight, 3, 4>(simd, Weight, weights);
                    for (product, value) in weights.iter().flatten().enumerate() {
                        let to = (product * self.source_channels + first + channel) * self.columns + column;
                        out[to..to + T::LANES].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(value)));
                    }
                }
            }
        }
    }
}

/// Adds up the sums `a` of all shares, each `[panels, 16, input channels, columns]`, for some input channels of one panel
/// and transforms them to the gradient of the weights, `[9, input channels, columns]`.
#[derive(Clone, Copy)]
pub(super) struct WeightGradients {
    /// First element in the first share.
    pub first: usize,
    /// Elements of a share and of a matrix.
    pub share: usize,
    pub pitch: usize,
    /// Input channels, times the panel's columns.
    pub elements: usize,
}

impl Kernel for WeightGradients {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], _: &[T], out: &mut [T]) {
        for at in (0..self.elements).step_by(T::LANES) {
            let mut sums = [[T::splat(simd, T::ZERO); 4]; 4];
            for share in a.chunks_exact(self.share) {
                for (product, sum) in sums.iter_mut().flatten().enumerate() {
                    let from = self.first + product * self.pitch + at;
                    let more = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&share[from..from + T::LANES]));
                    *sum = T::plus(simd, *sum, more);
                }
            }
            let gradients = both::<S, T, WeightGradient, 4, 3>(simd, WeightGradient, sums);
            for (tap, value) in gradients.iter().flatten().enumerate() {
                let to = tap * self.elements + at;
                out[to..to + T::LANES].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(value)));
            }
        }
    }
}
