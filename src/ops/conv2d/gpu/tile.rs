//! Tiles of workgroup memory.

use crate::kernel::gpu::{Limits, Shader};

/// Steps of the inner dimension that a tile goes through at a time.
pub(super) const STEPS: usize = 16;
/// Candidates of one kernel that are worth timing.
const CHOICES: usize = 3;
/// Invocations that keep a large GPU busy.
pub(super) const BUSY: usize = 8 << 10;

/// A workgroup's tile: invocations along rows and columns, and how many vectors of four rows and of four columns each of
/// them owns.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    threads: [usize; 2],
    vectors: [usize; 2],
    /// Share of a device's peak that the inner loop reaches, for the first guess.
    efficiency: f64,
}

pub(super) const TILES: [Tile; 5] = [
    Tile { threads: [16, 16], vectors: [2, 2], efficiency: 1.0 },
    Tile { threads: [16, 8], vectors: [2, 2], efficiency: 0.95 },
    Tile { threads: [16, 8], vectors: [1, 2], efficiency: 0.8 },
    Tile { threads: [16, 8], vectors: [2, 1], efficiency: 0.75 },
    Tile { threads: [8, 8], vectors: [1, 1], efficiency: 0.5 },
];

impl Tile {
    pub fn invocations(&self) -> usize {
        self.threads[0] * self.threads[1]
    }

    pub fn height(&self) -> usize {
        self.threads[0] * self.vectors[0] * 4
    }

    fn width(&self) -> usize {
        self.threads[1] * self.vectors[1] * 4
    }

    /// Workgroup memory: the steps of both factors, with a gap after every four of the left one's, and the table of where
    /// they lie, up to three numbers an invocation.
    fn bytes(&self) -> usize {
        let gaps = STEPS / 4 * (16 * self.vectors[0] / self.threads[1]) * 16;
        (self.height() + self.width()) * STEPS * 4 + gaps + self.invocations() * 12
    }

    /// Workgroups for a product of `m` rows and `n` columns.
    pub fn workgroups(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.height()) * n.div_ceil(self.width())
    }

    /// Time for `count` products of `m` rows and `n` columns in arbitrary units.
    fn cost(&self, count: usize, m: usize, n: usize) -> f64 {
        let workgroups = count * self.workgroups(m, n);
        let busy = (workgroups * self.invocations()) as f64 / BUSY as f64;
        (workgroups * self.height() * self.width()) as f64 / (self.efficiency * busy.min(1.0))
    }

    /// The tiles that run on a device of these limits, the cheapest for `count` products of `m` rows and `n` columns
    /// first.
    pub fn choose(count: usize, m: usize, n: usize, limits: &Limits) -> Vec<Self> {
        let runs = |tile: &Tile| {
            tile.invocations() <= limits.workgroup_invocations as usize
                && tile.bytes() <= limits.workgroup_memory as usize
        };
        let mut tiles: Vec<Self> = TILES.into_iter().filter(runs).collect();
        tiles.sort_by(|a, b| a.cost(count, m, n).total_cmp(&b.cost(count, m, n)));
        let smallest = TILES[TILES.len() - 1];
        tiles.retain(|tile| {
            tile.height() <= m.next_power_of_two().max(smallest.height())
                && tile.width() <= n.next_power_of_two().max(smallest.width())
        });
        tiles.truncate(CHOICES);
        tiles
    }

    /// The constants of `conv2d/tile`.
    pub fn constants(&self, shader: Shader) -> Shader {
        shader
            .constant("THREADS_M", self.threads[0])
            .constant("THREADS_N", self.threads[1])
            .constant("VECTORS_M", self.vectors[0])
            .constant("VECTORS_N", self.vectors[1])
    }

    pub fn name(&self, kernel: &str) -> String {
        format!("{kernel} {}x{}x{STEPS}", self.height(), self.width())
    }
}
