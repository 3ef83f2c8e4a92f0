//! The CPU kernels.

mod correlate;
mod depthwise;
mod grad_weight;
mod spread;
mod strip;
mod winograd;

use self::{correlate::Correlation, grad_weight::GradWeight};
use super::geometry::Geometry;
use crate::{
    kernel::{Evaluator, Expr, cpu::Args},
    tensor::{Real, Shape},
};

pub(super) fn forward_scratch(geometry: &Geometry) -> usize {
    Correlation::forward(geometry).scratch()
}

pub(super) fn forward<T: Real>(geometry: &Geometry, epilogue: Option<&Expr>, args: Args<'_, T>) {
    packing(&Correlation::forward(geometry), epilogue, args);
}

/// Elements of the packed weight of a forward pass; `None` where it is read as it is.
pub(super) fn packed_elements(geometry: &Geometry) -> Option<usize> {
    Correlation::forward(geometry).packed_elements()
}

pub(super) fn pack_weight<T: Real>(geometry: &Geometry, weight: &[T], packed: &mut [T]) {
    Correlation::forward(geometry).pack_once(weight, packed);
}

pub(super) fn packed_scratch(geometry: &Geometry) -> usize {
    Correlation::forward(geometry).packed_scratch()
}

/// [`forward`] of a weight that [`pack_weight`] has packed.
pub(super) fn forward_packed<T: Real>(geometry: &Geometry, epilogue: Option<&Expr>, args: Args<'_, T>) {
    let correlation = Correlation::forward(geometry);
    correlate(epilogue, args, |source, weight, target, scratch, finish| {
        correlation.run_packed(source, weight, target, scratch, finish);
    });
}

pub(super) fn grad_input_scratch(geometry: &Geometry) -> usize {
    Correlation::backward(geometry).scratch()
}

pub(super) fn grad_input<T: Real>(geometry: &Geometry, epilogue: Option<&Expr>, args: Args<'_, T>) {
    packing(&Correlation::backward(geometry), epilogue, args);
}

/// The correlation of the first two inputs, whose weight is packed in this run.
fn packing<T: Real>(correlation: &Correlation, epilogue: Option<&Expr>, args: Args<'_, T>) {
    correlate(epilogue, args, |source, weight, target, scratch, finish| {
        correlation.run(source, weight, target, scratch, finish);
    });
}

/// Called with each finished strip of a target and its first element.
type Finish<'a, T> = &'a (dyn Fn(&mut [T], usize) + Sync);

/// What `run` makes of the first two inputs, and the epilogue of each strip of it.
fn correlate<T: Real>(
    epilogue: Option<&Expr>,
    mut args: Args<'_, T>,
    run: impl FnOnce(&[T], &[T], &mut [T], &mut [T], Finish<'_, T>),
) {
    let output = &args.outputs.ty(0).shape;
    let extra = 2..args.inputs.len();
    let shapes: Vec<&Shape> = std::iter::once(output).chain(extra.clone().map(|n| &args.inputs.ty(n).shape)).collect();
    let evaluator = epilogue.map(|expr| Evaluator::new(expr, &shapes, output));
    let values: Vec<Option<&[T]>> = std::iter::once(None).chain(extra.map(|n| Some(args.inputs.float(n)))).collect();
    let (source, weight, target) = (args.inputs.float(0), args.inputs.float(1), args.outputs.float(0));
    run(source, weight, target, args.scratch, &|strip, first| {
        if let Some(evaluator) = &evaluator {
            evaluator.run(&values, strip, first);
        }
    });
}

pub(super) fn grad_weight_scratch(geometry: &Geometry) -> usize {
    GradWeight::new(geometry).scratch()
}

pub(super) fn grad_weight<T: Real>(geometry: &Geometry, mut args: Args<'_, T>) {
    let (x, dy, dw) = (args.inputs.float(0), args.inputs.float(1), args.outputs.float(0));
    GradWeight::new(geometry).run(x, dy, dw, args.scratch);
}
