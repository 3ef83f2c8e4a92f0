//! The gradient of the weight for groups of few channels, as if each channel had its own filter.
//!
//! With `n` input channels a group, the sum over a tap is one over `n` planes: in plane `j`, each output channel finds
//! the `j`-th input channel of its group. So vectors lie along the output channels, as in depthwise convolution, where
//! the channels of a group would not fill one. The planes are made strip by strip, for one vector of output channels at
//! a time.

use super::strip::{Region, Strip};
use crate::tensor::Real;

/// Most elements of a vector: target channels are a multiple of it.
const MOST_LANES: usize = 16;

/// Channels of each group of a grouped convolution, and of the whole target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub source: usize,
    pub target: usize,
    pub channels: usize,
}

impl Spread {
    /// Groups of `source` channels each that become `target` channels, where neither is more than `most` and vectors hold
    /// whole groups or whole parts of one; none where a group is all there is, or a channel already.
    pub fn of(groups: usize, source: usize, target: usize, most: usize) -> Option<Self> {
        let channels = groups * target;
        let few = groups > 1 && source.max(target) <= most && source * target > 1;
        let whole = MOST_LANES.is_multiple_of(target) && channels.is_multiple_of(MOST_LANES);
        (few && whole).then_some(Self { source, target, channels })
    }

    /// Elements of a pixel of a strip, with the widest vectors.
    pub fn pixel(&self) -> usize {
        self.source * MOST_LANES
    }

    /// The strip of `region` of each of `images` for the `lanes` target channels from `first` on: of each pixel the planes
    /// `[source, lanes]`.
    pub fn strip<'a, T: Real>(
        &self,
        images: &[T],
        extents: [usize; 3],
        region: &Region,
        part: [usize; 2],
        memory: &'a mut [T],
    ) -> Strip<'a, T> {
        // Lanes of one group, a number that is known when compiled: they are one store.
        match self.target.min(part[1]) {
            16 => self.planes::<T, 16>(images, extents, region, part, memory),
            8 => self.planes::<T, 8>(images, extents, region, part, memory),
            4 => self.planes::<T, 4>(images, extents, region, part, memory),
            2 => self.planes::<T, 2>(images, extents, region, part, memory),
            _ => self.planes::<T, 1>(images, extents, region, part, memory),
        }
    }

    /// [`Spread::strip`] where `EQUAL` neighbouring lanes belong to one group.
    fn planes<'a, T: Real, const EQUAL: usize>(
        &self,
        images: &[T],
        [height, width, channels]: [usize; 3],
        region: &Region,
        [first, lanes]: [usize; 2],
        memory: &'a mut [T],
    ) -> Strip<'a, T> {
        let source = self.source;
        let pixel = source * lanes;
        let row_pitch = region.columns.len() * pixel;
        let image_pitch = region.rows.len() * row_pitch;
        let elements = height * width * channels;
        let memory = &mut memory[..images.len() / elements * image_pitch];
        let within = |at: isize, extent: usize| usize::try_from(at).ok().filter(|at| *at < extent);
        // Source channels of the groups that the lanes belong to.
        let (from, count) = (first / self.target * source, lanes / EQUAL * source);
        // A strip without pixels, which nothing is read of, has no rows.
        let strips = memory.chunks_exact_mut(image_pitch.max(1));
        for (image, strip) in images.chunks_exact(elements).zip(strips) {
            for (row, out) in region.rows.clone().zip(strip.chunks_exact_mut(row_pitch)) {
                let Some(row) = within(row, height) else {
                    out.fill(T::ZERO);
                    continue;
                };
                let row = &image[row * width * channels..][..width * channels];
                for (column, out) in region.columns.clone().zip(out.chunks_exact_mut(pixel)) {
                    let Some(column) = within(column, width) else {
                        out.fill(T::ZERO);
                        continue;
                    };
                    let groups = &row[column * channels + from..][..count];
                    for (j, plane) in out.chunks_exact_mut(lanes).enumerate() {
                        for (lanes, group) in
                            plane.as_chunks_mut::<EQUAL>().0.iter_mut().zip(groups.chunks_exact(source))
                        {
                            *lanes = [group[j]; EQUAL];
                        }
                    }
                }
            }
        }
        Strip::made(memory, [image_pitch, row_pitch, pixel], region)
    }
}
