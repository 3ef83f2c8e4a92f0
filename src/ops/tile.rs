//! Tiles of sums of products in workgroup memory, and how long a GPU takes for them. The constants are fitted to an NVIDIA
//! H100.

use crate::kernel::gpu::Limits;

/// Invocations that fill the lanes of a compute unit, and the multiplications that each of them waits for what it reads
/// before it has as many as its block has results: with more invocations, others fill the gap.
const LANES: f64 = 128.0;
const WAIT: f64 = 10.0;

/// Multiplications of a unit in the time of one more dispatch, about 4 us.
const DISPATCH: f64 = 600e3;

/// Multiplications of the whole device in the time in which it writes a partial sum and reads it again.
const PARTIAL_SUM: f64 = 40.0;

/// Times of which the longer is by no more than this factor longer count as alike.
const SIMILAR: f64 = 1.05;

/// A workgroup's tile: invocations down and across, and the rows and columns that each of them owns, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub threads: [usize; 2],
    pub block: [usize; 2],
}

impl Tile {
    pub const fn new(threads: [usize; 2], block: [usize; 2]) -> Self {
        Self { threads, block }
    }

    pub fn rows(&self) -> usize {
        self.threads[0] * self.block[0]
    }

    pub fn columns(&self) -> usize {
        self.threads[1] * self.block[1]
    }

    pub fn invocations(&self) -> usize {
        self.threads[0] * self.threads[1]
    }

    /// Tiles for a result of `m` rows and `n` columns.
    pub fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows()) * n.div_ceil(self.columns())
    }

    /// How many of these workgroups a unit computes in the time that one of them alone takes.
    fn beside(&self) -> f64 {
        let [rows, columns] = self.block;
        LANES / self.invocations() as f64 * (1.0 + WAIT / (rows * columns) as f64)
    }

    /// Time of a multiplication in a busy unit, as a multiple of that in the largest tile: with it goes a share of the reads
    /// from workgroup memory, which large blocks make small, and of those from memory, which large tiles do.
    fn slowness(&self) -> f64 {
        let reads = |[rows, columns]: [usize; 2]| 1.0 / rows as f64 + 1.0 / columns as f64;
        0.605 + 1.16 * reads(self.block) + 6.7 * reads([self.rows(), self.columns()])
    }
}

/// Matrices of sums that are computed by tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    /// Matrices.
    pub count: usize,
    /// Rows and columns of each.
    pub extents: [usize; 2],
    /// Terms of each sum.
    pub terms: usize,
    /// Into how many partial sums each may be split.
    pub most_splits: usize,
    /// Dispatches that it takes more where they are split.
    pub dispatches: usize,
}

impl Sums {
    /// Time with so many splits, in multiplications of one compute unit.
    fn time(&self, tile: &Tile, splits: usize, limits: &Limits) -> f64 {
        let [m, n] = self.extents;
        let units = limits.units as usize;
        // Those of a unit share it, but a few small ones leave it waiting.
        let workgroups = (self.count * tile.count(m, n) * splits).div_ceil(units) as f64;
        let pace = workgroups.max(tile.beside());
        let products = (tile.rows() * tile.columns() * self.terms.div_ceil(splits)) as f64;
        let time = pace * products * tile.slowness();
        match splits {
            1 => time,
            _ => {
                time + DISPATCH * self.dispatches as f64
                    + PARTIAL_SUM * (self.count * m * n * splits) as f64 / units as f64
            }
        }
    }

    /// The fewest splits of about the least time.
    pub fn splits(&self, tile: &Tile, limits: &Limits) -> usize {
        let times: Vec<f64> = (1..=self.most_splits.max(1)).map(|splits| self.time(tile, splits, limits)).collect();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        times.iter().position(|time| *time <= SIMILAR * least).map_or(1, |at| at + 1)
    }

    /// The tiles by their time at best, the fastest first.
    pub fn by_time(&self, tiles: impl IntoIterator<Item = Tile>, limits: &Limits) -> Vec<Tile> {
        let time = |tile: Tile| (self.time(&tile, self.splits(&tile, limits), limits), tile);
        let mut tiles: Vec<(f64, Tile)> = tiles.into_iter().map(time).collect();
        tiles.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        tiles.into_iter().map(|(_, tile)| tile).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplications a second of a compute unit of an NVIDIA H100 in the largest tile.
    const PACE: f64 = 146e9;

    fn h100() -> Limits {
        Limits {
            max_binding: 2 << 30,
            max_buffer: 2 << 30,
            workgroup_memory: 48 << 10,
            workgroup_invocations: 1024,
            offset_alignment: 16,
            units: 132,
            subgroup: Some((32, 32)),
            software: false,
            f16: false,
            adapter: String::new(),
        }
    }

    fn square(n: usize) -> Sums {
        Sums { count: 1, extents: [n, n], terms: n, most_splits: n / 64, dispatches: 1 }
    }

    const LARGE: Tile = Tile::new([16, 16], [8, 8]);
    const TALL: Tile = Tile::new([16, 8], [8, 8]);
    const MEDIUM: Tile = Tile::new([16, 8], [4, 8]);
    const NARROW: Tile = Tile::new([16, 8], [8, 4]);
    const SMALL: Tile = Tile::new([8, 8], [4, 4]);

    /// A convolution of 3 x 3, 64 to 64 channels, on 8 images of 56 x 56.
    const CONVOLUTION: Sums =
        Sums { count: 1, extents: [8 * 56 * 56, 64], terms: 9 * 64, most_splits: 1, dispatches: 1 };

    #[test]
    fn estimates_are_near_to_what_was_measured() {
        let microseconds = [
            (square(2048), LARGE, 1, 406.0),
            (square(1024), TALL, 1, 66.3),
            (square(1024), LARGE, 2, 68.0),
            (CONVOLUTION, MEDIUM, 1, 57.8),
            (CONVOLUTION, NARROW, 1, 62.0),
            (CONVOLUTION, TALL, 1, 67.8),
        ];
        for (sums, tile, splits, measured) in microseconds {
            let estimate = 1e6 * sums.time(&tile, splits, &h100()) / PACE;
            assert!(
                (estimate / measured - 1.0).abs() < 0.15,
                "{tile:?}, {splits} splits: {estimate} us, not {measured}"
            );
        }
    }

    #[test]
    fn tiles_are_large_where_there_are_many_and_sums_are_split_where_there_are_few() {
        let tiles = [SMALL, NARROW, MEDIUM, TALL, LARGE];
        assert_eq!(square(2048).by_time(tiles, &h100())[0], LARGE);
        assert_eq!(CONVOLUTION.by_time(tiles, &h100())[0], MEDIUM);
        assert_eq!(square(2048).splits(&LARGE, &h100()), 1);
        // 16 of the largest tiles for 132 units.
        let few = Sums { count: 1, extents: [512, 512], terms: 4608, most_splits: 18, dispatches: 1 };
        assert!(few.splits(&LARGE, &h100()) >= 8);
        let unsplit = Sums { most_splits: 1, ..few };
        assert_ne!(unsplit.by_time(tiles, &h100())[0], LARGE);
    }
}
