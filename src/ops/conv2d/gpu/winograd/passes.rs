//! The passes form: transforms of the image and of the weights, 16 matrix products, the transform back.
//!
//! What the passes hand on takes four times the memory of the images: where that is much, the tiles are cut into chunks,
//! which go through the passes one after the other.

use super::{Image, PRODUCTS, Winograd};
use crate::{
    kernel::{
        Expr, Signature,
        gpu::{Binding, Candidate, Pass, Shader, linear_workgroups},
    },
    ops::{
        conv2d::{geometry::Geometry, gpu::correlation::Epilogue},
        matmul::{Product, between_scratch},
    },
};

/// Tiles of a chunk come in multiples of this: steps of the kernels of products.
const TILE_STEP: usize = 16;
/// Most chunks: with these, the scratch memory is as large as the images.
const MOST_CHUNKS: usize = 4;
/// Bytes of scratch memory for which no chunks are worth while.
const SMALL_SCRATCH: usize = 16 << 20;
/// Most tiles of one sum of the gradient of the weight, for a small error.
const LONGEST_SUM: usize = 4096;
/// Fewest tiles of one sum worth a workgroup of products.
const SHORTEST_SUM: usize = 128;

/// The tiles of a batch, `down` times `across` of an image, of which `count` make a chunk.
struct Tiles {
    batch: usize,
    down: usize,
    across: usize,
    count: usize,
}

impl Tiles {
    fn all(&self) -> usize {
        self.batch * self.down * self.across
    }

    /// The first tile of each chunk.
    fn chunks(&self) -> impl Iterator<Item = usize> {
        (0..self.all()).step_by(self.count)
    }

    /// Elements of scratch memory that a chunk takes for `image`.
    fn elements(&self, image: &Image) -> usize {
        PRODUCTS * self.count * image.channels
    }

    /// A transform of, or to, the patches of `image` for the chunk from tile `first` on.
    fn transform(&self, path: &'static str, image: &Image, first: usize) -> Shader {
        Shader::file(path)
            .constant("BATCH", self.batch)
            .constant("TILES_DOWN", self.down)
            .constant("TILES_ACROSS", self.across)
            .constant("HEIGHT", image.extents[0])
            .constant("WIDTH", image.extents[1])
            .constant("VECTORS", image.channels / 4)
            .constant("FIRST", first)
            .constant("COUNT", self.count)
    }

    /// The transform of `input`, `image`, to scratch buffer `to`: of the patches from `offset` on, or of the gradient of
    /// the results.
    fn source(&self, input: usize, image: &Image, offset: Option<[isize; 2]>, first: usize, to: usize) -> Pass {
        let [row, column] = offset.unwrap_or_default();
        let shader = self
            .transform("conv2d/winograd/source", image, first)
            .constant("OFFSET_HEIGHT", row as i32)
            .constant("OFFSET_WIDTH", column as i32)
            .feature("GRADIENT", offset.is_none());
        Pass { shader, bindings: vec![Binding::Input(input), Binding::Scratch(to)], workgroups: self.workgroups(image) }
    }

    fn workgroups(&self, image: &Image) -> [u32; 3] {
        linear_workgroups(self.count * image.channels / 4)
    }
}

impl Winograd<'_> {
    /// The tiles of results of these extents in `chunks` chunks.
    fn tiles(&self, [height, width]: [usize; 2], chunks: usize) -> Tiles {
        let (batch, down, across) = (self.geometry.batch, height.div_ceil(2), width.div_ceil(2));
        let count = (batch * down * across).div_ceil(chunks).next_multiple_of(TILE_STEP);
        Tiles { batch, down, across, count }
    }

    /// The fewest chunks with which what the passes hand on of the images is small, else the most, with which it is as large
    /// as the images; `None` where that cannot be bound either.
    fn in_chunks(&self, make: impl Fn(usize) -> Option<Candidate>) -> Option<Candidate> {
        let largest = self.limits.max_binding.min(self.limits.max_buffer);
        let binds = |kernel: &Candidate| kernel.scratch.iter().all(|elements| 4 * *elements as u64 <= largest);
        let handed_on = |kernel: &Candidate| kernel.scratch.iter().sum::<usize>() - self.weight_elements();
        let small = |kernel: &Candidate| 4 * handed_on(kernel) <= SMALL_SCRATCH;
        let mut kernels = (1..=MOST_CHUNKS).filter_map(make).filter(binds).peekable();
        while let Some(kernel) = kernels.next() {
            if small(&kernel) || kernels.peek().is_none() {
                return Some(kernel);
            }
        }
        None
    }

    /// The forward pass, or the gradient of the input where `backward`.
    pub fn passes(&self, backward: bool, epilogue: Option<&Expr>, signature: &Signature) -> Option<Candidate> {
        self.in_chunks(|chunks| self.passes_in(chunks, backward, epilogue, signature))
    }

    /// The gradient of the weight.
    pub fn grad_weight(&self) -> Option<Candidate> {
        self.in_chunks(|chunks| self.grad_weight_in(chunks))
    }

    pub fn passes_in(
        &self,
        chunks: usize,
        backward: bool,
        epilogue: Option<&Expr>,
        signature: &Signature,
    ) -> Option<Candidate> {
        const WEIGHT: usize = 0;
        const SOURCE: usize = 1;
        const TARGET: usize = 2;
        let (source, target, offset) = self.sides(backward);
        let tiles = self.tiles(target.extents, chunks);
        let product = Product {
            batch: PRODUCTS,
            m: tiles.count,
            n: target.channels,
            k: source.channels,
            transpose_a: false,
            // The weight stays as it is stored.
            transpose_b: backward,
        };
        let product = between_scratch(&product, [SOURCE, WEIGHT, TARGET], 3, self.limits).into_iter().next()?;

        let epilogue = Epilogue::of(epilogue, signature, true, 2);
        let mut passes = vec![self.weight(backward, Binding::Input(1), WEIGHT)];
        for first in tiles.chunks() {
            passes.push(tiles.source(0, &source, Some(offset), first, SOURCE));
            passes.extend(product.passes.iter().cloned());
            let own = [Binding::ScratchRead(TARGET), Binding::Output(0)];
            passes.push(Pass {
                shader: tiles.transform("conv2d/winograd/target", &target, first).fused(epilogue.module.clone()),
                bindings: own.into_iter().chain(epilogue.bindings.iter().copied()).collect(),
                workgroups: tiles.workgroups(&target),
            });
        }
        let scratch = vec![self.weight_elements(), tiles.elements(&source), tiles.elements(&target)];
        Some(candidate(passes, scratch, product))
    }

    pub fn grad_weight_in(&self, chunks: usize) -> Option<Candidate> {
        const SOURCE: usize = 0;
        const GRADIENT: usize = 1;
        const SUMS: usize = 2;
        let Geometry { in_channels, out_channels, .. } = *self.geometry;
        let (input, output, offset) = self.sides(false);
        let mut tiles = self.tiles(output.extents, chunks);
        // Several sums of one chunk lie side by side as a longer batch of products.
        let splits = self.splits(tiles.count);
        let length = tiles.count.div_ceil(splits).next_multiple_of(TILE_STEP);
        tiles.count = splits * length;
        let product = Product {
            batch: PRODUCTS * splits,
            m: in_channels,
            n: out_channels,
            k: length,
            transpose_a: true,
            transpose_b: false,
        };
        let product = between_scratch(&product, [SOURCE, GRADIENT, SUMS], 3, self.limits).into_iter().next()?;

        let pairs = in_channels * out_channels / 4;
        let mut passes = Vec::new();
        for first in tiles.chunks() {
            passes.push(tiles.source(0, &input, Some(offset), first, SOURCE));
            passes.push(tiles.source(1, &output, None, first, GRADIENT));
            passes.extend(product.passes.iter().cloned());
            passes.push(Pass {
                shader: Shader::file("conv2d/winograd/weight_gradient")
                    .constant("PAIRS", pairs)
                    .constant("SPLITS", splits)
                    .feature("ADDED", first > 0),
                bindings: vec![Binding::ScratchRead(SUMS), Binding::Output(0)],
                workgroups: linear_workgroups(pairs),
            });
        }
        let scratch = vec![tiles.elements(&input), tiles.elements(&output), splits * self.weight_elements()];
        Some(candidate(passes, scratch, product))
    }

    /// Into how many sums those of the gradient of the weight over so many tiles are split.
    fn splits(&self, tiles: usize) -> usize {
        let Geometry { in_channels, out_channels, .. } = *self.geometry;
        // A processor is busy with the products alone.
        let wanted = match self.limits.software {
            true => 1,
            false => self.limits.units as usize / (PRODUCTS * in_channels.div_ceil(64) * out_channels.div_ceil(64)),
        };
        wanted.min(tiles / SHORTEST_SUM).max(tiles.div_ceil(LONGEST_SUM)).max(1)
    }
}

/// The passes with those of `product` among them, whose scratch memory comes after their own.
fn candidate(passes: Vec<Pass>, mut scratch: Vec<usize>, product: Candidate) -> Candidate {
    scratch.extend(product.scratch);
    Candidate { name: format!("winograd, {}", product.name), passes, scratch }
}
