//! The gradient of the weight: for each element of the transformed patch, a matrix product over the tiles.
//!
//! The tiles are cut into shares by the shapes alone, each with sums of its own, which are added in order: the result
//! does not depend on the number of threads. Where the sums are many there is one share, and the threads divide its
//! products.

use rayon::prelude::*;

use super::{
    Cut, Dense, GAP, PRODUCTS, TILE, enough,
    transform::{Gradient, Patch, Scatter, WeightGradients},
};
use crate::{
    kernel::{
        cpu::{LINE, aligned},
        vector,
    },
    ops::{
        conv2d::geometry::Geometry,
        panel::{Panel, Run, VECTORS},
    },
    tensor::Real,
};

/// Fewest tiles that are worth transforming the sums for.
const FEWEST_TILES: usize = 48;
/// Elements that the sums of all shares may take.
const SUMS: usize = 2 << 20;
/// Most shares.
const SHARES: usize = 16;
/// Tiles between fetching and storing the sums: where each share stays in a thread's cache, and where it does not.
const TILES: [usize; 2] = [64, 128];
/// Largest panel: two vectors of 16 elements.
const MOST_COLUMNS: usize = 32;
/// Input channels whose gradients are transformed at a time.
const CHANNEL_BLOCK: usize = 16;

pub(in super::super) struct GradWeight<'a> {
    geometry: &'a Geometry,
    cut: Cut,
    /// Blocks of a share.
    share: usize,
}

impl<'a> GradWeight<'a> {
    /// The gradient of this convolution's weight, where it is one of 3 x 3 taps and faster so.
    pub fn of(geometry: &'a Geometry) -> Option<Self> {
        let Geometry { batch, window, in_channels, out_channels, groups } = geometry;
        let axes = [&window.height, &window.width];
        let extents = axes.map(|axis| axis.output);
        let tiles = batch * extents.iter().map(|extent| extent.div_ceil(TILE)).product::<usize>();
        let plain = axes.iter().all(|axis| axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1);
        if *groups > 1 || !plain || tiles < FEWEST_TILES || !enough([*in_channels, *out_channels]) {
            return None;
        }
        let shares = (SUMS / (PRODUCTS * in_channels * out_channels)).clamp(1, SHARES);
        let cut = Cut::new(*batch, extents, TILES[usize::from(shares < SHARES / 2)]);
        Some(Self { geometry, cut, share: cut.blocks.div_ceil(shares) })
    }

    fn shares(&self) -> usize {
        self.cut.blocks.div_ceil(self.share)
    }

    /// Panels of output channels.
    fn panels(&self, columns: usize) -> usize {
        self.geometry.out_channels.div_ceil(columns)
    }

    /// Elements of the sums of one share.
    fn sums(&self, columns: usize) -> usize {
        self.panels(columns) * PRODUCTS * self.geometry.in_channels * columns
    }

    /// Elements of one product's matrix of patches and of one panel of gradients.
    fn pitches(&self, columns: usize) -> [usize; 2] {
        [self.geometry.in_channels, columns].map(|channels| self.cut.most() * channels + GAP)
    }

    /// Elements of memory of a share, its sums included.
    fn each(&self, columns: usize) -> usize {
        let [patches, gradients] = self.pitches(columns);
        self.sums(columns) + PRODUCTS * (patches + self.panels(columns) * gradients)
    }

    pub fn scratch(&self) -> usize {
        let most = [2, 4, 8, 16, MOST_COLUMNS].iter().map(|columns| self.each(*columns)).max().unwrap_or(0);
        LINE + self.geometry.in_channels + self.geometry.out_channels + self.shares() * most
    }

    pub fn run<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
        let columns = VECTORS * vector::lanes::<T>();
        let (zeros, rest) = aligned(scratch).split_at_mut(self.geometry.in_channels + self.geometry.out_channels);
        zeros.fill(T::ZERO);
        let (sums, memory) = rest.split_at_mut(self.shares() * self.sums(columns));
        let each = self.each(columns) - self.sums(columns);
        let shares = sums.par_chunks_exact_mut(self.sums(columns)).zip(memory.par_chunks_exact_mut(each));
        shares.enumerate().for_each(|(share, (sums, memory))| {
            for block in share * self.share..((share + 1) * self.share).min(self.cut.blocks) {
                self.add_block(block, block > share * self.share, x, dy, zeros, memory, sums);
            }
        });
        self.finish(sums, dw, columns);
    }

    /// Adds the products of a block of tiles to a share's sums, `[panels, 16, input channels, columns of a panel]`.
    #[expect(clippy::too_many_arguments, reason = "the memory of a share is lent by the caller, piece by piece")]
    fn add_block<T: Real>(
        &self,
        block: usize,
        accumulate: bool,
        x: &[T],
        dy: &[T],
        zeros: &[T],
        memory: &mut [T],
        sums: &mut [T],
    ) {
        let Geometry { window, in_channels, out_channels, .. } = self.geometry;
        let columns = VECTORS * vector::lanes::<T>();
        let (image, tiles) = self.cut.block(block);
        let [pitch, gradients_pitch] = self.pitches(columns);
        let (patches, gradients) = memory.split_at_mut(PRODUCTS * pitch);
        let axes = [&window.height, &window.width];
        let of = |[height, width, channels]: [usize; 3]| {
            let elements = height * width * channels;
            image * elements..(image + tiles.images) * elements
        };
        let [input, output] = [
            [window.height.input, window.width.input, *in_channels],
            [window.height.output, window.width.output, *out_channels],
        ];
        let patch = Scatter {
            transform: Patch,
            tiles,
            image: input,
            offset: axes.map(|axis| -(axis.before as isize)),
            columns: *in_channels,
            pitch,
        };
        let gradient =
            Scatter { transform: Gradient, tiles, image: output, offset: [0; 2], columns, pitch: gradients_pitch };
        rayon::join(
            || vector::run(patch, &x[of(input)], zeros, patches),
            || vector::run(gradient, &dy[of(output)], zeros, gradients),
        );
        let (patches, gradients) = (&*patches, &*gradients);
        sums.par_chunks_exact_mut(in_channels * columns).enumerate().for_each(|(at, sums)| {
            let (panel, product) = (at / PRODUCTS, at % PRODUCTS);
            let used = columns.min(out_channels - panel * columns);
            let runs = [Run { start: product * pitch, step: *in_channels, count: tiles.count() }];
            let rows = Dense { count: *in_channels, pitch: [1, used] };
            let panel = Panel { rows, runs: &runs, columns: used, accumulate };
            vector::run(panel, patches, &gradients[at * gradients_pitch..], sums);
        });
    }

    /// Adds the sums of the shares, in order, and transforms them to the gradient.
    fn finish<T: Real>(&self, sums: &[T], dw: &mut [T], columns: usize) {
        let Geometry { in_channels, out_channels, .. } = *self.geometry;
        // The rows of each tap for some input channels at a time.
        let mut taps: Vec<_> = dw
            .chunks_exact_mut(in_channels * out_channels)
            .map(|tap| tap.chunks_mut(CHANNEL_BLOCK * out_channels))
            .collect();
        let blocks: Vec<Vec<&mut [T]>> = (0..in_channels.div_ceil(CHANNEL_BLOCK))
            .map(|_| taps.iter_mut().filter_map(Iterator::next).collect())
            .collect();
        let pitch = in_channels * columns;
        blocks.into_par_iter().enumerate().for_each(|(block, mut taps)| {
            let mut gradients = [T::ZERO; 9 * CHANNEL_BLOCK * MOST_COLUMNS];
            for (panel, from) in (0..out_channels).step_by(columns).enumerate() {
                let used = columns.min(out_channels - from);
                let elements = CHANNEL_BLOCK * used;
                let first = panel * PRODUCTS * pitch + block * elements;
                let kernel = WeightGradients { first, share: self.sums(columns), pitch, elements };
                vector::run(kernel, sums, &[], &mut gradients);
                for (tap, gradients) in taps.iter_mut().zip(gradients.chunks_exact(elements)) {
                    for (row, gradients) in tap.chunks_exact_mut(out_channels).zip(gradients.chunks_exact(used)) {
                        row[from..from + used].copy_from_slice(gradients);
                    }
                }
            }
        });
    }
}
