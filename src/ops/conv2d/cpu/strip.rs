//! Strips: the part of an image that a task reads, with its padding.

use std::ops::Range;

use crate::{ops::conv2d::geometry::Axis, tensor::Real};

/// Rows and columns of an image; they may lie outside of it, where the image is 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    pub rows: Range<isize>,
    pub columns: Range<isize>,
}

impl Region {
    /// What the sums of every phase read for the blocks `blocks` of target rows; a block is one row of each phase.
    pub fn of(phases: &[[Axis; 2]], blocks: Range<usize>) -> Self {
        let mut region = Region { rows: 0..0, columns: 0..0 };
        for [rows, columns] in phases {
            let end = blocks.end.min(rows.count);
            if rows.taps > 0 && columns.taps > 0 && blocks.start < end {
                region.rows = union(region.rows, rows.reach(blocks.start, end));
                region.columns = union(region.columns, columns.reach(0, columns.count));
            }
        }
        region
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

fn union(a: Range<isize>, (start, end): (isize, isize)) -> Range<isize> {
    if a.is_empty() { start..end } else { a.start.min(start)..a.end.max(end) }
}

/// Pixels of several images in memory.
pub(super) struct Strip<'a, T> {
    pub data: &'a [T],
    /// Elements from one image to the next.
    pub image_pitch: usize,
    /// Elements from one row to the next.
    pub row_pitch: usize,
    /// Elements from one pixel to the next.
    pub pixel_pitch: usize,
    origin: (isize, isize),
}

impl<'a, T: Real> Strip<'a, T> {
    /// `region` of each of `images`, which lie one after the other: as it lies there if it is inside of the images,
    /// else as a copy in `memory` with zeros around.
    pub fn new(images: &'a [T], [height, width, channels]: [usize; 3], region: &Region, memory: &'a mut [T]) -> Self {
        let inside = |range: &Range<isize>, extent: usize| range.start >= 0 && range.end <= extent as isize;
        if inside(&region.rows, height) && inside(&region.columns, width) {
            let row_pitch = width * channels;
            return Self {
                data: images,
                image_pitch: height * row_pitch,
                row_pitch,
                pixel_pitch: channels,
                origin: (0, 0),
            };
        }
        let row_pitch = region.columns.len() * channels;
        let image_pitch = region.rows.len() * row_pitch;
        let left = ((-region.columns.start).max(0) as usize * channels).min(row_pitch);
        let from = region.columns.start.max(0) as usize;
        let to = region.columns.end.clamp(from as isize, width.max(from) as isize) as usize;
        let right = left + (to - from) * channels;
        let count = images.len() / (height * width * channels);
        let memory = &mut memory[..count * image_pitch];
        for (image, strip) in images.chunks_exact(height * width * channels).zip(memory.chunks_exact_mut(image_pitch)) {
            for (row, out) in region.rows.clone().zip(strip.chunks_exact_mut(row_pitch)) {
                if row < 0 || row >= height as isize {
                    out.fill(T::ZERO);
                    continue;
                }
                let start = row as usize * width * channels;
                out[..left].fill(T::ZERO);
                out[left..right].copy_from_slice(&image[start + from * channels..start + to * channels]);
                out[right..].fill(T::ZERO);
            }
        }
        Self::made(memory, [image_pitch, row_pitch, channels], region)
    }

    /// `region` of each image as `data` holds it, with these distances of images, rows and pixels.
    pub fn made(data: &'a [T], [image_pitch, row_pitch, pixel_pitch]: [usize; 3], region: &Region) -> Self {
        Self { data, image_pitch, row_pitch, pixel_pitch, origin: (region.rows.start, region.columns.start) }
    }

    /// Where a pixel of the first image lies. It may be outside of the strip as long as it is not read.
    pub fn at(&self, row: isize, column: isize) -> isize {
        (row - self.origin.0) * self.row_pitch as isize + (column - self.origin.1) * self.pixel_pitch as isize
    }
}
