//! Convolutions of 3 x 3 taps by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015): a tile of 2 x 2 results
//! takes 16 multiplications for each pair of channels instead of 36.
//!
//! With the matrices `B`, `G` and `A` of [`transform`], `d` a patch of 4 x 4 pixels and `g` the 3 x 3 weights of a pair
//! of channels, the 2 x 2 results are `A' [(G g G') * (B' d B)] A`, where `*` multiplies element by element and is
//! summed over the channels: 16 matrix products, one for each element of the transformed patch. Its derivative gives the
//! gradient of the weights, `G' [(B' d B) * (A dy A')] G`, summed over the tiles instead. The results differ from the
//! direct sum's by rounding alone, about as much as another order of its terms does.

mod correlate;
mod grad_weight;
mod transform;

pub(super) use self::{correlate::Correlation, grad_weight::GradWeight};

use crate::ops::panel::Rows;

/// Rows and columns of results of a tile.
const TILE: usize = 2;
/// Elements of a transformed patch, and so the number of matrix products.
const PRODUCTS: usize = 16;
/// Channels come in multiples of this: whole vectors of either float on every processor.
const CHANNELS: usize = 16;
/// Fewest channels on either side that make the products outweigh the transforms.
const FEWEST_CHANNELS: usize = 32;
/// Elements between two products' matrices in memory: without them, what the transforms write at the same time would
/// lie powers of two apart and fight for the same sets of the cache.
const GAP: usize = 16;

/// Whether there are channels enough on either side, in whole vectors.
fn enough(channels: [usize; 2]) -> bool {
    channels.iter().all(|c| *c >= FEWEST_CHANNELS && c.is_multiple_of(CHANNELS))
}

/// Some tiles of a batch: rows of tiles of one image, or all rows of several images.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tiles {
    images: usize,
    first_row: usize,
    rows: usize,
    columns: usize,
}

impl Tiles {
    fn count(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// Image, and row and column of the first pixel of tile `at`.
    #[inline(always)]
    fn place(&self, at: usize) -> [usize; 3] {
        let (row, column) = (at / self.columns, at % self.columns);
        [row / self.rows, (self.first_row + row % self.rows) * TILE, column * TILE]
    }
}

/// How the tiles of a batch are cut into blocks, by their shape alone.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Images of a block: where there are several they are whole.
    images: usize,
    /// Rows of tiles of a block, of each image.
    rows: usize,
    /// Blocks of the batch.
    blocks: usize,
    batch: usize,
    /// Rows and columns of tiles of an image.
    image: [usize; 2],
}

impl Cut {
    /// Blocks of about `tiles` tiles.
    fn new(batch: usize, [height, width]: [usize; 2], tiles: usize) -> Self {
        let image = [height.div_ceil(TILE), width.div_ceil(TILE)];
        let [rows, columns] = image;
        if rows * columns <= tiles {
            let blocks = batch.div_ceil(tiles / (rows * columns));
            let images = batch.div_ceil(blocks);
            return Self { images, rows, blocks: batch.div_ceil(images), batch, image };
        }
        let parts = rows.div_ceil((tiles / columns).max(1));
        let rows = rows.div_ceil(parts);
        Self { images: 1, rows, blocks: batch * image[0].div_ceil(rows), batch, image }
    }

    /// Most tiles of a block.
    fn most(&self) -> usize {
        self.images * self.rows * self.image[1]
    }

    /// The first image and the tiles of a block.
    fn block(&self, at: usize) -> (usize, Tiles) {
        let parts = self.image[0].div_ceil(self.rows);
        let (image, first_row) = (at / parts * self.images, at % parts * self.rows);
        let images = self.images.min(self.batch - image);
        let rows = self.rows.min(self.image[0] - first_row);
        (image, Tiles { images, first_row, rows, columns: self.image[1] })
    }
}

/// Rows of a matrix that lie one after the other.
#[derive(Clone, Copy)]
struct Dense {
    count: usize,
    /// Distance of rows in the gathered matrix and in the result.
    pitch: [usize; 2],
}

impl Rows for Dense {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn place<const N: usize>(&self, first: usize) -> [(usize, usize); N] {
        let mut places = [(0, 0); N];
        for (at, place) in places.iter_mut().enumerate() {
            // The last row is repeated.
            let row = (first + at).min(self.count - 1);
            *place = (row * self.pitch[0], row * self.pitch[1]);
        }
        places
    }
}
