//! The GPU kernels.

mod correlation;
mod grad_weight;
mod tile;
mod winograd;

pub(super) use correlation::{forward, grad_input};
pub(super) use grad_weight::grad_weight;

use super::geometry::Geometry;
use crate::{kernel::gpu::Shader, ops::window::Window1d};

/// Whether a window's tap rows and tap columns have a bit each in one number, as the tiled kernels keep them; its last
/// bit means none of them.
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

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Conv2d, Conv2dGradInput, Conv2dGradWeight, Conv2dOptions},
        correlation::{Correlation, Epilogue},
        tile::{TILES, Tile},
        *,
    };
    use crate::{
        check,
        gpu::{Checks, run_candidate},
        graph::Op,
        kernel::{
            Expr, Signature,
            gpu::{Candidate, Limits},
        },
        ops::Padding,
        tensor::{Tensor, TensorType},
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

    /// The kernels with each of `tiles`.
    fn compare_tiles(geometry: &Geometry, options: Conv2dOptions, tiles: &[Tile], limits: &Limits) {
        let window = &geometry.window;
        let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());
        let plain = |ty: &TensorType| {
            let vectors = ty.shape[3].is_multiple_of(4);
            Epilogue::new(&Expr::Input(0), &[], &ty.shape, vectors)
        };
        let forward = Correlation { geometry, backward: false, epilogue: plain(&y) };
        let candidates: Vec<Candidate> = tiles.iter().map(|tile| forward.implicit_gemm(tile)).collect();
        compare(Conv2d { options, epilogue: None }, [x.clone(), w.clone()], &candidates);

        let backward = Correlation { geometry, backward: true, epilogue: plain(&x) };
        let candidates: Vec<Candidate> = tiles.iter().map(|tile| backward.implicit_gemm(tile)).collect();
        let extents = [window.height.input, window.width.input];
        compare(Conv2dGradInput { options, extents, epilogue: None }, [y.clone(), w], &candidates);

        let candidates: Vec<Candidate> = tiles.iter().map(|tile| grad_weight::tiled(geometry, tile, limits)).collect();
        let kernel = [window.height.kernel, window.width.kernel];
        compare(Conv2dGradWeight { options, kernel }, [x, y], &candidates);
    }

    /// Every tile, past the edges of the largest.
    #[test]
    fn every_tile_matches_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let options = Conv2dOptions::default().padding(Padding::Same).stride(2);
        let geometry = Geometry::new(&options, 2, [25, 22], 20, [3, 2, 20, 132]).unwrap();
        compare_tiles(&geometry, options, &TILES, gpu.limits());
    }

    /// Invocations that load two rows and four, with and without vectors along each matrix, edges and padding, and
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
            compare_tiles(&geometry, options, &TILES[..2], gpu.limits());
        }
    }
}
