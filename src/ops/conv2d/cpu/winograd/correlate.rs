//! The forward pass and the gradient of the input, block by block of tiles.
//!
//! A task owns a block of tiles: it transforms their patches straight from the image, multiplies them with the
//! transformed weight, and transforms the products to its rows of the target, all in memory of its own that stays in the
//! second-level cache.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Cut, Dense, GAP, PRODUCTS, TILE, Tiles, enough,
    transform::{Gather, Patch, Scatter, Weights},
};
use crate::{
    kernel::{
        cpu::{Shared, share_out},
        vector,
    },
    ops::{
        conv2d::{
            cpu::correlate::{self, WeightLayout, finish_all},
            geometry::Axis,
        },
        panel::{Panel, Run, VECTORS},
    },
    tensor::Real,
};

/// What it takes to fetch a weight, in multiplications, where it is read once for all positions.
const FETCH: f64 = 27.0;
/// What it takes to transform a channel of a tile, in multiplications of one of its products.
const TRANSFORM: f64 = 20.0;
/// Target channels of a task that owns some.
const COLUMNS: usize = 64;
/// Elements of all patches and of a task's products that threads divide channels up to, instead of tiles.
const ALL: usize = 384 << 10;
/// Fewest positions that are worth transforming the weight for, where that is done in each run.
const FEWEST_POSITIONS: usize = 448;
/// Most tiles of a block, which the weight is fetched for anew.
const MOST_TILES: usize = 96;
/// Fewest tiles that a block is cut down to.
const LEAST_TILES: usize = 24;
/// Elements of a block's transformed patches and products that fit into a second-level cache.
const BLOCK: usize = 192 << 10;
/// Tasks that a batch is cut into, where blocks stay large enough.
const TASKS: usize = 32;

/// A sum over 3 x 3 taps between two images.
pub(in super::super) struct Correlation {
    axes: [Axis; 2],
    /// Height, width and channels.
    source: [usize; 3],
    target: [usize; 3],
    weight: WeightLayout,
    cut: Cut,
    /// Whether threads divide the target's channels, and not the tiles.
    by_columns: bool,
}

impl Correlation {
    /// This correlation, where it is one of 3 x 3 taps and faster so.
    pub fn of(correlation: &correlate::Correlation) -> Option<Self> {
        let [height, width, _] = correlation.target();
        let is_worth_it = correlation.batch * height * width >= FEWEST_POSITIONS;
        Self::possible(correlation).filter(|_| is_worth_it)
    }

    /// The same where the weight is transformed once for many runs.
    pub fn packed_once(correlation: &correlate::Correlation) -> Option<Self> {
        let winograd = Self::possible(correlation)?;
        let [height, width, target] = correlation.target();
        let channels = [correlation.source()[2], target].map(|channels| channels as f64);
        let positions = (correlation.batch * height * width) as f64;
        let tiles = (correlation.batch * height.div_ceil(TILE) * width.div_ceil(TILE)) as f64;
        // For each pair of channels.
        let transforms = TRANSFORM * channels.iter().map(|channels| 1.0 / channels).sum::<f64>();
        let (direct, tiled) = ((positions + FETCH) * 9.0, (tiles * (1.0 + transforms) + FETCH) * PRODUCTS as f64);
        let in_cache = PRODUCTS * (tiles as usize) * (winograd.source[2] + COLUMNS) <= ALL;
        let by_columns = in_cache && target >= 2 * COLUMNS;
        (tiled < direct).then_some(Self { by_columns, ..winograd })
    }

    fn possible(correlation: &correlate::Correlation) -> Option<Self> {
        let [axes] = correlation.phases[..] else { return None };
        let plain = |axis: &Axis| axis.taps == 3 && axis.stride == 1 && axis.step == 1 && axis.offset_step == 1;
        let (source, target) = (correlation.source(), correlation.target());
        let [height, width, channels] = target;
        let tiles = correlation.batch * height.div_ceil(TILE) * width.div_ceil(TILE);
        if correlation.groups > 1 || !axes.iter().all(plain) || !enough([source[2], channels]) {
            return None;
        }
        let fitting = BLOCK / (PRODUCTS * (source[2] + channels));
        let block = (tiles / TASKS).min(fitting).clamp(LEAST_TILES, MOST_TILES);
        let cut = Cut::new(correlation.batch, [height, width], block);
        Some(Self { axes, source, target, weight: correlation.weight, cut, by_columns: false })
    }

    /// Elements of one product's matrix of patches and of results.
    fn pitches(&self) -> [usize; 2] {
        [self.source[2], self.target[2]].map(|channels| self.cut.most() * channels + GAP)
    }

    /// Elements of the transformed weight.
    pub fn packed(&self) -> usize {
        PRODUCTS * self.source[2] * self.target[2]
    }

    /// Elements of memory of a task.
    fn each(&self) -> usize {
        PRODUCTS * self.pitches().iter().sum::<usize>() + self.source[2]
    }

    /// Elements of memory of all tasks.
    pub fn memory(&self) -> usize {
        let each = if self.by_columns { self.of_columns().iter().sum() } else { self.each() };
        rayon::current_num_threads() * each
    }

    /// Elements of memory of a task that owns channels: patches, products, zeros, and its part of the target.
    fn of_columns(&self) -> [usize; 4] {
        let tiles = self.all().count();
        let [height, width, _] = self.target;
        let matrices = [self.source[2], COLUMNS].map(|channels| PRODUCTS * (tiles * channels + GAP));
        [matrices[0], matrices[1], self.source[2], self.cut.batch * height * width * COLUMNS]
    }

    /// All tiles.
    fn all(&self) -> Tiles {
        let [rows, columns] = self.cut.image;
        Tiles { images: self.cut.batch, first_row: 0, rows, columns }
    }

    /// [`Correlation::run`] where threads divide the target's channels: few tiles are not worth fetching all weights for more than
    /// once. Each transforms the patches for itself, which takes less than waiting for one that does it for all.
    fn run_by_columns<T: Real>(
        &self,
        source: &[T],
        packed: &[T],
        target: &mut [T],
        memory: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let [channels, targets] = [self.source[2], self.target[2]];
        let (each, tiles) = (self.of_columns(), self.all());
        let [pitch, results_pitch] = [channels, COLUMNS].map(|columns| tiles.count() * columns + GAP);
        let shared = Shared::new(&mut *target);
        share_out((0..targets).step_by(COLUMNS), memory, each.iter().sum(), |from, memory| {
            let (patches, rest) = memory.split_at_mut(each[0]);
            let (results, rest) = rest.split_at_mut(each[1]);
            let (zeros, part) = rest.split_at_mut(each[2]);
            let used = COLUMNS.min(targets - from);
            self.transform(tiles, source, zeros, patches, pitch);
            self.multiply([patches, packed], from..from + used, tiles.count(), results, [pitch, results_pitch]);
            let part = &mut part[..self.cut.batch * self.target[0] * self.target[1] * used];
            let gather = Gather { tiles, width: self.target[1], channels: used, pitch: results_pitch };
            vector::run(gather, results, &[], part);
            for (position, results) in part.chunks_exact(used).enumerate() {
                // SAFETY: each task has channels of its own.
                unsafe { shared.part(position * targets + from, used) }.copy_from_slice(results);
            }
        });
        finish_all(target, targets, finish);
    }

    /// Computes the target with the weight as [`Correlation::pack`] transforms it.
    pub fn run<T: Real>(
        &self,
        source: &[T],
        packed: &[T],
        target: &mut [T],
        memory: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        if self.by_columns {
            return self.run_by_columns(source, packed, target, memory, finish);
        }
        let (source_image, image) = (self.source.iter().product::<usize>(), self.target.iter().product::<usize>());
        let row = TILE * self.target[1] * self.target[2];
        let chunk = if self.cut.images > 1 { image } else { self.cut.rows * row };
        let tasks = target
            .chunks_mut(self.cut.images * image)
            .flat_map(|images| images.chunks_mut(if self.cut.images > 1 { images.len() } else { chunk }))
            .enumerate();
        share_out(tasks, memory, self.each(), |(at, chunk), memory| {
            let (first, tiles) = self.cut.block(at);
            let targets = self.target[2];
            let [pitch, results_pitch] = self.pitches();
            let (patches, rest) = memory.split_at_mut(PRODUCTS * pitch);
            let (results, zeros) = rest.split_at_mut(PRODUCTS * results_pitch);
            let images = &source[first * source_image..(first + tiles.images) * source_image];
            self.transform(tiles, images, zeros, patches, pitch);
            self.multiply([patches, packed], 0..targets, tiles.count(), results, [pitch, results_pitch]);
            let gather = Gather { tiles, width: self.target[1], channels: targets, pitch: results_pitch };
            vector::run(gather, results, &[], chunk);
            finish(chunk, first * image + tiles.first_row * row);
        });
    }

    /// Transforms the patches of some tiles of `images` to `[16, tiles, source channels]`, `pitch` elements a matrix.
    fn transform<T: Real>(&self, tiles: Tiles, images: &[T], zeros: &mut [T], patches: &mut [T], pitch: usize) {
        zeros.fill(T::ZERO);
        let offset = self.axes.map(|axis| axis.offset);
        let columns = self.source[2];
        let scatter = Scatter { transform: Patch, tiles, image: self.source, offset, columns, pitch };
        vector::run(scatter, images, zeros, patches);
    }

    /// The 16 products of the transformed patches of `tiles` tiles with the weights of some target channels, to `[16, tiles, these
    /// channels]`. The pitches are those of a matrix of patches and of results.
    fn multiply<T: Real>(
        &self,
        [patches, packed]: [&[T]; 2],
        targets: Range<usize>,
        tiles: usize,
        results: &mut [T],
        [pitch, results_pitch]: [usize; 2],
    ) {
        let (channels, columns) = (self.source[2], VECTORS * vector::lanes::<T>());
        let rows = Dense { count: tiles, pitch: [channels, targets.len()] };
        for product in 0..PRODUCTS {
            let runs = [Run { start: product * pitch, step: 1, count: channels }];
            let results = &mut results[product * results_pitch..];
            for first in targets.clone().step_by(columns) {
                let used = columns.min(targets.end - first);
                let weight = &packed[PRODUCTS * channels * first + product * channels * used..];
                let panel = Panel { rows, runs: &runs, columns: used, accumulate: false };
                vector::run(panel, patches, weight, &mut results[first - targets.start..]);
            }
        }
    }

    /// Transforms the weight to `[panels, 16, source channels, columns of a panel]`.
    pub fn pack<T: Real>(&self, weight: &[T], packed: &mut [T]) {
        let [rows, columns] = self.axes.map(|axis| axis.each_tap().map(|(tap, _)| tap).collect::<Vec<usize>>());
        let (panel, channels) = (VECTORS * vector::lanes::<T>(), self.source[2]);
        packed.par_chunks_mut(PRODUCTS * channels * panel).enumerate().for_each(|(at, packed)| {
            let mut taps = [[0; 3]; 3];
            for (taps, row) in taps.iter_mut().zip(&rows) {
                for (tap, column) in taps.iter_mut().zip(&columns) {
                    *tap =
                        (row * self.weight.kernel_width + column) * self.weight.tap + at * panel * self.weight.target;
                }
            }
            let WeightLayout { source, target, .. } = self.weight;
            let columns = panel.min(self.target[2] - at * panel);
            let weights = Weights { taps, source, target, source_channels: channels, columns };
            vector::run(weights, weight, &[], packed);
        });
    }
}
