//! The gradient of the weight: for each tap and channel, a sum over all positions of the batch.
//!
//! The batch is cut into shares by its shape alone. Each task sums one share for some panels of output channels, and
//! the sums of the shares are added in order: the result does not depend on the number of threads.

use rayon::prelude::*;

use super::{
    depthwise::TapSums,
    spread::Spread,
    strip::{Region, Strip},
    winograd,
};
use crate::{
    kernel::{
        cpu::{LINE, aligned, share_out},
        vector,
    },
    ops::{
        conv2d::geometry::{Axis, Geometry},
        panel::{Panel, Rows, Run, VECTORS},
    },
    tensor::Real,
};

/// Elements of a strip of the input, and of as many positions of the gradient: what stays near the first-level cache.
const STRIP: usize = 16 << 10;
/// Elements up to which a strip grows until it has [`POSITIONS`]: what stays in the second-level cache.
const LARGE_STRIP: usize = 96 << 10;
/// Positions that are worth fetching the sums into registers and putting them back.
const POSITIONS: usize = 256;
/// Elements that the sums of all shares may take.
const SUMS: usize = 2 << 20;
/// Most shares, and the number of tasks that is aimed at.
const TASKS: usize = 32;
/// Largest panel: two vectors of 16 elements.
const MOST_COLUMNS: usize = 32;
/// Most channels of groups that are spread: panels of fewer do not fill a vector.
const MOST_SPREAD: usize = 8;

pub(super) struct GradWeight<'a> {
    geometry: &'a Geometry,
    /// Groups of few channels.
    spread: Option<Spread>,
    rows: Axis,
    columns: Axis,
    /// Images of a strip; where there are several they are whole.
    images: usize,
    /// Output rows of a strip, of each image.
    strip_rows: usize,
    /// Strips of the batch, and how many of them make a share.
    strips: usize,
    share: usize,
}

impl<'a> GradWeight<'a> {
    pub fn new(geometry: &'a Geometry) -> Self {
        let (rows, columns) = (Axis::forward(&geometry.window.height), Axis::forward(&geometry.window.width));
        let spread = Spread::of(geometry.groups, geometry.group_in(), geometry.group_out(), MOST_SPREAD);
        let in_channels = spread.map_or(geometry.in_channels, |spread| spread.pixel());
        let fits = |images: usize, n: usize| {
            let region = Region::of(&[[rows, columns]], 0..n);
            let positions = images * n * columns.count;
            let elements = (images * region.pixels() * in_channels).max(positions * geometry.out_channels);
            elements <= STRIP || (elements <= LARGE_STRIP && positions <= POSITIONS)
        };
        let fitting = (1..=rows.count).rev().find(|n| fits(1, *n)).unwrap_or(1);
        let strip_rows = rows.count.div_ceil(rows.count.div_ceil(fitting));
        let whole = strip_rows == rows.count;
        let images = (1..=geometry.batch).rev().find(|images| whole && fits(*images, strip_rows)).unwrap_or(1);
        let strips = geometry.batch.div_ceil(images) * rows.count.div_ceil(strip_rows);
        // Panels are tasks already, and sums of fewer shares are less to add up.
        let panels = geometry.groups * geometry.group_out().div_ceil(MOST_COLUMNS);
        let useful = if spread.is_some() || geometry.depthwise() { TASKS } else { TASKS.div_ceil(panels) };
        let shares = (SUMS / geometry.weight_type().elements()).clamp(1, useful);
        Self { geometry, spread, rows, columns, images, strip_rows, strips, share: strips.div_ceil(shares) }
    }

    /// Whether vectors lie along channels that each have their own sums.
    fn by_channel(&self) -> bool {
        self.spread.is_some() || self.geometry.depthwise()
    }

    fn shares(&self) -> usize {
        self.strips.div_ceil(self.share)
    }

    /// Taps and input channels of a group: rows of the gradient.
    fn steps(&self) -> usize {
        self.geometry.taps() * self.geometry.group_in()
    }

    /// Panels of all groups, of `columns` output channels each.
    fn panels(&self, columns: usize) -> usize {
        self.geometry.groups * self.geometry.group_out().div_ceil(columns)
    }

    /// Elements of the sums of one share.
    fn sums(&self, columns: usize) -> usize {
        let channels = if self.by_channel() { self.geometry.out_channels } else { self.panels(columns) * columns };
        self.steps() * channels
    }

    /// Elements from one share's sums to the next's.
    fn pitch(&self, columns: usize) -> usize {
        if self.by_channel() { self.sums(columns) } else { self.sums(columns).next_multiple_of(LINE) }
    }

    /// Panels that one task computes.
    fn block(&self, columns: usize) -> usize {
        if self.by_channel() {
            return 1;
        }
        let panels = self.panels(columns);
        panels.div_ceil(TASKS.div_ceil(self.shares()).min(panels))
    }

    fn strip_elements(&self) -> usize {
        let region = Region::of(&[[self.rows, self.columns]], 0..self.strip_rows);
        let channels = self.spread.map_or(self.geometry.in_channels, |spread| spread.pixel());
        (self.images * region.pixels() * channels).next_multiple_of(LINE)
    }

    /// Elements of the gradient's positions in a strip, packed for one panel.
    fn packed(&self, columns: usize) -> usize {
        if self.by_channel() {
            return 0;
        }
        (self.images * self.strip_rows * self.columns.count * columns).next_multiple_of(LINE)
    }

    pub fn scratch(&self) -> usize {
        if let Some(winograd) = winograd::GradWeight::of(self.geometry) {
            return winograd.scratch();
        }
        // A panel of fewer columns than the widest takes no more memory, but there are more of them.
        let widths = [2, 4, 8, 16, MOST_COLUMNS];
        let most = |of: &dyn Fn(usize) -> usize| widths.iter().map(|columns| of(*columns)).max().unwrap_or(0);
        let each = self.strip_elements() + most(&|columns| self.packed(columns));
        LINE + self.shares() * most(&|columns| self.pitch(columns)) + rayon::current_num_threads() * each
    }

    pub fn run<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
        if let Some(winograd) = winograd::GradWeight::of(self.geometry) {
            return winograd.run(x, dy, dw, scratch);
        }
        let columns = VECTORS * vector::lanes::<T>();
        let (sums, memory) = aligned(scratch).split_at_mut(self.shares() * self.pitch(columns));
        let (of_share, pitch) = (self.sums(columns), self.pitch(columns));
        let of_task = if self.by_channel() { of_share } else { self.block(columns) * self.steps() * columns };
        let tasks = sums.chunks_mut(pitch).enumerate().flat_map(|(share, sums)| {
            sums[..of_share].chunks_mut(of_task).enumerate().map(move |(block, sums)| (share, block, sums))
        });
        let strip = self.strip_elements();
        share_out(tasks, memory, strip + self.packed(columns), |(share, block, sums), memory| {
            sums.fill(T::ZERO);
            let (strip_memory, packed) = memory.split_at_mut(strip);
            for at in share * self.share..((share + 1) * self.share).min(self.strips) {
                self.add_strip(at, block, x, dy, strip_memory, packed, sums);
            }
        });
        self.add_shares(sums, dw, columns);
    }

    /// Adds the positions of strip `at` to the sums of a block of panels.
    #[expect(clippy::too_many_arguments, reason = "the memory of a strip is lent by the caller, piece by piece")]
    fn add_strip<T: Real>(
        &self,
        at: usize,
        block: usize,
        x: &[T],
        dy: &[T],
        strip_memory: &mut [T],
        packed: &mut [T],
        sums: &mut [T],
    ) {
        let Geometry { batch, window, in_channels, out_channels, .. } = self.geometry;
        let per_image = self.rows.count.div_ceil(self.strip_rows);
        let (image, first) = (at / per_image * self.images, at % per_image * self.strip_rows);
        let images = self.images.min(batch - image);
        let height = self.strip_rows.min(self.rows.count - first);
        let extents = [window.height.input, window.width.input, *in_channels];
        let elements: usize = extents.iter().product();
        let region = Region::of(&[[self.rows, self.columns]], first..first + height);
        let x = &x[image * elements..(image + images) * elements];
        let wide = self.columns.count;
        let position = (image * self.rows.count + first) * wide;
        let dy = &dy[position * out_channels..(position + images * height * wide) * out_channels];
        if let Some(spread) = &self.spread {
            let lanes = vector::lanes::<T>();
            for channel in (0..*out_channels).step_by(lanes) {
                let strip = spread.strip(x, extents, &region, [channel, lanes], strip_memory);
                let Places { taps, starts, pitch } = self.places(&strip, images, first, height);
                let planes = |tap: usize| (0..spread.source).map(move |plane| tap + plane * lanes);
                let taps: Vec<usize> = taps.into_iter().flat_map(planes).collect();
                let kernel =
                    TapSums { taps: &taps, rows: &starts, columns: wide, pitch, channels: lanes, of: *out_channels };
                vector::run(kernel, strip.data, &dy[channel..], &mut sums[channel..]);
            }
            return;
        }
        let strip = Strip::new(x, extents, &region, strip_memory);
        let Places { taps, starts, pitch } = self.places(&strip, images, first, height);
        if self.geometry.depthwise() {
            let channels = *in_channels;
            let kernel = TapSums { taps: &taps, rows: &starts, columns: wide, pitch, channels, of: channels };
            vector::run(kernel, strip.data, dy, sums);
            return;
        }

        let runs: Vec<Run> = starts.iter().map(|&start| Run { start, step: pitch, count: wide }).collect();
        let lanes = vector::lanes::<T>();
        let columns = VECTORS * lanes;
        let of_group = self.geometry.group_out().div_ceil(columns);
        for (nth, sums) in sums.chunks_exact_mut(self.steps() * columns).enumerate() {
            let panel = block * self.block(columns) + nth;
            let (group, first) = (panel / of_group, panel % of_group * columns);
            let used = (self.geometry.group_out() - first).min(columns);
            let width = if used > lanes { columns } else { lanes };
            let from = group * self.geometry.group_out() + first;
            for (row, packed) in dy.chunks_exact(*out_channels).zip(packed.chunks_exact_mut(width)) {
                packed[..used].copy_from_slice(&row[from..from + used]);
                packed[used..].fill(T::ZERO);
            }
            let channels = self.geometry.group_in();
            let rows = Weights { taps: &taps, channels, first: group * channels, pitch: columns };
            let panel = Panel { rows, runs: &runs, columns: used, accumulate: true };
            vector::run(panel, strip.data, packed, sums);
        }
    }

    /// Where taps and rows of positions lie in a strip of some output rows of some images.
    fn places<T: Real>(&self, strip: &Strip<'_, T>, images: usize, first: usize, height: usize) -> Places {
        let (rows, columns) = (&self.rows, &self.columns);
        let corner = strip.at((first * rows.stride) as isize + rows.offset, columns.offset) as usize;
        let (down, across) = (rows.offset_step * strip.row_pitch, columns.offset_step * strip.pixel_pitch);
        let taps = (0..rows.taps).flat_map(|i| (0..columns.taps).map(move |j| i * down + j * across)).collect();
        let start =
            |row: usize| corner + row / height * strip.image_pitch + row % height * rows.stride * strip.row_pitch;
        let starts = (0..images * height).map(start).collect();
        Places { taps, starts, pitch: columns.stride * strip.pixel_pitch }
    }

    /// Adds the sums of the shares, in order, and stores them in the weight's layout.
    fn add_shares<T: Real>(&self, sums: &[T], dw: &mut [T], columns: usize) {
        let channels = self.geometry.out_channels;
        let pitch = self.pitch(columns);
        let group_out = self.geometry.group_out();
        let of_group = group_out.div_ceil(columns);
        dw.par_chunks_exact_mut(channels).enumerate().for_each(|(step, row)| {
            row.fill(T::ZERO);
            for share in sums.chunks_exact(pitch) {
                if self.by_channel() {
                    add(row, &share[step * channels..]);
                    continue;
                }
                for (group, row) in row.chunks_exact_mut(group_out).enumerate() {
                    for (panel, row) in row.chunks_mut(columns).enumerate() {
                        add(row, &share[((group * of_group + panel) * self.steps() + step) * columns..]);
                    }
                }
            }
        });
    }
}

fn add<T: Real>(sums: &mut [T], values: &[T]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
}

/// Where a strip holds what is summed.
struct Places {
    /// Offset of each tap.
    taps: Vec<usize>,
    /// First tap of the first position of each row.
    starts: Vec<usize>,
    /// Distance of neighbouring positions.
    pitch: usize,
}

/// Rows of the weight's gradient: taps, and input channels of a group.
#[derive(Clone, Copy)]
struct Weights<'a> {
    /// Offset in the strip of each tap.
    taps: &'a [usize],
    channels: usize,
    /// First input channel of the group.
    first: usize,
    /// Elements of a row of the sums.
    pitch: usize,
}

impl Rows for Weights<'_> {
    fn count(&self) -> usize {
        self.taps.len() * self.channels
    }

    #[inline(always)]
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N] {
        let (mut tap, mut channel) = (first / self.channels, first % self.channels);
        let mut places = [(0, 0); N];
        for at in &mut places {
            *at = (self.taps[tap] + self.first + channel, (tap * self.channels + channel) * self.pitch);
            if channel + 1 < self.channels {
                channel += 1;
            } else if tap + 1 < self.taps.len() {
                (tap, channel) = (tap + 1, 0);
            }
        }
        places
    }
}
