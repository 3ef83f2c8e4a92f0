//! Pictures: maps over images, and many maps side by side.

use super::{FeatureMaps, Filters, Map, View};
use crate::data::ImageSize;

/// An image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Height, width, and 1 or 3 channels.
    pub size: ImageSize,
    /// Its pixels, u8 `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

/// Coefficients of the colour map viridis (van der Walt and Smith 2015) as polynomials of degree 6 in red, green and blue, which
/// Matt Zucker fitted (shadertoy.com/view/WlfXRN).
const VIRIDIS: [[f32; 3]; 7] = [
    [0.277_727_33, 0.005_407_344_6, 0.334_099_8],
    [0.105_093_04, 1.404_613_5, 1.384_590_1],
    [-0.330_861_83, 0.214_847_56, 0.095_095_165],
    [-4.634_230_6, -5.799_101, -19.332_441],
    [6.228_27, 14.179_933, 56.690_55],
    [4.776_385, -13.745_145, -65.353_035],
    [-5.435_456, 4.645_852_6, 26.312_435],
];

/// The colour of a number from 0 (dark violet) to 1 (yellow): as bright as the number is large, for those who do not tell colours
/// apart, too.
pub fn viridis(value: f32) -> [u8; 3] {
    let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
    [0, 1, 2].map(|colour| {
        let sum = VIRIDIS.iter().rev().fold(0.0, |sum, of_power| sum * value + of_power[colour]);
        (255.0 * sum.clamp(0.0, 1.0)).round() as u8
    })
}

/// Pixels between tiles.
const GAP: usize = 4;

/// The grey between tiles: neither that of a number in the middle nor black or white.
const BETWEEN: u8 = 200;

/// Pixels that the longer side of a tile has at least.
const TILE: usize = 64;

impl Picture {
    /// As many times as large, a pixel being a square of them.
    pub fn enlarged(&self, times: usize) -> Self {
        let ImageSize { height, width, channels } = self.size;
        let size = ImageSize::new(height * times, width * times, channels);
        let mut pixels = Vec::with_capacity(size.bytes());
        for row in self.pixels.chunks_exact((width * channels).max(1)) {
            let row: Vec<u8> = row.chunks_exact(channels).flat_map(|pixel| pixel.repeat(times)).collect();
            pixels.extend(row.repeat(times));
        }
        Self { size, pixels }
    }

    /// The same in grey with a map over what a network sees of it, the more opaque the larger the number; what it does not see is
    /// dark.
    pub fn under(&self, map: &Map, view: &View) -> Self {
        /// The share of the colour where the map is 0, and what is added to it where it is largest.
        const OPACITY: [f32; 2] = [0.2, 0.5];
        let ImageSize { height, width, channels } = self.size;
        let map = map.positive();
        let mut pixels = Vec::with_capacity(height * width * 3);
        for (at, pixel) in self.pixels.chunks_exact(channels.max(1)).enumerate() {
            let (row, column) = (at / width, at % width);
            let grey = pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / pixel.len() as f32;
            let share = |place: usize, of: usize| (place as f64 + 0.5) / of as f64;
            let Some((down, across)) = view.seen(share(row, height), share(column, width)) else {
                pixels.extend([(grey / 3.0) as u8; 3]);
                continue;
            };
            let value = map.at(down, across);
            let opacity = OPACITY[0] + OPACITY[1] * value;
            pixels.extend(viridis(value).map(|colour| (grey + (f32::from(colour) - grey) * opacity).round() as u8));
        }
        Self { size: ImageSize::new(height, width, 3), pixels }
    }

    /// Pictures of one size side by side, in rows of about as many as there are rows; nothing where there are none.
    fn tiles(tiles: &[Self]) -> Self {
        let size = tiles.first().map_or(ImageSize::new(0, 0, 1), |tile| tile.size);
        let columns = tiles.len().isqrt() + usize::from(tiles.len().isqrt().pow(2) < tiles.len());
        let rows = tiles.len().div_ceil(columns.max(1));
        let side = |count: usize, extent: usize| count * (extent + GAP) + GAP;
        let all = ImageSize { height: side(rows, size.height), width: side(columns, size.width), ..size };
        let mut pixels = vec![BETWEEN; all.bytes()];
        for (at, tile) in tiles.iter().enumerate() {
            let (top, left) = (at / columns * (size.height + GAP) + GAP, at % columns * (size.width + GAP) + GAP);
            let row = size.width * size.channels;
            for (down, from) in tile.pixels.chunks_exact(row).enumerate() {
                pixels[((top + down) * all.width + left) * all.channels..][..row].copy_from_slice(from);
            }
        }
        Self { size: all, pixels }
    }
}

/// How many times a tile of this size is enlarged.
fn times(height: usize, width: usize) -> usize {
    TILE.div_ceil(height.max(width).max(1))
}

/// Bytes of numbers from the smallest to the largest of a range; the middle where there is no range.
fn bytes(values: impl Iterator<Item = f32>, [least, most]: [f32; 2]) -> Vec<u8> {
    let scaled = |value: f32| if most > least { 255.0 * (value - least) / (most - least) } else { 127.5 };
    values.map(|value| scaled(value).round() as u8).collect()
}

/// The smallest and the largest number.
fn range(values: &[f32]) -> [f32; 2] {
    let of = |pick: fn(f32, f32) -> f32| values.iter().copied().reduce(pick).unwrap_or_default();
    [of(f32::min), of(f32::max)]
}

impl FeatureMaps {
    /// The maps side by side, each from black where it is smallest to white where it is largest.
    pub fn picture(&self) -> Picture {
        let tile = |(_, map): &(usize, Map)| {
            let size = ImageSize::new(map.height, map.width, 1);
            let pixels = bytes(map.values.iter().copied(), range(&map.values));
            Picture { size, pixels }.enlarged(times(map.height, map.width))
        };
        Picture::tiles(&self.maps.iter().map(tile).collect::<Vec<_>>())
    }
}

impl Filters {
    /// The filters side by side, from the smallest weight of all to the largest, so that a weak filter is of one colour.
    pub fn picture(&self) -> Picture {
        let [height, width, colours, filters] = self.shape;
        let range = range(&self.weights);
        let tile = |at: usize| {
            let of_filter = self.weights.iter().copied().skip(at).step_by(filters.max(1));
            let size = ImageSize::new(height, width, colours);
            Picture { size, pixels: bytes(of_filter, range) }.enlarged(times(height, width))
        };
        Picture::tiles(&(0..filters).map(tile).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Fit;

    #[test]
    fn colours_are_those_of_matplotlib() {
        let table = [
            (0.0, [68, 1, 84]),
            (0.25, [59, 82, 139]),
            (0.5, [33, 145, 140]),
            (0.75, [94, 201, 98]),
            (1.0, [253, 231, 37]),
        ];
        for (value, expected) in table {
            for (colour, expected) in viridis(value).into_iter().zip(expected) {
                assert!((i32::from(colour) - expected).abs() <= 4, "{value}: {:?}", viridis(value));
            }
        }
        assert_eq!((viridis(f32::NAN), viridis(7.0)), (viridis(0.0), viridis(1.0)));
    }

    #[test]
    fn a_map_is_warm_where_it_is_large_and_nothing_is_said_of_what_is_not_seen() {
        let image = Picture { size: ImageSize::new(2, 4, 1), pixels: vec![90; 8] };
        let map = Map { height: 1, width: 2, values: vec![-1.0, 4.0] };
        let over = image.under(&map, &View::of(image.size, ImageSize::new(8, 8, 1), Fit::Crop));
        assert_eq!(over.size, ImageSize::new(2, 4, 3));
        let row: Vec<&[u8]> = over.pixels.chunks(3).take(4).collect();
        assert_eq!((row[0], row[3]), (&[30; 3][..], &[30; 3][..]));
        assert!(row[2][0] > 200 - 30 && row[2][2] < 60 && row[1][0] < 90, "{row:?}");
    }

    #[test]
    fn tiles_stand_in_rows_and_keep_their_pixels() {
        let tile = |value: u8| Picture { size: ImageSize::new(1, 2, 1), pixels: vec![value; 2] };
        let all = Picture::tiles(&[tile(1), tile(2), tile(3)]);
        assert_eq!(all.size, ImageSize::new(2 + 3 * GAP, 4 + 3 * GAP, 1));
        let at = |row: usize, column: usize| all.pixels[row * all.size.width + column];
        let (second, below) = (2 * GAP + 2, 2 * GAP + 1);
        let places = [at(GAP, GAP), at(GAP, second), at(below, GAP + 1), at(below, second), at(0, 0)];
        assert_eq!(places, [1, 2, 3, BETWEEN, BETWEEN]);
        let enlarged = Picture { size: ImageSize::new(1, 2, 1), pixels: vec![7, 9] }.enlarged(2);
        assert_eq!(enlarged.pixels, [7, 7, 9, 9, 7, 7, 9, 9]);
    }

    #[test]
    fn filters_share_their_scale_and_maps_have_their_own() {
        let filters = Filters { name: "w".into(), shape: [1, 1, 1, 3], weights: vec![-1.0, 0.0, 1.0] };
        let picture = filters.picture();
        let at = |tile: usize| picture.pixels[GAP * picture.size.width + GAP + tile * (TILE + GAP)];
        assert_eq!([at(0), at(1)], [0, 128]);
        let map = |values: [f32; 2]| Map { height: 1, width: 2, values: values.to_vec() };
        let maps = vec![(3, map([0.0, 2.0])), (1, map([0.5, 0.5]))];
        let picture = FeatureMaps { layer: "conv".into(), channels: 4, maps }.picture();
        let at = |column: usize| picture.pixels[GAP * picture.size.width + column];
        assert_eq!([at(GAP), at(GAP + TILE - 1), at(2 * GAP + TILE)], [0, 255, 128]);
    }
}
