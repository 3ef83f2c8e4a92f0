//! The inner loops of depthwise convolution: vectors along the channels, several positions at a time.

use pulp::Simd;

use crate::{
    kernel::vector::{Kernel, Vector},
    ops::panel::Rows,
};

/// Positions that share a load of the weight.
const POSITIONS: usize = 8;
/// Taps whose sums the gradient of the weight holds in registers.
const TAPS: usize = 9;

/// `out[position, c] = sum over taps of a[position + tap.0, c] b[tap.1 + c]` for all positions and channels.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a, R> {
    pub rows: R,
    /// Offset in the strip and in the weight of each tap.
    pub taps: &'a [(usize, usize)],
    /// Channels from the slices' first on.
    pub channels: usize,
}

impl<R: Rows> Kernel for Taps<'_, R> {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], b: &[T], out: &mut [T]) {
        let vectors = self.channels / T::LANES;
        for first in (0..self.rows.count()).step_by(POSITIONS) {
            // Positions past the last repeat it: they are computed and not stored.
            let places = self.rows.place::<POSITIONS>(first);
            let stored = &places[..POSITIONS.min(self.rows.count() - first)];
            for vector in 0..vectors {
                let channel = vector * T::LANES;
                let mut sums = [T::splat(simd, T::ZERO); POSITIONS];
                for &(source, weight) in self.taps {
                    let w = load::<S, T>(b, weight + channel);
                    for (sum, (from, _)) in sums.iter_mut().zip(&places) {
                        *sum = T::mul_add(simd, load::<S, T>(a, from + source + channel), w, *sum);
                    }
                }
                for ((_, to), sum) in stored.iter().zip(sums) {
                    store::<S, T>(out, to + channel, sum);
                }
            }
            for (from, to) in stored {
                for channel in vectors * T::LANES..self.channels {
                    let products = self.taps.iter().map(|(source, w)| a[from + source + channel] * b[w + channel]);
                    out[to + channel] = products.sum();
                }
            }
        }
    }
}

/// `out[tap, c] += sum over positions of a[position + tap, c] b[position, c]` for all taps and channels.
#[derive(Clone, Copy)]
pub(super) struct TapSums<'a> {
    /// Offset in the strip of each tap.
    pub taps: &'a [usize],
    /// Offset in the strip of each row of positions.
    pub rows: &'a [usize],
    /// Positions of a row.
    pub columns: usize,
    /// Distance in the strip of neighbouring positions of a row.
    pub pitch: usize,
    /// Channels from the slices' first on, and those of a whole position or tap of `b` and `out`.
    pub channels: usize,
    pub of: usize,
}

impl Kernel for TapSums<'_> {
    #[inline(always)]
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], b: &[T], out: &mut [T]) {
        let vectors = self.channels / T::LANES;
        for (block, taps) in self.taps.chunks(TAPS).enumerate() {
            let out = &mut out[block * TAPS * self.of..];
            let mut offsets = [0; TAPS];
            offsets[..taps.len()].copy_from_slice(taps);
            for channel in (0..vectors).map(|vector| vector * T::LANES) {
                // Taps past the last repeat the strip's beginning: they are summed and not stored.
                let mut sums = [T::splat(simd, T::ZERO); TAPS];
                for (tap, sum) in (0..taps.len()).zip(&mut sums) {
                    *sum = load::<S, T>(out, tap * self.of + channel);
                }
                self.each_position(|from, position| {
                    let dy = load::<S, T>(b, position * self.of + channel);
                    for (sum, tap) in sums.iter_mut().zip(offsets) {
                        *sum = T::mul_add(simd, load::<S, T>(a, from + tap + channel), dy, *sum);
                    }
                });
                for (tap, sum) in (0..taps.len()).zip(sums) {
                    store::<S, T>(out, tap * self.of + channel, sum);
                }
            }
            for channel in vectors * T::LANES..self.channels {
                for (at, tap) in taps.iter().enumerate() {
                    let mut sum = T::ZERO;
                    self.each_position(|from, position| {
                        sum += a[from + tap + channel] * b[position * self.of + channel];
                    });
                    out[at * self.of + channel] += sum;
                }
            }
        }
    }
}

impl TapSums<'_> {
    /// Calls `body` with where each position lies in the strip, and its number.
    #[inline(always)]
    fn each_position(&self, mut body: impl FnMut(usize, usize)) {
        let mut position = 0;
        for row in self.rows {
            for column in 0..self.columns {
                body(row + column * self.pitch, position);
                position += 1;
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd, T: Vector<S>>(from: &[T], at: usize) -> T::Lanes {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[at..at + T::LANES]))
}

#[inline(always)]
fn store<S: Simd, T: Vector<S>>(to: &mut [T], at: usize, value: T::Lanes) {
    to[at..at + T::LANES].copy_from_slice(bytemuck::cast_slice(&[value]));
}
