//! Statistics of channels, by themselves or by the operation that makes what they are of.

use std::any::Any;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::columns::{Grid, LANES, fold, for_lanes, repeat, rows_of_part};
use crate::{
    graph::{Attributes, DynOp, Op, ShapeError},
    kernel::{
        Signature, cpu,
        gpu::{
            self,
            Binding::{Input, Output, OutputRead, Scratch, ScratchRead},
        },
    },
    tensor::{DType, Real, TensorType},
};

/// Statistics of each channel of `x`, and what follows from them, gamma and beta: `scale = gamma * inv_std`,
/// `shift = beta - mean * scale`, mean, inv_std (`1 / sqrt(variance + epsilon)` of the biased variance), and the unbiased
/// variance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct BatchNormStatistics {
    pub(super) epsilon: f32,
}

/// Rows and channels that statistics are taken of.
#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    channels: usize,
}

/// Where the kernels find what they read and write: x, the first of gamma and beta, and the first of the five outputs.
#[derive(Clone, Copy)]
struct Places {
    x: gpu::Binding,
    parameters: usize,
    outputs: usize,
}

/// Mean and sum of squared deviations of each channel over some rows, in two passes: the first one's mean may be off by
/// rounding, the second one's squares never cancel.
#[inline(always)]
fn moments<T: Real>(rows: &[T], mean: &mut [T], squares: &mut [T]) {
    let channels = mean.len();
    let count = T::from_usize(rows.len() / channels);
    for from in (0..channels).step_by(LANES) {
        let block = from..channels.min(from + LANES);
        let mut sums = [T::ZERO; LANES];
        for_lanes([rows], channels, from, |[row]| sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x));
        let mean = &mut mean[block.clone()];
        fold(&sums, mean);
        mean.iter_mut().for_each(|sum| *sum /= count);
        let means = repeat(mean);
        let mut sums = [T::ZERO; LANES];
        for_lanes([rows], channels, from, |[row]| {
            for ((sum, &x), &mean) in sums.iter_mut().zip(row).zip(&means) {
                *sum += (x - mean) * (x - mean);
            }
        });
        fold(&sums, &mut squares[block]);
    }
}

/// Elements of scratch memory that the CPU kernel wants.
fn scratch(rows: usize, channels: usize) -> usize {
    rows.div_ceil(rows_of_part(channels)) * 2 * channels
}

impl BatchNormStatistics {
    /// `op`, where it is this one.
    pub fn of(op: &dyn DynOp) -> Option<&Self> {
        (op as &dyn Any).downcast_ref()
    }

    /// The CPU kernel, of `x`, gamma and beta, to the five outputs.
    fn compute<T: Real>(&self, x: &[T], [gamma, beta]: [&[T]; 2], outputs: [&mut [T]; 5], scratch: &mut [T]) {
        let [scale, shift, mean, inv_std, variance] = outputs;
        let channels = gamma.len();
        let (rows, part) = (x.len() / channels, rows_of_part(channels));
        scratch.par_chunks_mut(2 * channels).zip(x.par_chunks(part * channels)).for_each(|(moment, rows)| {
            let (mean, squares) = moment.split_at_mut(channels);
            cpu::vectorised(
                #[inline(always)]
                || moments(rows, mean, squares),
            );
        });
        // The parts one after the other, as shaders/norm/statistics.wgsl merges pairs.
        mean.fill(T::ZERO);
        variance.fill(T::ZERO);
        for (at, moment) in scratch.chunks_exact(2 * channels).enumerate() {
            let before = at * part;
            let count = part.min(rows - before);
            let share = T::from_f64(count as f64 / (before + count) as f64);
            let weight = T::from_usize(before) * share;
            let (means, squares) = moment.split_at(channels);
            let totals = mean.iter_mut().zip(variance.iter_mut());
            for ((mean, total), (&part_mean, &part_squares)) in totals.zip(means.iter().zip(squares)) {
                let delta = part_mean - *mean;
                *mean += delta * share;
                *total += part_squares + delta * delta * weight;
            }
        }
        let (biased, unbiased) = (T::from_usize(rows), T::from_usize(rows - 1));
        for (c, squares) in variance.iter_mut().enumerate() {
            inv_std[c] = T::ONE / (*squares / biased + T::from_f32(self.epsilon)).sqrt();
            *squares /= unbiased;
            scale[c] = gamma[c] * inv_std[c];
            shift[c] = beta[c] - mean[c] * scale[c];
        }
    }

    fn pass(
        &self,
        grid: Grid,
        part: usize,
        rows: usize,
        finish: bool,
        bindings: Vec<gpu::Binding>,
        limits: &gpu::Limits,
    ) -> gpu::Pass {
        gpu::Pass {
            shader: grid
                .shader("norm/statistics")
                .feature("SUBGROUPS", limits.subgroup.is_some())
                .feature("MERGE", part > 1)
                .feature("FINISH", finish)
                .constant("PART", part)
                .constant("TOTAL", rows)
                .constant("EPSILON", self.epsilon),
            bindings,
            workgroups: grid.workgroups(),
        }
    }

    /// The pass that makes the outputs of `x`: where `part` is not 1, that holds the moments of parts of so many rows.
    fn finish(&self, grid: Grid, part: usize, rows: usize, places: Places, limits: &gpu::Limits) -> gpu::Pass {
        let Places { x, parameters, outputs } = places;
        let parameters = [Input(parameters), Input(parameters + 1)];
        let bindings = [x].into_iter().chain(parameters).chain((outputs..outputs + 5).map(Output)).collect();
        self.pass(grid, part, rows, true, bindings, limits)
    }

    fn candidate(&self, Rows { rows, channels }: Rows, places: Places, limits: &gpu::Limits) -> gpu::Candidate {
        let grid = Grid::new(rows, channels);
        let name = grid.describe(self.name());
        if grid.splits == 1 {
            return gpu::Candidate::single(name, self.finish(grid, 1, rows, places, limits));
        }
        let parts = self.pass(grid, 1, rows, false, vec![places.x, Scratch(0)], limits);
        let places = Places { x: ScratchRead(0), ..places };
        let finish = self.finish(grid.merge(), grid.chunk, rows, places, limits);
        gpu::Candidate { name, passes: vec![parts, finish], scratch: vec![2 * grid.partials()] }
    }
}

impl Op for BatchNormStatistics {
    fn name(&self) -> &str {
        "batch_norm_statistics"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("batch_norm_statistics", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, parameters @ ..] = inputs else { return Err(ShapeError::new("expects the input")) };
        let channels = x.shape.last();
        if x.dtype != DType::F32 || x.shape.rank() == 0 || x.elements() < 2 * channels || channels == 0 {
            return Err(ShapeError::new(format!(
                "expects f32 with at least two values of each channel to take a variance of, not {x}: give larger \
                 batches or larger images"
            )));
        }
        let channels = TensorType::f32([channels]);
        if parameters.len() != 2 || parameters.iter().any(|ty| **ty != channels) {
            return Err(ShapeError::new(format!("gamma and beta of {x} must be {channels}")));
        }
        Ok(vec![channels; 5])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        4 * signature.inputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let channels = signature.outputs[0].elements();
        scratch(signature.inputs[0].elements() / channels, channels)
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let parameters = [1, 2].map(|n| args.inputs.float(n));
        let outputs = [0, 1, 2, 3, 4].map(|n| args.outputs.float(n));
        self.compute(args.inputs.float(0), parameters, outputs, args.scratch);
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let channels = signature.outputs[0].elements();
        let rows = signature.inputs[0].elements() / channels;
        vec![self.candidate(Rows { rows, channels }, Places { x: Input(0), parameters: 1, outputs: 0 }, limits)]
    }
}

/// Where a kernel has left the moments of parts of its output's rows, as `shaders/norm/statistics.wgsl` merges them:
/// `[parts, channels, 2]`, mean and sum of squared deviations.
pub(in crate::ops) struct Moments {
    /// Scratch buffer of the kernel.
    pub scratch: usize,
    /// Rows of each part but the last, at least two.
    pub part: usize,
}

/// An operation whose GPU kernels can leave the moments of what they make beside it.
pub(in crate::ops) trait Measured: Op {
    /// The operation's kernels, best guess first, with the moments that they leave.
    fn gpu_measured(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<(gpu::Candidate, Option<Moments>)>;
}

/// An operation of one output and the [`BatchNormStatistics`] of that. Inputs: the operation's, gamma and beta. Outputs: the
/// operation's, then the statistics'.
#[derive(Debug)]
pub(in crate::ops) struct WithStatistics<P> {
    name: String,
    producer: P,
    statistics: BatchNormStatistics,
}

impl<P: Measured> WithStatistics<P> {
    pub fn new(producer: P, statistics: BatchNormStatistics) -> Self {
        Self { name: format!("{}+{}", producer.name(), statistics.name()), producer, statistics }
    }

    /// The types of the operation alone, and of the statistics alone.
    fn parts(signature: &Signature) -> [Signature; 2] {
        let (inputs, parameters) = signature.inputs.split_at(signature.inputs.len() - 2);
        let (made, outputs) = signature.outputs.split_at(1);
        let measured = made.iter().chain(parameters).cloned().collect();
        [
            Signature { inputs: inputs.to_vec(), outputs: made.to_vec() },
            Signature { inputs: measured, outputs: outputs.to_vec() },
        ]
    }
}

impl<P: Measured> Op for WithStatistics<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn attributes(&self) -> Attributes {
        let [mut attributes, statistics] = [self.producer.attributes(), self.statistics.attributes()];
        attributes.kind = self.name.clone();
        attributes.settings.extend(statistics.settings);
        attributes
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let Some(own) = inputs.len().checked_sub(2) else { return Err(ShapeError::new("expects gamma and beta")) };
        let made = self.producer.infer(&inputs[..own])?;
        let statistics = self.statistics.infer(&[&made[0], inputs[own], inputs[own + 1]])?;
        Ok(made.into_iter().chain(statistics).collect())
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let [producer, statistics] = Self::parts(signature);
        self.producer.flop(&producer) + self.statistics.flop(&statistics)
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let [producer, statistics] = Self::parts(signature);
        self.producer.cpu_scratch(&producer) + self.statistics.cpu_scratch(&statistics)
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let inputs = args.inputs.len() - 2;
        let parameters = [inputs, inputs + 1].map(|n| args.inputs.float(n));
        let channels = parameters[0].len();
        let rows = args.outputs.ty(0).elements() / channels;
        let own = args.scratch.len() - scratch(rows, channels);
        self.producer.cpu(args.first(inputs, 1, own));
        let y = args.outputs.float(0);
        let outputs = [1, 2, 3, 4, 5].map(|n| args.outputs.float(n));
        self.statistics.compute(y, parameters, outputs, &mut args.scratch[own..]);
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let [producer, _] = Self::parts(signature);
        let channels = signature.outputs[1].elements();
        let rows = signature.outputs[0].elements() / channels;
        let places = Places { x: OutputRead(0), parameters: producer.inputs.len(), outputs: 1 };
        let finished = |(candidate, moments): (gpu::Candidate, Option<Moments>)| {
            let gpu::Candidate { name, mut passes, mut scratch } = candidate;
            match moments {
                Some(Moments { scratch: at, part }) => {
                    let grid = Grid::whole(rows.div_ceil(part), channels);
                    let places = Places { x: ScratchRead(at), ..places };
                    passes.push(self.statistics.finish(grid, part, rows, places, limits));
                    gpu::Candidate { name: format!("{name} moments"), passes, scratch }
                }
                None => {
                    let after = self.statistics.candidate(Rows { rows, channels }, places, limits);
                    let shift = scratch.len();
                    passes.extend(after.passes.into_iter().map(|pass| pass.with_scratch_after(shift)));
                    scratch.extend(after.scratch);
                    gpu::Candidate { name, passes, scratch }
                }
            }
        };
        self.producer.gpu_measured(&producer, limits).into_iter().map(finished).collect()
    }
}
