//! Convolutions of 3 x 3 taps by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015), as passes: transforms of
//! the image and of the weights, 16 matrix products, the transform back. The CPU's kernel of that name has the formulas.
//!
//! A tile of 2 x 2 results takes 16 multiplications for each pair of channels instead of 36. What the passes hand on takes
//! four times the memory of the images: where that is much, the tiles are cut into chunks, which go through the passes
//! one after the other.

use super::super::geometry::{Axis, Geometry};
use crate::{
    kernel::{
        Expr, Signature, fused_module,
        gpu::{Binding, Candidate, Limits, Pass, Shader, linear_workgroups},
    },
    ops::matmul::{Product, between_scratch},
    tensor::Shape,
};

/// Elements of a transformed patch, and so the number of matrix products.
const PRODUCTS: usize = 16;
/// Tiles of a chunk come in multiples of this: steps of the kernels of products.
const TILE_STEP: usize = 16;
/// Most chunks: with these, the scratch memory is as large as the images.
const MOST_CHUNKS: usize = 4;
/// Bytes of scratch memory for which no chunks are worth while.
const SMALL_SCRATCH: usize = 32 << 20;
/// Fewest channels on either side with which the passes over memory pay on hardware, where multiplications are cheap.
const HARDWARE_CHANNELS: usize = 128;
/// Most tiles of one sum of the gradient of the weight, for a small error.
const LONGEST_SUM: usize = 4096;
/// Workgroups of products that keep a GPU of usual size busy, and fewest tiles of one sum worth a workgroup.
const BUSY: usize = 128;
const SHORTEST_SUM: usize = 128;
/// Bytes of both factors of a sum that stay in a processor's cache while all of its results are computed.
const SOFTWARE_CACHE: usize = 512 << 10;

/// A convolution of 3 x 3 neighbouring taps, channels in whole vectors, on a device.
pub(super) struct Winograd<'a> {
    geometry: &'a Geometry,
    limits: &'a Limits,
}

/// An image of the batch.
struct Image {
    extents: [usize; 2],
    channels: usize,
}

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

impl<'a> Winograd<'a> {
    pub fn of(geometry: &'a Geometry, limits: &'a Limits) -> Option<Self> {
        let Geometry { window, in_channels, out_channels, groups, .. } = geometry;
        let plain = [&window.height, &window.width].iter().all(|w| w.kernel == 3 && w.stride == 1 && w.dilation == 1);
        let vectors = in_channels.is_multiple_of(4) && out_channels.is_multiple_of(4);
        (plain && vectors && *groups == 1).then_some(Self { geometry, limits })
    }

    /// Adds the kernel that `make` makes to the others, where it may be worth while: on a processor as the first guess,
    /// on hardware as the last one.
    pub fn join(&self, others: &mut Vec<Candidate>, make: impl FnOnce(&Self) -> Option<Candidate>) {
        let Geometry { in_channels, out_channels, .. } = *self.geometry;
        let (worth, place) = match self.limits.software {
            true => (self.saves_on_a_processor(), 0),
            false => (in_channels.min(out_channels) >= HARDWARE_CHANNELS, others.len()),
        };
        if let Some(candidate) = worth.then(|| make(self)).flatten() {
            others.insert(place, candidate);
        }
    }

    /// Whether the multiplications that a processor saves outweigh the transforms. In units of a multiplication of a
    /// vector, a load or store of one takes 4 and each of the three dispatches that are added about 150,000.
    fn saves_on_a_processor(&self) -> bool {
        let Geometry { batch, in_channels, out_channels, .. } = *self.geometry;
        let [height, width] = self.output().extents;
        let tiles = batch * height.div_ceil(2) * width.div_ceil(2);
        let vectors = |elements: usize| (elements / 4) as f64;
        let saved = (36 - PRODUCTS) as f64 * vectors(tiles * in_channels * out_channels);
        // Loads and stores of a tile's patch, of its results, and of the weights of a pair of channels.
        let moved = 32.0 * vectors(tiles * in_channels)
            + 20.0 * vectors(tiles * out_channels)
            + 25.0 * vectors(in_channels * out_channels);
        saved > 4.0 * moved + 3.0 * 150e3
    }

    fn input(&self) -> Image {
        let window = &self.geometry.window;
        Image { extents: [window.height.input, window.width.input], channels: self.geometry.in_channels }
    }

    fn output(&self) -> Image {
        let window = &self.geometry.window;
        Image { extents: [window.height.output, window.width.output], channels: self.geometry.out_channels }
    }

    /// The tiles of results of these extents in `chunks` chunks.
    fn tiles(&self, [height, width]: [usize; 2], chunks: usize) -> Tiles {
        let (batch, down, across) = (self.geometry.batch, height.div_ceil(2), width.div_ceil(2));
        let count = (batch * down * across).div_ceil(chunks).next_multiple_of(TILE_STEP);
        Tiles { batch, down, across, count }
    }

    /// The fewest chunks with which a kernel's scratch memory is small, or no larger than the images; `None` where
    /// it can not be bound.
    fn in_chunks(&self, make: impl Fn(usize) -> Option<Candidate>) -> Option<Candidate> {
        let largest = self.limits.max_binding.min(self.limits.max_buffer);
        let binds = |kernel: &Candidate| kernel.scratch.iter().all(|elements| 4 * *elements as u64 <= largest);
        let small = |kernel: &Candidate| 4 * kernel.scratch.iter().sum::<usize>() <= SMALL_SCRATCH;
        let mut kernels = (1..=MOST_CHUNKS).filter_map(make).filter(binds).peekable();
        while let Some(kernel) = kernels.next() {
            if small(&kernel) || kernels.peek().is_none() {
                return Some(kernel);
            }
        }
        None
    }

    /// The forward pass, or the gradient of the input where `backward`.
    pub fn correlation(&self, backward: bool, epilogue: Option<&Expr>, signature: &Signature) -> Option<Candidate> {
        self.in_chunks(|chunks| self.correlation_in(chunks, backward, epilogue, signature))
    }

    /// The gradient of the weight.
    pub fn grad_weight(&self) -> Option<Candidate> {
        self.in_chunks(|chunks| self.grad_weight_in(chunks))
    }

    pub(super) fn correlation_in(
        &self,
        chunks: usize,
        backward: bool,
        epilogue: Option<&Expr>,
        signature: &Signature,
    ) -> Option<Candidate> {
        const WEIGHT: usize = 0;
        const SOURCE: usize = 1;
        const TARGET: usize = 2;
        let window = &self.geometry.window;
        let (source, target) = if backward { (self.output(), self.input()) } else { (self.input(), self.output()) };
        let offset = [&window.height, &window.width].map(|w| match backward {
            true => Axis::backward(w)[0].offset,
            false => Axis::forward(w).offset,
        });
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

        let pairs = source.channels * target.channels / 4;
        let mut passes = vec![Pass {
            shader: Shader::file("conv2d/winograd/weight").constant("PAIRS", pairs).feature("FLIPPED", backward),
            bindings: vec![Binding::Input(1), Binding::Scratch(WEIGHT)],
            workgroups: linear_workgroups(pairs),
        }];
        let shape = &signature.outputs[0].shape;
        let extra = signature.inputs[2..].iter().map(|ty| &ty.shape);
        let shapes: Vec<&Shape> = std::iter::once(shape).chain(extra).collect();
        let (fused, read) = fused_module(epilogue.unwrap_or(&Expr::Input(0)), &shapes, shape, 4, 2, true);
        for first in tiles.chunks() {
            passes.push(tiles.source(0, &source, Some(offset), first, SOURCE));
            passes.extend(product.passes.iter().cloned());
            let own = [Binding::ScratchRead(TARGET), Binding::Output(0)];
            passes.push(Pass {
                shader: tiles.transform("conv2d/winograd/target", &target, first).fused(fused.clone()),
                bindings: own.into_iter().chain(read.iter().map(|n| Binding::Input(n + 1))).collect(),
                workgroups: tiles.workgroups(&target),
            });
        }
        let scratch = vec![PRODUCTS * 4 * pairs, tiles.elements(&source), tiles.elements(&target)];
        Some(Self::candidate(passes, scratch, product))
    }

    pub(super) fn grad_weight_in(&self, chunks: usize) -> Option<Candidate> {
        const SOURCE: usize = 0;
        const GRADIENT: usize = 1;
        const SUMS: usize = 2;
        let Geometry { window, in_channels, out_channels, .. } = self.geometry;
        let (input, output) = (self.input(), self.output());
        let mut tiles = self.tiles(output.extents, chunks);
        // Several sums of one chunk lie side by side as a longer batch of products.
        let splits = self.splits(tiles.count);
        let length = tiles.count.div_ceil(splits).next_multiple_of(TILE_STEP);
        tiles.count = splits * length;
        let product = Product {
            batch: PRODUCTS * splits,
            m: *in_channels,
            n: *out_channels,
            k: length,
            transpose_a: true,
            transpose_b: false,
        };
        let product = between_scratch(&product, [SOURCE, GRADIENT, SUMS], 3, self.limits).into_iter().next()?;

        let offset = [&window.height, &window.width].map(|w| Axis::forward(w).offset);
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
        let scratch = vec![tiles.elements(&input), tiles.elements(&output), PRODUCTS * splits * 4 * pairs];
        Some(Self::candidate(passes, scratch, product))
    }

    /// Into how many sums those of the gradient of the weight over so many tiles are split.
    fn splits(&self, tiles: usize) -> usize {
        let Geometry { in_channels, out_channels, .. } = *self.geometry;
        let wanted = match self.limits.software {
            true => 4 * tiles * (in_channels + out_channels) / SOFTWARE_CACHE,
            false => BUSY / (PRODUCTS * in_channels.div_ceil(64) * out_channels.div_ceil(64)),
        };
        wanted.min(tiles / SHORTEST_SUM).max(tiles.div_ceil(LONGEST_SUM)).max(1)
    }

    fn candidate(passes: Vec<Pass>, mut scratch: Vec<usize>, product: Candidate) -> Candidate {
        scratch.extend(product.scratch);
        Candidate { name: format!("winograd, {}", product.name), passes, scratch }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{Conv2d, Conv2dGradInput, Conv2dGradWeight, Conv2dOptions},
        *,
    };
    use crate::{
        check,
        gpu::{Checks, run_candidate},
        graph::{Graph, Value},
        ops::Padding,
        tensor::{Tensor, TensorType},
    };

    /// Largest `‖gpu − cpu‖ / ‖cpu‖`. A sum of n terms of either sign is off by about 3.4e-8 sqrt(n / 2) of itself, here
    /// n <= 256 tiles or channels: 4e-7; the products of a tile are larger than its results, by 1.7 in the mean.
    const TOLERANCE: f64 = 1e-6;

    /// Compares kernels with the CPU's of the operation that `apply` appends.
    fn compare(
        inputs: [TensorType; 2],
        output: TensorType,
        apply: impl Fn(&mut Graph, &[Value]) -> Value,
        kernels: impl Fn(&Signature) -> Vec<Candidate>,
    ) {
        let Some(gpu) = check::software_gpu() else { return };
        let values: Vec<Tensor> =
            inputs.iter().zip(1..).map(|(ty, seed)| check::random(ty.shape.clone(), seed)).collect();
        let expected = check::evaluate(&values, |graph, values| Ok(apply(graph, values)));
        let signature = Signature { inputs: inputs.to_vec(), outputs: vec![output] };
        for kernel in kernels(&signature) {
            let got = run_candidate(&gpu, &kernel, &signature, &values, &[], Checks::On).unwrap();
            let error = check::relative_error(got[0].as_f32().unwrap(), expected.as_f32().unwrap());
            assert!(error < TOLERANCE, "{} of {signature:?}: off by {error:.2e}", kernel.name);
        }
    }

    /// Odd extents, windows that lie outside, tiles of several chunks and of several sums.
    #[test]
    fn every_pass_matches_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let mut hardware = gpu.limits().clone();
        hardware.software = false;
        let uneven = Padding::Explicit { top: 2, bottom: 0, left: 1, right: 3 };
        for (batch, extents, channels, padding) in [
            (2, [5, 7], [4, 8], Padding::Same),
            (1, [3, 3], [8, 4], Padding::Valid),
            (3, [6, 5], [12, 8], Padding::all(2)),
            (2, [4, 8], [4, 4], Padding::all(4)),
            (1, [9, 1], [20, 16], uneven),
            (70, [4, 3], [8, 12], Padding::Same),
            (1, [32, 31], [4, 8], Padding::Same),
        ] {
            let options = Conv2dOptions::default().padding(padding);
            let filter = [3, 3, channels[0], channels[1]];
            let geometry = Geometry::new(&options, batch, extents, channels[0], filter).unwrap();
            let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());
            let each = |make: &dyn Fn(&Winograd<'_>, usize) -> Option<Candidate>| -> Vec<Candidate> {
                let devices = [gpu.limits(), &hardware].map(|limits| Winograd::of(&geometry, limits).unwrap());
                devices.iter().flat_map(|device| [1, 3].map(|chunks| make(device, chunks).unwrap())).collect()
            };
            compare(
                [x.clone(), w.clone()],
                y.clone(),
                |graph, v| graph.apply1(Conv2d { options, epilogue: None }, v).unwrap(),
                |signature| each(&|device, chunks| device.correlation_in(chunks, false, None, signature)),
            );
            compare(
                [y.clone(), w.clone()],
                x.clone(),
                |graph, v| graph.apply1(Conv2dGradInput { options, extents, epilogue: None }, v).unwrap(),
                |signature| each(&|device, chunks| device.correlation_in(chunks, true, None, signature)),
            );
            compare(
                [x, y],
                w,
                |graph, v| graph.apply1(Conv2dGradWeight { options, kernel: [3, 3] }, v).unwrap(),
                |_| each(&|device, chunks| device.grad_weight_in(chunks)),
            );
        }
    }

    /// With epilogues of the results and of the gradient.
    #[test]
    fn what_a_processor_chooses_matches_the_cpu() {
        let inputs = [
            check::random([4, 15, 15, 32], 1),
            check::random([3, 3, 32, 32], 2),
            check::random([32], 3),
            check::random([4, 15, 15, 32], 4),
        ];
        check::gpu_matches_cpu(&inputs, |graph, v| {
            let x = graph.tanh(v[0])?;
            let y = graph.conv2d(x, v[1], &Conv2dOptions::default().padding(Padding::Same))?;
            let y = graph.add(y, v[2])?;
            let y = graph.add(y, v[3])?;
            graph.relu(y)
        });
    }

    fn names(geometry: &Geometry, limits: &Limits) -> Vec<String> {
        let signature = Signature {
            inputs: vec![geometry.input_type(), geometry.weight_type()],
            outputs: vec![geometry.output_type()],
        };
        super::super::forward(geometry, None, &signature, limits).into_iter().map(|kernel| kernel.name).collect()
    }

    fn limits(software: bool) -> Limits {
        Limits {
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            workgroup_memory: 16 << 10,
            workgroup_invocations: 256,
            offset_alignment: 256,
            subgroup: None,
            software,
        }
    }

    #[test]
    fn it_comes_first_on_a_processor_and_last_on_hardware_where_it_may_win() {
        let options = Conv2dOptions::default().padding(Padding::Same);
        let geometry =
            |batch, extent, channels| Geometry::new(&options, batch, [extent; 2], channels, [3, 3, channels, channels]);
        let wide = geometry(8, 28, 128).unwrap();
        assert!(names(&wide, &limits(true))[0].starts_with("winograd"));
        assert!(names(&wide, &limits(false)).last().unwrap().starts_with("winograd"));
        let narrow = geometry(8, 28, 8).unwrap();
        let none = |names: Vec<String>| names.iter().all(|name| !name.starts_with("winograd"));
        assert!(none(names(&narrow, &limits(true))) && none(names(&narrow, &limits(false))));
    }

    #[test]
    fn scratch_memory_fits_the_device_and_is_no_larger_than_the_images_where_it_is_large() {
        let options = Conv2dOptions::default().padding(Padding::Same);
        let geometry = |batch| Geometry::new(&options, batch, [224; 2], 64, [3, 3, 64, 64]).unwrap();
        let (large, limits) = (geometry(8), limits(true));
        let kernel = Winograd::of(&large, &limits).unwrap().grad_weight().unwrap();
        let bytes = |elements: &usize| 4 * *elements as u64;
        assert!(kernel.scratch.iter().map(bytes).all(|bytes| bytes <= limits.max_binding));
        let images = large.input_type().bytes() + large.output_type().bytes();
        assert!(kernel.scratch.iter().map(bytes).sum::<u64>() < images as u64 * 21 / 20);
        assert_eq!(Winograd::of(&geometry(16), &limits).unwrap().grad_weight(), None);
    }
}
