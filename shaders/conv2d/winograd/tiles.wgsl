// Which pixels a tile of 2 x 2 results of a convolution belongs to. Tiles are counted along the columns first, those of
// all images.
import package::constants::{BATCH, TILES_DOWN, TILES_ACROSS};

const TILES: u32 = BATCH * TILES_DOWN * TILES_ACROSS;

// The image of a tile, and the row and column of its first result.
struct Tile {
    image: u32,
    row: u32,
    column: u32,
}

fn tile_of(at: u32) -> Tile {
    let row = at / TILES_ACROSS;
    return Tile(row / TILES_DOWN, row % TILES_DOWN * 2u, at % TILES_ACROSS * 2u);
}
