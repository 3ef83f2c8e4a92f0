//! The forward pass and the gradient of the input, block by block of tiles.
//!
//! A task owns a block of tiles: it transforms their patches straight from the image, multiplies them with the
//! transformed weight, and transforms the products to its rows of the target, all in memory of its own that stays in the
//! second-level cache.

use rayon::prelude::*;

use super::{
    Cut, Dense, GAP, PRODUCTS, TILE, enough,
    transform::{Gather, Patch, Scatter, Weights},
};
use crate::{
    kernel::{
        cpu::{LINE, aligned, share_out},
        vector,
    },
    ops::{
        conv2d::{
            cpu::correlate::{self, WeightLayout},
            geometry::Axis,
        },
        panel::{Panel, Run, VECTORS},
    },
    tensor::Real,
};

/// Fewest positions that are worth transforming the weight for.
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
}

impl Correlation {
    /// This correlation, where it is one of 3 x 3 taps and faster so.
    pub fn of(correlation: &correlate::Correlation) -> Option<Self> {
        let [axes] = correlation.phases[..] else { return None };
        let plain = |axis: &Axis| axis.taps == 3 && axis.stride == 1 && axis.step == 1 && axis.offset_step == 1;
        let (source, target) = (correlation.source(), correlation.target());
        let [height, width, channels] = target;
        let tiles = correlation.batch * height.div_ceil(TILE) * width.div_ceil(TILE);
        if correlation.groups > 1
            || !axes.iter().all(plain)
            || correlation.batch * height * width < FEWEST_POSITIONS
            || !enough([source[2], channels])
        {
            return None;
        }
        let fitting = BLOCK / (PRODUCTS * (source[2] + channels));
        let block = (tiles / TASKS).min(fitting).clamp(LEAST_TILES, MOST_TILES);
        let cut = Cut::new(correlation.batch, [height, width], block);
        Some(Self { axes, source, target, weight: correlation.weight, cut })
    }

    /// Elements of one product's matrix of patches and of results.
    fn pitches(&self) -> [usize; 2] {
        [self.source[2], self.target[2]].map(|channels| self.cut.most() * channels + GAP)
    }

    /// Elements of the transformed weight.
    fn packed(&self) -> usize {
        PRODUCTS * self.source[2] * self.target[2]
    }

    /// Elements of memory of a task.
    fn each(&self) -> usize {
        PRODUCTS * self.pitches().iter().sum::<usize>() + self.source[2]
    }

    pub fn scratch(&self) -> usize {
        LINE + self.packed() + rayon::current_num_threads() * self.each()
    }

    pub fn run<T: Real>(
        &self,
        source: &[T],
        weight: &[T],
        target: &mut [T],
        scratch: &mut [T],
        finish: impl Fn(&mut [T], usize) + Sync,
    ) {
        let (packed, memory) = aligned(scratch).split_at_mut(self.packed());
        self.pack(weight, packed);
        let packed = &*packed;
        let (source_image, image) = (self.source.iter().product::<usize>(), self.target.iter().product::<usize>());
        let row = TILE * self.target[1] * self.target[2];
        let chunk = if self.cut.images > 1 { image } else { self.cut.rows * row };
        let tasks = target
            .chunks_mut(self.cut.images * image)
            .flat_map(|images| images.chunks_mut(if self.cut.images > 1 { images.len() } else { chunk }))
            .enumerate();
        share_out(tasks, memory, self.each(), |(at, chunk), memory| {
            let (first, tiles) = self.cut.block(at);
            let [channels, targets] = [self.source[2], self.target[2]];
            let [pitch, results_pitch] = self.pitches();
            let (patches, rest) = memory.split_at_mut(PRODUCTS * pitch);
            let (results, zeros) = rest.split_at_mut(PRODUCTS * results_pitch);
            zeros.fill(T::ZERO);
            let offset = self.axes.map(|axis| axis.offset);
            let scatter = Scatter { transform: Patch, tiles, image: self.source, offset, columns: channels, pitch };
            let images = &source[first * source_image..(first + tiles.images) * source_image];
            vector::run(scatter, images, zeros, patches);
            let columns = VECTORS * vector::lanes::<T>();
            let rows = Dense { count: tiles.count(), pitch: [channels, targets] };
            for product in 0..PRODUCTS {
                let runs = [Run { start: product * pitch, step: 1, count: channels }];
                let results = &mut results[product * results_pitch..];
                for first in (0..targets).step_by(columns) {
                    let used = columns.min(targets - first);
                    let weight = &packed[PRODUCTS * channels * first + product * channels * used..];
                    let panel = Panel { rows, runs: &runs, columns: used, accumulate: false };
                    vector::run(panel, patches, weight, &mut results[first..]);
                }
            }
            let gather = Gather { tiles, width: self.target[1], channels: targets, pitch: results_pitch };
            vector::run(gather, results, &[], chunk);
            finish(chunk, first * image + tiles.first_row * row);
        });
    }

    /// Transforms the weight to `[panels, 16, source channels, columns of a panel]`.
    fn pack<T: Real>(&self, weight: &[T], packed: &mut [T]) {
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
