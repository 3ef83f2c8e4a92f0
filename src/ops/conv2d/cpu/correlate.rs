//! The forward pass and the gradient of the input: sums over taps, computed strip by strip.
//!
//! A task owns a strip of the target, whole rows of one image or several whole images. It copies what the strip reads,
//! with its padding, into memory of its own that stays in the second-level cache (nothing is copied where there is no
//! padding), and multiplies it with the packed weight straight from there: a row of the matrix that im2col would make
//! is a few runs of the strip, so the matrix itself is never made.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    depthwise::Taps,
    strip::{Region, Strip},
    winograd,
};
use crate::{
    kernel::{
        cpu::{LINE, Shared, aligned, misaligned, share_out},
        vector,
    },
    ops::{
        conv2d::geometry::{Axis, Geometry},
        panel::{Panel, Part, ROWS, Rows, Run, VECTORS},
    },
    tensor::Real,
};

/// Elements of a strip: with a panel of the weight it stays in a second-level cache.
const STRIP: usize = 96 << 10;
/// Tasks that a batch is cut into, where they keep enough positions to make use of a panel.
const TASKS: usize = 32;
/// Fewest positions that a task is cut down to.
const POSITIONS: usize = 48;
/// Positions of the whole batch up to which threads divide the target's channels instead: there are too few tasks of
/// positions, and the weight is most of what is read.
const FEW_POSITIONS: usize = 512;
/// Target channels of such a task.
const COLUMNS: usize = 64;
/// Most elements of a vector: what the size of scratch memory counts with.
const MOST_LANES: usize = 16;

/// A sum over taps between two images.
pub(super) struct Correlation {
    pub batch: usize,
    /// Rows and columns of each phase.
    pub phases: Vec<[Axis; 2]>,
    pub groups: usize,
    /// Channels of a group.
    pub source_channels: usize,
    pub target_channels: usize,
    pub weight: WeightLayout,
}

/// A weight as it is, or packed.
#[derive(Clone, Copy)]
enum Weight<'a, T> {
    Plain(&'a [T]),
    Packed(&'a [T]),
}

/// Distances in the weight `[kernel height, kernel width, in_channels / groups, out_channels]`.
#[derive(Clone, Copy)]
pub(super) struct WeightLayout {
    pub kernel_width: usize,
    pub tap: usize,
    pub group: usize,
    pub source: usize,
    pub target: usize,
}

/// How a batch is cut into tasks.
#[derive(Clone, Copy)]
struct Cut {
    images: usize,
    /// Blocks of rows; a block is one row of each phase.
    blocks: usize,
    strip: usize,
}

impl Correlation {
    pub fn forward(geometry: &Geometry) -> Self {
        let window = &geometry.window;
        Self {
            batch: geometry.batch,
            phases: vec![[Axis::forward(&window.height), Axis::forward(&window.width)]],
            groups: geometry.groups,
            source_channels: geometry.group_in(),
            target_channels: geometry.group_out(),
            weight: WeightLayout {
                kernel_width: window.width.kernel,
                tap: geometry.group_in() * geometry.out_channels,
                group: geometry.group_out(),
                source: geometry.out_channels,
                target: 1,
            },
        }
    }

    pub fn backward(geometry: &Geometry) -> Self {
        let columns = Axis::backward(&geometry.window.width);
        let phases = Axis::backward(&geometry.window.height)
            .into_iter()
            .flat_map(|rows| columns.iter().map(move |columns| [rows, *columns]))
            .collect();
        let forward = Self::forward(geometry);
        let weight = WeightLayout { source: 1, target: geometry.out_channels, ..forward.weight };
        Self {
            phases,
            source_channels: forward.target_channels,
            target_channels: forward.source_channels,
            weight,
            ..forward
        }
    }

    fn depthwise(&self) -> bool {
        self.groups > 1 && self.source_channels == 1 && self.target_channels == 1
    }

    /// Height, width and channels of a target image.
    pub fn target(&self) -> [usize; 3] {
        let [rows, columns] = self.phases[0];
        [rows.target, columns.target, self.groups * self.target_channels]
    }

    /// Height, width and channels of a source image.
    pub fn source(&self) -> [usize; 3] {
        let [rows, columns] = self.phases[0];
        [rows.source, columns.source, self.groups * self.source_channels]
    }

    fn cut(&self) -> Cut {
        let [height, width, _] = self.target();
        let [.., channels] = self.source();
        let step = self.phases[0][0].step;
        let total = height.div_ceil(step);
        let strip = |blocks: usize| Region::of(&self.phases, 0..blocks).pixels() * channels;
        let whole = strip(total);
        if whole <= STRIP && self.batch >= TASKS {
            let images = (STRIP / whole.max(1)).clamp(1, self.batch / TASKS);
            return Cut { images, blocks: total, strip: images * whole };
        }
        let fitting = (1..=total).rev().find(|blocks| strip(*blocks) <= STRIP).unwrap_or(1);
        let useful = (height * width / POSITIONS).max(1);
        let parts = total.div_ceil(fitting).max(TASKS.div_ceil(self.batch).min(useful));
        let blocks = total.div_ceil(parts);
        Cut { images: 1, blocks, strip: strip(blocks) }
    }

    /// Whether threads divide the target's channels, and not its positions.
    fn by_columns(&self) -> bool {
        let [height, width, channels] = self.target();
        let positions = self.batch * height * width;
        self.groups == 1 && channels >= 2 * COLUMNS && positions <= FEW_POSITIONS
    }

    /// Elements of memory of a task that owns channels: its strip, a panel of the weight, and its part of the target.
    fn of_columns(&self, lanes: usize) -> [usize; 3] {
        let [height, width, _] = self.target();
        let [.., channels] = self.source();
        let strip = self.batch * Region::of(&self.phases, 0..height).pixels() * channels;
        let steps = self.phases.iter().map(|phase| self.steps(phase)).max().unwrap_or(0);
        let panel = steps * VECTORS * lanes;
        [strip.next_multiple_of(LINE), panel.next_multiple_of(LINE), self.batch * height * width * COLUMNS]
    }

    /// Taps and source channels of a group: terms of each sum of a phase.
    fn steps(&self, [rows, columns]: &[Axis; 2]) -> usize {
        rows.taps * columns.taps * self.source_channels
    }

    /// Elements of the packed weight of one phase.
    fn packed(&self, phase: &[Axis; 2], lanes: usize) -> usize {
        self.steps(phase) * self.groups * self.target_channels.next_multiple_of(lanes)
    }

    fn packed_total(&self, lanes: usize) -> usize {
        if self.depthwise() { 0 } else { self.phases.iter().map(|phase| self.packed(phase, lanes)).sum() }
    }

    pub fn scratch(&self) -> usize {
        if let Some(winograd) = winograd::Correlation::of(self) {
            return LINE + winograd.packed() + winograd.memory();
        }
        if self.by_columns() {
            return LINE + rayon::current_num_threads() * self.of_columns(MOST_LANES).iter().sum::<usize>();
        }
        LINE + self.packed_total(MOST_LANES) + rayon::current_num_threads() * self.cut().strip.max(1)
    }

    /// [`Correlation::scratch`] of a weight that is packed once.
    pub fn packed_scratch(&self) -> usize {
        if let Some(winograd) = winograd::Correlation::packed_once(self) {
            return LINE + winograd.memory();
        }
        if self.by_columns() {
            return LINE + rayon::current_num_threads() * self.of_columns(0).iter().sum::<usize>();
        }
        LINE + rayon::current_num_threads() * self.cut().strip.max(1)
    }

    /// Elements of a weight that is packed once; `None` where it is read as it is.
    pub fn packed_elements(&self) -> Option<usize> {
        if self.depthwise() {
            return None;
        }
        let winograd = winograd::Correlation::packed_once(self);
        Some(LINE + winograd.map_or_else(|| self.packed_total(MOST_LANES), |winograd| winograd.packed()))
    }

    /// Packs the weight for all runs by [`Correlation::run_packed`].
    pub fn pack_once<T: Real>(&self, weight: &[T], packed: &mut [T]) {
        let packed = aligned(packed);
        match winograd::Correlation::packed_once(self) {
            Some(winograd) => winograd.pack(weight, &mut packed[..winograd.packed()]),
            None => {
                let lanes = vector::lanes::<T>();
                self.pack(weight, &mut packed[..self.packed_total(lanes)], lanes);
            }
        }
    }

    /// [`Correlation::run`] with the weight as [`Correlation::pack_once`] has packed it, at the same place.
    pub fn run_packed<T: Real>(
        &self,
        source: &[T],
        packed: &[T],
        target: &mut [T],
        scratch: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let (packed, memory) = (&packed[misaligned(packed)..], aligned(scratch));
        if let Some(winograd) = winograd::Correlation::packed_once(self) {
            return winograd.run(source, packed, target, memory, finish);
        }
        if self.by_columns() {
            return self.run_by_columns(source, Weight::Packed(packed), target, memory, finish);
        }
        self.run_by_positions(source, &packed[..self.packed_total(vector::lanes::<T>())], target, memory, finish);
    }

    /// Computes the target and calls `finish` with each strip of it and the strip's first element.
    pub fn run<T: Real>(
        &self,
        source: &[T],
        weight: &[T],
        target: &mut [T],
        scratch: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let scratch = aligned(scratch);
        if let Some(winograd) = winograd::Correlation::of(self) {
            let (packed, memory) = scratch.split_at_mut(winograd.packed());
            winograd.pack(weight, packed);
            return winograd.run(source, packed, target, memory, finish);
        }
        if self.by_columns() {
            return self.run_by_columns(source, Weight::Plain(weight), target, scratch, finish);
        }
        if self.depthwise() {
            return self.run_by_positions(source, weight, target, scratch, finish);
        }
        let lanes = vector::lanes::<T>();
        let (packed, memory) = scratch.split_at_mut(self.packed_total(lanes));
        self.pack(weight, packed, lanes);
        self.run_by_positions(source, packed, target, memory, finish);
    }

    /// [`Correlation::run`] where threads divide the target's positions, with the weight packed, or as it is where each channel
    /// has its own.
    fn run_by_positions<T: Real>(
        &self,
        source: &[T],
        weight: &[T],
        target: &mut [T],
        memory: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let cut = self.cut();
        let [height, width, channels] = self.target();
        let step = self.phases[0][0].step;
        let (image, block) = (height * width * channels, step * width * channels);
        let source_image = self.source().iter().product::<usize>();
        let tasks = target.chunks_mut(cut.images * image).enumerate().flat_map(|(at, images)| {
            let count = images.len() / image;
            let first = at * cut.images;
            // Several images are whole: their one chunk takes them all.
            let chunk = if cut.images > 1 { images.len() } else { cut.blocks * block };
            images.chunks_mut(chunk).enumerate().map(move |(part, chunk)| (first, count, part * cut.blocks, chunk))
        });
        share_out(tasks, memory, cut.strip.max(1), |(first, count, start, chunk), memory| {
            let images = &source[first * source_image..(first + count) * source_image];
            let blocks = start..(start + cut.blocks).min(height.div_ceil(step));
            let region = Region::of(&self.phases, blocks.clone());
            let strip = Strip::new(images, self.source(), &region, memory);
            self.strip(&strip, count, blocks, weight, chunk);
            finish(chunk, first * image + start * block);
        });
    }

    /// [`Correlation::run`] where threads divide the target's channels. Where the weight is not packed, each packs what it needs of
    /// it itself, panel by panel, just before it is used.
    fn run_by_columns<T: Real>(
        &self,
        source: &[T],
        weight: Weight<'_, T>,
        target: &mut [T],
        memory: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let lanes = vector::lanes::<T>();
        let [height, width, channels] = self.target();
        let is_packed = matches!(weight, Weight::Packed(_));
        let each = self.of_columns(if is_packed { 0 } else { lanes });
        let region = Region::of(&self.phases, 0..height);
        let shared = Shared::new(&mut *target);
        share_out((0..channels).step_by(COLUMNS), memory, each.iter().sum(), |from, memory| {
            let (strip, rest) = memory.split_at_mut(each[0]);
            let (own, results) = rest.split_at_mut(each[1]);
            let strip = Strip::new(source, self.source(), &region, strip);
            let used = COLUMNS.min(channels - from);
            let mut of_phase = 0;
            for phase in &self.phases {
                let start = of_phase;
                of_phase += self.packed(phase, lanes);
                let blocks = 0..phase[0].count;
                if blocks.is_empty() || phase[1].count == 0 {
                    continue;
                }
                let image = [height * width * used, used];
                let (corner, positions) = self.positions(&strip, self.batch, phase, blocks, image);
                let [down, across] = self.tap_distances(&strip, phase);
                let runs = self.runs(phase, corner, down, across);
                // A block of positions stays in the cache for all panels; one that packs goes through all of them at once.
                let count = positions.count();
                let block = if is_packed { self.block(count) } else { count };
                for block in (0..count).step_by(block).map(|first| first..(first + block).min(count)) {
                    for first in (0..used).step_by(VECTORS * lanes) {
                        let columns = (used - first).min(VECTORS * lanes);
                        let elements = self.steps(phase) * columns.next_multiple_of(lanes);
                        let at = from + first;
                        let packed = match weight {
                            Weight::Packed(packed) => &packed[start + self.steps(phase) * at..][..elements],
                            Weight::Plain(weight) => {
                                let panel = &mut own[..elements];
                                self.pack_panel(weight, phase, at * self.weight.target, columns, lanes, panel);
                                panel
                            }
                        };
                        let rows = Positions { to_first: positions.to_first + first, ..positions };
                        let rows = Part { rows, first: block.start, count: block.len() };
                        let panel = Panel { rows, runs: &runs, columns, accumulate: false };
                        vector::run(panel, strip.data, packed, results);
                    }
                }
            }
            for (position, results) in results.chunks_exact(used).enumerate().take(self.batch * height * width) {
                // SAFETY: each task has channels of its own.
                unsafe { shared.part(position * channels + from, used) }.copy_from_slice(results);
            }
        });
        finish_all(target, channels, finish);
    }

    /// Positions of which about as many source elements as [`STRIP`] has are read: equal parts of `count`, in whole tiles.
    fn block(&self, count: usize) -> usize {
        let most = (STRIP / 2 / self.source_channels).clamp(POSITIONS, count.max(POSITIONS));
        count.div_ceil(count.div_ceil(most).max(1)).next_multiple_of(ROWS)
    }

    /// Computes one strip of the target.
    fn strip<T: Real>(&self, strip: &Strip<'_, T>, images: usize, blocks: Range<usize>, weight: &[T], out: &mut [T]) {
        let lanes = vector::lanes::<T>();
        let [.., channels] = self.target();
        let mut packed = weight;
        for phase in &self.phases {
            let [rows, columns] = phase;
            let of_phase;
            (of_phase, packed) =
                if self.depthwise() { (weight, packed) } else { packed.split_at(self.packed(phase, lanes)) };
            let blocks = blocks.start..blocks.end.min(rows.count);
            if blocks.is_empty() || columns.count == 0 {
                continue;
            }
            let out_image = out.len() / images;
            let (corner, positions) = self.positions(strip, images, phase, blocks, [out_image, channels]);
            let [down, across] = self.tap_distances(strip, phase);
            if self.depthwise() {
                let taps = rows.each_tap().enumerate().flat_map(|(i, (kernel_row, _))| {
                    columns.each_tap().enumerate().map(move |(j, (kernel_column, _))| {
                        let tap = kernel_row * self.weight.kernel_width + kernel_column;
                        (corner + i * down + j * across, tap * channels)
                    })
                });
                let taps: Vec<(usize, usize)> = taps.collect();
                vector::run(Taps { rows: positions, taps: &taps, channels }, strip.data, weight, out);
                continue;
            }
            let width = self.target_channels.next_multiple_of(lanes);
            for group in 0..self.groups {
                let start = corner + group * self.source_channels;
                let runs = self.runs(phase, start, down, across);
                let steps: usize = runs.iter().map(|run| run.count).sum();
                let of_group = &of_phase[group * steps * width..(group + 1) * steps * width];
                for first in (0..self.target_channels).step_by(VECTORS * lanes) {
                    let columns = (self.target_channels - first).min(VECTORS * lanes);
                    let to_first = positions.to_first + group * self.target_channels + first;
                    let panel =
                        Panel { rows: Positions { to_first, ..positions }, runs: &runs, columns, accumulate: false };
                    vector::run(panel, strip.data, &of_group[first * steps..], out);
                }
            }
        }
    }

    /// Where the first tap of the first position of a phase lies in a strip, and the positions of some blocks; `image` and
    /// `channels` are the elements of an image and of a pixel of what they are written to.
    fn positions<T: Real>(
        &self,
        strip: &Strip<'_, T>,
        images: usize,
        [rows, columns]: &[Axis; 2],
        blocks: Range<usize>,
        [image, channels]: [usize; 2],
    ) -> (usize, Positions) {
        let width = columns.target;
        // Other taps and positions lie after it; it may lie outside only where there are no taps.
        let corner = strip.at((blocks.start * rows.stride) as isize + rows.offset, columns.offset);
        let source_channels = self.groups * self.source_channels;
        let positions = Positions {
            images,
            rows: blocks.len(),
            columns: columns.count,
            from: [strip.image_pitch, rows.stride * strip.row_pitch, columns.stride * source_channels],
            to: [image, rows.step * width * channels, columns.step * channels],
            to_first: (rows.origin * width + columns.origin) * channels,
        };
        (corner.max(0) as usize, positions)
    }

    /// Distances in a strip of neighbouring taps, down and across.
    fn tap_distances<T: Real>(&self, strip: &Strip<'_, T>, [rows, columns]: &[Axis; 2]) -> [usize; 2] {
        [rows.offset_step * strip.row_pitch, columns.offset_step * self.groups * self.source_channels]
    }

    /// The inner dimension, in the order of the packed weight: taps that touch become one run.
    fn runs(&self, [rows, columns]: &[Axis; 2], start: usize, down: usize, across: usize) -> Vec<Run> {
        let channels = self.source_channels;
        let merged = across == channels;
        let each = if merged { 1 } else { columns.taps };
        let count = if merged { columns.taps * channels } else { channels };
        (0..rows.taps)
            .flat_map(|i| (0..each).map(move |j| Run { start: start + i * down + j * across, step: 1, count }))
            .collect()
    }

    /// Packs the weight: for each phase, group and panel of target channels, rows of taps and source channels of as
    /// many elements as the panel has columns, rounded up to whole vectors with zeros.
    fn pack<T: Real>(&self, weight: &[T], packed: &mut [T], lanes: usize) {
        let mut rest = packed;
        let panels: Vec<_> = self
            .phases
            .iter()
            .flat_map(|phase| (0..self.groups).map(move |group| (phase, group)))
            .flat_map(|(phase, group)| {
                (0..self.target_channels).step_by(VECTORS * lanes).map(move |first| (phase, group, first))
            })
            .map(|(phase, group, first)| {
                let columns = (self.target_channels - first).min(VECTORS * lanes);
                let panel = rest.split_off_mut(..self.steps(phase) * columns.next_multiple_of(lanes));
                (phase, group, first, columns, panel.expect("the packed weight has room for every panel"))
            })
            .collect();
        panels.into_par_iter().for_each(|(phase, group, first, columns, panel)| {
            self.pack_panel(
                weight,
                phase,
                self.weight.group * group + first * self.weight.target,
                columns,
                lanes,
                panel,
            );
        });
    }

    /// One panel of `columns` target channels, whose weights begin at `from`; `panel` holds its steps exactly.
    fn pack_panel<T: Real>(
        &self,
        weight: &[T],
        phase: &[Axis; 2],
        from: usize,
        columns: usize,
        lanes: usize,
        panel: &mut [T],
    ) {
        let [rows, cols] = phase;
        let pitch = columns.next_multiple_of(lanes);
        let taps = rows.each_tap().flat_map(|(i, _)| cols.each_tap().map(move |(j, _)| (i, j)));
        for ((i, j), block) in taps.zip(panel.chunks_exact_mut(self.source_channels * pitch)) {
            let from = from + (i * self.weight.kernel_width + j) * self.weight.tap;
            self.pack_tap(&weight[from..], columns, pitch, block);
        }
    }

    /// One tap of a panel: `block[source, target] = weight[source, target]`.
    fn pack_tap<T: Real>(&self, weight: &[T], columns: usize, pitch: usize, block: &mut [T]) {
        let WeightLayout { source, target, .. } = self.weight;
        if target == 1 {
            for (k, row) in block.chunks_exact_mut(pitch).enumerate() {
                row[..columns].copy_from_slice(&weight[k * source..k * source + columns]);
                row[columns..].fill(T::ZERO);
            }
        } else {
            if columns < pitch {
                block.fill(T::ZERO);
            }
            // A square at a time, which the first-level cache holds while its columns are filled.
            for (first, block) in (0..).step_by(LINE).zip(block.chunks_mut(LINE * pitch)) {
                for n in 0..columns {
                    let weights = weight[n * target + first * source..].iter().step_by(source);
                    block.chunks_exact_mut(pitch).zip(weights).for_each(|(row, weight)| row[n] = *weight);
                }
            }
        }
    }
}

/// Calls `finish` with all of a target, in parts that are large enough to be worth a call.
pub(super) fn finish_all<T: Real>(target: &mut [T], channels: usize, finish: impl Fn(&mut [T], usize) + Sync) {
    const PART: usize = 4096;
    let part = (PART / channels).max(1) * channels;
    target.par_chunks_mut(part).enumerate().for_each(|(at, chunk)| finish(chunk, at * part));
}

/// Positions of a phase in a strip: images, rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Positions {
    images: usize,
    rows: usize,
    columns: usize,
    from: [usize; 3],
    to: [usize; 3],
    to_first: usize,
}

impl Rows for Positions {
    fn count(&self) -> usize {
        self.images * self.rows * self.columns
    }

    #[inline(always)]
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N] {
        let mut column = first % self.columns;
        let mut row = first / self.columns % self.rows;
        let mut image = first / (self.columns * self.rows);
        let place = |pitch: &[usize; 3], image: usize, row: usize, column: usize| {
            image * pitch[0] + row * pitch[1] + column * pitch[2]
        };
        let mut from = place(&self.from, image, row, column);
        let mut to = place(&self.to, image, row, column) + self.to_first;
        let mut places = [(0, 0); N];
        for at in &mut places {
            *at = (from, to);
            column += 1;
            if column < self.columns {
                from += self.from[2];
                to += self.to[2];
                continue;
            }
            (column, row) = (0, row + 1);
            if row == self.rows {
                (row, image) = (0, image + 1);
            }
            if image == self.images {
                // The last position is repeated.
                (image, row, column) = (image - 1, self.rows - 1, self.columns - 1);
                continue;
            }
            from = place(&self.from, image, row, column);
            to = place(&self.to, image, row, column) + self.to_first;
        }
        places
    }
}
