use rayon::prelude::*;

use super::columns::{Grid, LANES, fold, for_lanes, repeat, rows_of_part};
use crate::{
    graph::{Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// Gradients of the scale and the shift of a norm over the last axis, of `dy`, `x` `[.., channels]`, mean and inverse
/// standard deviation: `dgamma = sum(dy * (x - mean) * inv_std)` and `dbeta = sum(dy)`, both `[channels]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NormSums {
    /// Mean and inverse standard deviation belong to the channels: batch norm.
    OfChannels,
    /// Mean and inverse standard deviation belong to the rows: layer norm.
    OfRows,
}

impl NormSums {
    /// Gradients of scale and shift over some rows.
    #[inline(always)]
    fn add_up<T: Real>(&self, dy: &[T], x: &[T], mean: &[T], inv_std: &[T], dgamma: &mut [T], dbeta: &mut [T]) {
        let channels = dgamma.len();
        for from in (0..channels).step_by(LANES) {
            let block = from..channels.min(from + LANES);
            let (mut scaled, mut plain) = ([T::ZERO; LANES], [T::ZERO; LANES]);
            match self {
                NormSums::OfChannels => {
                    let (mean, inv_std) = (repeat(&mean[block.clone()]), repeat(&inv_std[block.clone()]));
                    for_lanes([dy, x], channels, from, |[dy, x]| {
                        let lanes = dy.iter().zip(x).zip(mean.iter().zip(&inv_std));
                        let sums = scaled.iter_mut().zip(&mut plain);
                        for ((scaled, plain), ((&dy, &x), (&mean, &inv_std))) in sums.zip(lanes) {
                            *scaled += dy * ((x - mean) * inv_std);
                            *plain += dy;
                        }
                    });
                }
                NormSums::OfRows => {
                    let rows = dy.chunks_exact(channels).zip(x.chunks_exact(channels));
                    for ((dy, x), (&mean, &inv_std)) in rows.zip(mean.iter().zip(inv_std)) {
                        let lanes = dy[block.clone()].iter().zip(&x[block.clone()]);
                        for ((scaled, plain), (&dy, &x)) in scaled.iter_mut().zip(&mut plain).zip(lanes) {
                            *scaled += dy * ((x - mean) * inv_std);
                            *plain += dy;
                        }
                    }
                }
            }
            fold(&scaled, &mut dgamma[block.clone()]);
            fold(&plain, &mut dbeta[block]);
        }
    }
}

impl Op for NormSums {
    fn name(&self) -> &str {
        match self {
            NormSums::OfChannels => "batch_norm_sums",
            NormSums::OfRows => "layer_norm_sums",
        }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [dy, x, mean, inv_std] = inputs else {
            return Err(ShapeError::new("expects the gradient, the input, mean and inverse standard deviation"));
        };
        let channels = x.shape.last();
        let statistics = match self {
            NormSums::OfChannels => TensorType::f32([channels]),
            NormSums::OfRows => TensorType::f32([x.elements() / channels.max(1)]),
        };
        if **x != TensorType::f32(&x.shape) || dy != x || **mean != statistics || **inv_std != statistics {
            return Err(ShapeError::new(format!("expects {x} twice and {statistics} twice")));
        }
        Ok(vec![TensorType::f32([channels]); 2])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        5 * signature.inputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let channels = signature.inputs[1].shape.last();
        let rows = signature.inputs[1].elements() / channels;
        rows.div_ceil(rows_of_part(channels)) * 2 * channels
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let channels = args.outputs.ty(0).elements();
        let rows = rows_of_part(channels);
        let (mean, inv_std) = (args.inputs.float(2), args.inputs.float(3));
        let parts =
            args.inputs.float(0).par_chunks(rows * channels).zip(args.inputs.float(1).par_chunks(rows * channels));
        let sums = args.scratch.par_chunks_mut(2 * channels).zip(parts).enumerate();
        sums.for_each(|(part, (sums, (dy, x)))| {
            let (dgamma, dbeta) = sums.split_at_mut(channels);
            let statistics = match self {
                NormSums::OfChannels => 0..channels,
                NormSums::OfRows => part * rows..part * rows + dy.len() / channels,
            };
            cpu::vectorised(
                #[inline(always)]
                || self.add_up(dy, x, &mean[statistics.clone()], &inv_std[statistics.clone()], dgamma, dbeta),
            );
        });
        let (dgamma, dbeta) = (args.outputs.float(0), args.outputs.float(1));
        dgamma.fill(T::ZERO);
        dbeta.fill(T::ZERO);
        for part in args.scratch.chunks_exact(2 * channels) {
            let totals = dgamma.iter_mut().chain(dbeta.iter_mut());
            totals.zip(part).for_each(|(total, sum)| *total += *sum);
        }
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output, Scratch, ScratchRead};
        let channels = signature.outputs[0].elements();
        let grid = Grid::new(signature.inputs[1].elements() / channels, channels);
        let merge = grid.merge();
        let pass = |grid: Grid, feature, bindings| gpu::Pass {
            shader: grid.shader("norm/sums").feature(feature, true),
            bindings,
            workgroups: grid.workgroups(),
        };
        let feature = match self {
            NormSums::OfChannels => "OF_CHANNELS",
            NormSums::OfRows => "OF_ROWS",
        };
        let inputs = |first, second| vec![Input(0), Input(1), first, second, Input(2), Input(3)];
        let name = grid.describe(self.name());
        if grid.splits == 1 {
            return vec![gpu::Candidate::single(name, pass(grid, feature, inputs(Output(0), Output(1))))];
        }
        let merged = vec![ScratchRead(1), ScratchRead(0), Output(0), Output(1)];
        vec![gpu::Candidate {
            name,
            passes: vec![pass(grid, feature, inputs(Scratch(0), Scratch(1))), pass(merge, "MERGE", merged)],
            scratch: vec![grid.partials(); 2],
        }]
    }
}
