//! The tiles of convolutions.

use crate::{
    kernel::gpu::{Limits, Shader},
    ops::tile::{Sums, Tile},
};

/// Steps of the inner dimension that a tile goes through at a time.
pub(super) const STEPS: usize = 16;
/// Candidates of one kernel that are worth timing.
const CHOICES: usize = 3;

pub(super) const TILES: [Tile; 5] = [
    Tile::new([16, 16], [8, 8]),
    Tile::new([16, 8], [8, 8]),
    Tile::new([16, 8], [4, 8]),
    Tile::new([16, 8], [8, 4]),
    Tile::new([8, 8], [4, 4]),
];

/// Workgroup memory: the steps of both factors, with a gap after every four of the left one's, and the table of where
/// they lie, up to three numbers an invocation.
fn bytes(tile: &Tile) -> usize {
    let gaps = STEPS / 4 * (4 * tile.block[0] / tile.threads[1]) * 16;
    (tile.rows() + tile.columns()) * STEPS * 4 + gaps + tile.invocations() * 12
}

/// The tiles that run on a device of these limits, the fastest first.
pub(super) fn choose(sums: &Sums, limits: &Limits) -> Vec<Tile> {
    let [m, n] = sums.extents;
    let smallest = TILES[TILES.len() - 1];
    let fits = |tile: &Tile| {
        tile.invocations() <= limits.workgroup_invocations as usize
            && bytes(tile) <= limits.workgroup_memory as usize
            && tile.rows() <= m.next_power_of_two().max(smallest.rows())
            && tile.columns() <= n.next_power_of_two().max(smallest.columns())
    };
    let mut tiles = sums.by_time(TILES.into_iter().filter(fits), limits);
    tiles.truncate(CHOICES);
    tiles
}

/// The constants of `conv2d/tile`.
pub(super) fn constants(tile: &Tile, shader: Shader) -> Shader {
    shader
        .constant("THREADS_M", tile.threads[0])
        .constant("THREADS_N", tile.threads[1])
        .constant("VECTORS_M", tile.block[0] / 4)
        .constant("VECTORS_N", tile.block[1] / 4)
}

/// `kernel` with the tile's extents.
pub(super) fn name(tile: &Tile, kernel: &str) -> String {
    format!("{kernel} {}x{}x{STEPS}", tile.rows(), tile.columns())
}
