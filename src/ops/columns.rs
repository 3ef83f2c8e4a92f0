//! What reductions over all axes but the last share: the tensor as rows of channels, and how the processor and a GPU
//! take it apart. The parts never depend on the number of threads, so neither do the results.

use crate::{kernel::gpu, tensor::Real};

/// Neighbouring channels that the CPU kernels take at once: the sums stay in vector registers or next to them.
pub(super) const LANES: usize = 64;

/// Rows of one part on the CPU: about 64 KiB, which stay in the second-level cache from pass to pass.
pub(super) fn rows_of_part(channels: usize) -> usize {
    ((1 << 14) / channels.max(1)).max(32)
}

/// Calls `body` with [`LANES`] channels from `from` on of one row of each array after the other. Where channels are fewer
/// than that, with as many whole rows as fit: lane `j` belongs to channel `j % channels`.
#[inline(always)]
pub(super) fn for_lanes<T, const N: usize>(
    arrays: [&[T]; N],
    channels: usize,
    from: usize,
    mut body: impl FnMut([&[T]; N]),
) {
    let width = channels * (LANES / channels).max(1);
    let elements = arrays[0].len();
    let lanes = LANES.min(width - from);
    // With a length known when compiled, what the body sums up stays in registers.
    let whole = if lanes == LANES { elements / width * width } else { 0 };
    for row in (0..whole).step_by(width) {
        body(arrays.map(|array| &array[row + from..][..LANES]));
    }
    for first in (whole + from..elements).step_by(width) {
        body(arrays.map(|array| &array[first..(first + lanes).min(elements)]));
    }
}

/// The lanes that hold `values`, one a channel, repeated.
#[inline(always)]
pub(super) fn repeat<T: Real>(values: &[T]) -> [T; LANES] {
    std::array::from_fn(|lane| values[lane % values.len()])
}

/// Adds up the lanes that belong to the same channel.
#[inline(always)]
pub(super) fn fold<T: Real>(lanes: &[T; LANES], channels: &mut [T]) {
    channels.fill(T::ZERO);
    for lanes in lanes.chunks(channels.len()) {
        for (channel, lane) in channels.iter_mut().zip(lanes) {
            *channel += *lane;
        }
    }
}

/// How a GPU reduces `[items, channels]` to `[splits, channels]`: a workgroup of 256 owns `width` neighbouring vectors
/// of channels of one split, which takes `chunk` items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    items: usize,
    channels: usize,
    vector: usize,
    width: usize,
    pub chunk: usize,
    pub splits: usize,
}

impl Grid {
    /// Enough splits that every GPU is busy, where each invocation still has 16 items.
    pub fn new(items: usize, channels: usize) -> Self {
        let vector = if channels.is_multiple_of(4) { 4 } else { 1 };
        let vectors = channels / vector;
        let width = vectors.next_power_of_two().min(32);
        let useful = items.div_ceil(16 * 256 / width).max(1);
        let splits = 1024usize.div_ceil(vectors.div_ceil(width)).min(useful);
        let chunk = items.div_ceil(splits).max(1);
        Self { items, channels, vector, width, chunk, splits: items.div_ceil(chunk).max(1) }
    }

    /// The reduction of this one's splits to one: few channels a workgroup, because the splits are many.
    pub fn merge(&self) -> Self {
        Self { items: self.splits, width: self.width.min(4), chunk: self.splits, splits: 1, ..*self }
    }

    /// One split of few items a channel, such as the parts of an earlier pass: few channels a workgroup, because there are
    /// many.
    pub fn whole(items: usize, channels: usize) -> Self {
        Self { splits: items, ..Self::new(items, channels) }.merge()
    }

    /// Elements of an array with a number for each split and channel.
    pub fn partials(&self) -> usize {
        self.splits * self.channels
    }

    /// The shader in `path` with this geometry.
    pub fn shader(&self, path: &'static str) -> gpu::Shader {
        gpu::Shader::file(path)
            .feature("VECTOR", self.vector == 4)
            .constant("ITEMS", self.items)
            .constant("CHANNELS", self.channels / self.vector)
            .constant("WIDTH", self.width)
            .constant("CHUNK", self.chunk)
            .constant("SPLITS", self.splits)
    }

    pub fn workgroups(&self) -> [u32; 3] {
        gpu::spread_workgroups(self.splits * (self.channels / self.vector).div_ceil(self.width))
    }

    /// What the plan's table says of it.
    pub fn describe(&self, name: &str) -> String {
        match self.splits {
            1 => format!("{name} x{}", self.vector),
            splits => format!("{name} x{} split {splits}", self.vector),
        }
    }
}
