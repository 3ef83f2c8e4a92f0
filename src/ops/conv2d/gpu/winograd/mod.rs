//! Convolutions of 3 x 3 taps by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015). The CPU's kernel of that
//! name has the formulas: a tile of 2 x 2 results takes 16 multiplications for each pair of channels instead of 36.

mod fused;
mod passes;

use super::super::geometry::{Axis, Geometry};
use crate::kernel::{
    Expr, Signature,
    gpu::{Binding, Candidate, Limits, Pass, Shader, linear_workgroups},
};

/// Elements of a transformed patch, and so the number of matrix products.
const PRODUCTS: usize = 16;
/// Fewest channels on either side that fill the blocks of the fused form.
const FUSED_CHANNELS: usize = 32;
/// Fewest channels on either side with which the passes form pays on hardware: what it reads and writes takes a usual GPU
/// about 640 multiplications for each tile's pixel and channel, and it saves 10 for each pair of channels.
const PASSES_CHANNELS: usize = 128;

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

impl<'a> Winograd<'a> {
    pub fn of(geometry: &'a Geometry, limits: &'a Limits) -> Option<Self> {
        let Geometry { window, in_channels, out_channels, groups, .. } = geometry;
        let plain = [&window.height, &window.width].iter().all(|w| w.kernel == 3 && w.stride == 1 && w.dilation == 1);
        let vectors = in_channels.is_multiple_of(4) && out_channels.is_multiple_of(4);
        (plain && vectors && *groups == 1).then_some(Self { geometry, limits })
    }

    /// Adds the kernels of the forward pass, or of the gradient of the input where `backward`, that may be worth while to
    /// the others: on a processor as the first guess, on hardware, where they are not measured, after the others.
    pub fn join(&self, backward: bool, epilogue: Option<&Expr>, signature: &Signature, others: &mut Vec<Candidate>) {
        let passes = || self.passes(backward, epilogue, signature);
        if self.limits.software {
            others.splice(0..0, self.saves_on_a_processor().then(passes).flatten());
            return;
        }
        if self.least_channels() >= FUSED_CHANNELS {
            others.extend(self.fused(backward, epilogue, signature));
        }
        if self.least_channels() >= PASSES_CHANNELS {
            others.extend(passes());
        }
    }

    /// Adds the kernel of the gradient of the weight likewise.
    pub fn join_grad_weight(&self, others: &mut Vec<Candidate>) {
        if self.limits.software {
            others.splice(0..0, self.saves_on_a_processor().then(|| self.grad_weight()).flatten());
        } else if self.least_channels() >= PASSES_CHANNELS {
            others.extend(self.grad_weight());
        }
    }

    /// Whether the multiplications that a processor saves outweigh the transforms. In units of a multiplication of a
    /// vector by kernels that broadcast, a load or store of one takes about 26 and each of the three dispatches that are
    /// added 150,000.
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
        saved > 26.0 * moved + 3.0 * 150e3
    }

    fn least_channels(&self) -> usize {
        self.geometry.in_channels.min(self.geometry.out_channels)
    }

    fn input(&self) -> Image {
        let window = &self.geometry.window;
        Image { extents: [window.height.input, window.width.input], channels: self.geometry.in_channels }
    }

    fn output(&self) -> Image {
        let window = &self.geometry.window;
        Image { extents: [window.height.output, window.width.output], channels: self.geometry.out_channels }
    }

    /// What is read, what is written, and where the first tile's patch begins.
    fn sides(&self, backward: bool) -> (Image, Image, [isize; 2]) {
        let axes = [&self.geometry.window.height, &self.geometry.window.width];
        match backward {
            false => (self.input(), self.output(), axes.map(|w| Axis::forward(w).offset)),
            true => (self.output(), self.input(), axes.map(|w| Axis::backward(w)[0].offset)),
        }
    }

    /// The transform of the weight, the taps from the last to the first for the gradient of the input.
    fn weight(&self, backward: bool, weight: Binding, to: usize) -> Pass {
        let pairs = self.geometry.in_channels * self.geometry.out_channels / 4;
        Pass {
            shader: Shader::file("conv2d/winograd/weight").constant("PAIRS", pairs).feature("FLIPPED", backward),
            bindings: vec![weight, Binding::Scratch(to)],
            workgroups: linear_workgroups(pairs),
        }
    }

    /// Elements of the transformed weight.
    fn weight_elements(&self) -> usize {
        PRODUCTS * self.geometry.in_channels * self.geometry.out_channels
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
            (2, [9, 10], [36, 40], Padding::Same),
        ] {
            let options = Conv2dOptions::default().padding(padding);
            let filter = [3, 3, channels[0], channels[1]];
            let geometry = Geometry::new(&options, batch, extents, channels[0], filter).unwrap();
            let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());
            let devices = [gpu.limits(), &hardware].map(|limits| Winograd::of(&geometry, limits).unwrap());
            // Some are divided as well: each way is compiled anew.
            let chunks = [1, 3].into_iter().take(if batch > 1 && channels[0] > 4 { 2 } else { 1 });
            let correlations = |backward: bool, signature: &Signature| -> Vec<Candidate> {
                let [processor, hardware] = &devices;
                let each = [processor, hardware].into_iter().flat_map(|device| {
                    chunks.clone().map(move |chunks| device.passes_in(chunks, backward, None, signature))
                });
                each.chain([hardware.fused(backward, None, signature)]).map(Option::unwrap).collect()
            };
            compare(
                [x.clone(), w.clone()],
                y.clone(),
                |graph, v| graph.apply1(Conv2d { options, epilogue: None }, v).unwrap(),
                |signature| correlations(false, signature),
            );
            compare(
                [y.clone(), w.clone()],
                x.clone(),
                |graph, v| graph.apply1(Conv2dGradInput { options, extents, epilogue: None }, v).unwrap(),
                |signature| correlations(true, signature),
            );
            compare(
                [x, y],
                w,
                |graph, v| graph.apply1(Conv2dGradWeight { options, kernel: [3, 3] }, v).unwrap(),
                |_| {
                    devices
                        .iter()
                        .flat_map(|d| chunks.clone().map(move |chunks| d.grad_weight_in(chunks).unwrap()))
                        .collect()
                },
            );
        }
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
            units: 96,
            software,
            f16: false,
            adapter: String::new(),
        }
    }

    #[test]
    fn it_comes_first_on_a_processor_and_after_the_others_on_hardware_where_it_may_win() {
        let options = Conv2dOptions::default().padding(Padding::Same);
        let geometry =
            |batch, extent, channels| Geometry::new(&options, batch, [extent; 2], channels, [3, 3, channels, channels]);
        let wide = geometry(8, 28, 128).unwrap();
        assert!(names(&wide, &limits(true))[0].starts_with("winograd"));
        let kernels = names(&wide, &limits(false));
        assert!(!kernels[0].starts_with("winograd"));
        assert!(kernels.iter().any(|name| name.starts_with("winograd fused")));
        assert!(kernels.last().unwrap().starts_with("winograd, "));
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
