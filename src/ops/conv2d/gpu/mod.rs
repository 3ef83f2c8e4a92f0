//! The GPU kernels.

mod correlation;
mod grad_weight;
mod tile;
mod winograd;

pub(super) use correlation::{forward, forward_measured, grad_input};
pub(super) use grad_weight::grad_weight;

use super::geometry::Geometry;
use crate::{
    kernel::gpu::Shader,
    ops::{
        subgroup_block::{MULTIPLICATIONS, SUBGROUP},
        window::Window1d,
    },
};

/// Kernels that are worth timing where a processor runs the shaders.
const SOFTWARE_CHOICES: usize = 2;

/// Whether a window's tap rows and tap columns have a bit each in one number, as the tiled kernels keep them to check whether
/// a tap is inside of the image; its last bit means none of them.
fn fits_tap_bits(geometry: &Geometry) -> bool {
    geometry.window.height.kernel + geometry.window.width.kernel < 32
}

/// The constants of `conv2d/axis` and the batch.
fn axis_constants(shader: Shader, geometry: &Geometry, backward: bool) -> Shader {
    let along = |shader: Shader, window: &Window1d, names: [&'static str; 7]| {
        let (source, target) = if backward { (window.output, window.input) } else { (window.input, window.output) };
        let period = window.stride / gcd(window.stride, window.dilation);
        let values = [source, target, window.kernel, window.stride, window.dilation, window.before, period];
        names.into_iter().zip(values).fold(shader, |shader, (name, value)| shader.constant(name, value))
    };
    let shader = along(
        shader.constant("BATCH", geometry.batch),
        &geometry.window.height,
        [
            "SOURCE_HEIGHT",
            "TARGET_HEIGHT",
            "KERNEL_HEIGHT",
            "STRIDE_HEIGHT",
            "DILATION_HEIGHT",
            "BEFORE_HEIGHT",
            "PERIOD_HEIGHT",
        ],
    );
    along(
        shader,
        &geometry.window.width,
        [
            "SOURCE_WIDTH",
            "TARGET_WIDTH",
            "KERNEL_WIDTH",
            "STRIDE_WIDTH",
            "DILATION_WIDTH",
            "BEFORE_WIDTH",
            "PERIOD_WIDTH",
        ],
    )
}

/// Time of a kernel whose invocations each own `rows` and `vectors` of four columns, for `m` rows and `n` columns, as of a
/// [`SubgroupBlock`]: of the rows it loads single numbers, a quarter as long.
fn direct_cost(m: usize, n: usize, [rows, vectors]: [usize; 2]) -> f64 {
    let work = (rows + 4 * vectors) as f64 + (4 * rows * vectors) as f64 / MULTIPLICATIONS;
    (m.div_ceil(rows) * n.div_ceil(4 * vectors)) as f64 / SUBGROUP as f64 * work
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Conv2d, Conv2dGradInput, Conv2dGradWeight, Conv2dOptions},
        correlation::{Correlation, Epilogue},
        tile::TILES,
        *,
    };
    use crate::{
        check,
        gpu::{Checks, run_candidate},
        graph::Op,
        kernel::{
            Expr, Signature,
            gpu::{Binding, Candidate, Limits},
        },
        ops::{Padding, subgroup_block::SubgroupBlock, tile::Tile},
        tensor::{DType, Tensor, TensorType},
    };

    /// Compares `candidates` with the CPU kernel of `op`.
    fn compare(op: impl Op + Clone, inputs: [TensorType; 2], candidates: &[Candidate]) {
        let Some(gpu) = check::software_gpu() else { return };
        let outputs = op.infer(&[&inputs[0], &inputs[1]]).unwrap();
        let values: Vec<Tensor> =
            inputs.iter().zip(1..).map(|(ty, seed)| check::random(ty.shape.clone(), seed)).collect();
        let expected = check::evaluate(&values, |graph, values| graph.apply1(op.clone(), values));
        let signature = Signature { inputs: inputs.to_vec(), outputs };
        for candidate in candidates {
            let got = run_candidate(&gpu, candidate, &signature, &values, &[], Checks::Off).unwrap();
            let error = check::relative_error(got[0].as_f32().unwrap(), expected.as_f32().unwrap());
            assert!(error < 2e-6, "{} ({}) of {signature:?}: off by {error:.2e}", op.name(), candidate.name);
        }
    }

    /// The kernels of the forward pass, of the gradient of the input and of the gradient of the weight.
    fn compare_kernels(
        geometry: &Geometry,
        options: Conv2dOptions,
        correlations: impl Fn(&Correlation<'_>) -> Vec<Candidate>,
        grad_weights: &[Candidate],
    ) {
        let window = &geometry.window;
        let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());
        let plain =
            |ty: &TensorType, channels: usize| Epilogue::new(&Expr::Input(0), &[], ty, channels.is_multiple_of(4), 3);
        let kernel =
            |backward, epilogue| Correlation { geometry, backward, epilogue, measured: false, factors: DType::F32 };
        let forward = kernel(false, plain(&y, geometry.group_out()));
        compare(Conv2d { options, epilogue: None }, [x.clone(), w.clone()], &correlations(&forward));

        let backward = kernel(true, plain(&x, geometry.group_in()));
        let extents = [window.height.input, window.width.input];
        compare(Conv2dGradInput { options, extents, epilogue: None }, [y.clone(), w], &correlations(&backward));

        let kernel = [window.height.kernel, window.width.kernel];
        compare(Conv2dGradWeight { options, kernel }, [x, y], grad_weights);
    }

    /// The kernels with each of `tiles`.
    fn compare_tiles(geometry: &Geometry, options: Conv2dOptions, tiles: &[Tile], limits: &Limits) {
        let grad_weights: Vec<Candidate> =
            tiles.iter().map(|tile| grad_weight::tiled(geometry, tile, limits)).collect();
        let correlations = |kernel: &Correlation<'_>| {
            tiles.iter().map(|tile| kernel.implicit_gemm(tile)).chain([kernel.split(&tiles[0], 3)]).collect()
        };
        compare_kernels(geometry, options, correlations, &grad_weights);
    }

    /// The tiles that compile fastest: their invocations load one row, two and four.
    const QUICK: [Tile; 2] = [TILES[3], TILES[4]];

    /// Every tile, past the edges of the largest.
    #[test]
    fn every_tile_matches_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let options = Conv2dOptions::default().padding(Padding::Same).stride(2);
        let geometry = Geometry::new(&options, 2, [25, 22], 20, [3, 2, 20, 132]).unwrap();
        compare_tiles(&geometry, options, &TILES, gpu.limits());
    }

    /// The steps of a tile as hardware takes them.
    #[test]
    fn steps_that_are_written_out_match_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let options = Conv2dOptions::default().padding(Padding::Same);
        let geometry = Geometry::new(&options, 2, [9, 8], 20, [3, 3, 20, 36]).unwrap();
        let written_out = |mut candidate: Candidate| {
            for pass in &mut candidate.passes {
                pass.shader = pass.shader.clone().feature("WRITTEN_OUT", true);
            }
            candidate
        };
        let tiles = [TILES[1], TILES[4]];
        let correlations =
            |kernel: &Correlation<'_>| tiles.iter().map(|tile| written_out(kernel.implicit_gemm(tile))).collect();
        let grad_weights = tiles.map(|tile| written_out(grad_weight::tiled(&geometry, &tile, gpu.limits())));
        compare_kernels(&geometry, options, correlations, &grad_weights);
    }

    /// Invocations that load one row, two and four, with and without vectors along each matrix, edges and padding, and
    /// tables that are filled several times.
    #[test]
    fn every_specialisation_of_a_tile_matches_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let strided = Conv2dOptions::default().padding(Padding::Same).stride(2);
        let plain = Conv2dOptions::default();
        for (options, filter) in [
            (strided, [3, 2, 12, 130]),
            (strided, [2, 3, 6, 20]),
            (plain, [3, 3, 5, 7]),
            (plain, [1, 1, 16, 32]),
            (strided, [3, 3, 64, 16]),
            (plain, [3, 2, 180, 16]),
        ] {
            let geometry = Geometry::new(&options, 2, [24, 22], filter[2], filter).unwrap();
            compare_tiles(&geometry, options, &QUICK, gpu.limits());
        }
    }

    /// Patches, which windows cut an image into: none reaches outside, so that tap bits, which are too few, are not needed.
    #[test]
    fn windows_of_many_taps_are_tiled_where_none_reaches_outside() {
        let Some(gpu) = check::software_gpu() else { return };
        let options = Conv2dOptions::default().stride(16);
        let geometry = Geometry::new(&options, 4, [32, 34], 3, [16, 16, 3, 20]).unwrap();
        compare_tiles(&geometry, options, &QUICK, gpu.limits());

        let hardware = Limits { software: false, ..gpu.limits().clone() };
        let names = |geometry: &Geometry| {
            let signature = Signature {
                inputs: vec![geometry.input_type(), geometry.weight_type()],
                outputs: vec![geometry.output_type()],
            };
            let forward = forward(geometry, None, &signature, &hardware);
            let grad_weight = grad_weight(geometry, DType::F32, &hardware);
            [forward, grad_weight].map(|mut kernels| kernels.swap_remove(0).name)
        };
        assert!(names(&geometry).iter().all(|name| !name.contains("direct")), "{:?}", names(&geometry));
        let padded = Geometry::new(&options.padding(Padding::all(1)), 4, [32, 34], 3, [16, 16, 3, 20]).unwrap();
        assert!(names(&padded).iter().all(|name| name.contains("direct")), "{:?}", names(&padded));
    }

    /// Every block that a subgroup may own, past the edges of the largest: with padding, strides and groups.
    #[test]
    fn blocks_of_a_subgroup_match_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let strided = Conv2dOptions::default().padding(Padding::Same).stride(2);
        for (options, filter) in [
            (strided, [3, 2, 12, 68]),
            (Conv2dOptions::default().padding(Padding::all(1)), [3, 3, 36, 8]),
            (Conv2dOptions::default().groups(2), [2, 3, 4, 72]),
        ] {
            let geometry = Geometry::new(&options, 2, [9, 7], options.groups * filter[2], filter).unwrap();
            let mut blocks: Vec<SubgroupBlock> = SubgroupBlock::choices(4, 4, gpu.limits()).collect();
            if options.stride == [1, 1] {
                // The largest and the smallest: what differs is where rows and columns lie.
                blocks = blocks.first().into_iter().chain(blocks.last()).copied().collect();
            }
            let grad_weights: Vec<Candidate> = blocks
                .iter()
                .filter(|block| block.loads == 4)
                .map(|block| grad_weight::broadcast(&geometry, *block, gpu.limits()))
                .collect();
            let correlations = |kernel: &Correlation<'_>| blocks.iter().map(|block| kernel.broadcast(*block)).collect();
            compare_kernels(&geometry, options, correlations, &grad_weights);
        }
    }

    /// The moments of the rows of every tile, the last of which are few.
    #[test]
    fn moments_of_a_tile_match_its_rows() {
        let Some(gpu) = check::software_gpu() else { return };
        let options = Conv2dOptions::default();
        let geometry = Geometry::new(&options, 3, [9, 10], 8, [2, 2, 8, 132]).unwrap();
        let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());
        let inputs = [check::random(x.shape.clone(), 1), check::random(w.shape.clone(), 2)];
        let expected = check::evaluate(&inputs, |graph, v| graph.conv2d(v[0], v[1], &options));
        let expected: Vec<f64> = expected.as_f32().unwrap().iter().map(|x| f64::from(*x)).collect();
        let epilogue = Epilogue::new(&Expr::Input(0), &[], &y, true, 3);
        let factors = DType::F32;
        let kernel = Correlation { geometry: &geometry, backward: false, epilogue, measured: true, factors };
        for tile in &TILES {
            let (mut candidate, moments) = kernel.measured(tile);
            let numbers = candidate.scratch[moments.scratch];
            for binding in candidate.passes.iter_mut().flat_map(|pass| &mut pass.bindings) {
                if *binding == Binding::Scratch(moments.scratch) {
                    *binding = Binding::Output(1);
                }
            }
            let signature =
                Signature { inputs: vec![x.clone(), w.clone()], outputs: vec![y.clone(), TensorType::f32([numbers])] };
            let got = run_candidate(&gpu, &candidate, &signature, &inputs, &[], Checks::Off).unwrap();
            let mut want = vec![0f32; numbers];
            for (part, rows) in expected.chunks(moments.part * 132).enumerate() {
                for channel in 0..132 {
                    let values = || rows.iter().skip(channel).step_by(132);
                    let mean = values().sum::<f64>() / values().count() as f64;
                    let at = (part * 33 + channel / 4) * 8 + channel % 4;
                    want[at] = mean as f32;
                    want[at + 4] = values().map(|x| (x - mean).powi(2)).sum::<f64>() as f32;
                }
            }
            let error = check::relative_error(got[1].as_f32().unwrap(), &want);
            assert!(error < 2e-6, "{}: off by {error:.2e}", candidate.name);
        }
    }
}
