//! Max pooling.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    pool::{Epilogue, Pooling, check_gradient},
    window::WindowOptions,
};
use crate::{
    graph::{Attributes, Backward, DynOp, Example, Graph, GraphError, Op, Reader, ShapeError, Subsumed, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Shape, TensorType, random},
};

/// Whether a maximum's place in its window is kept for the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Argmax {
    /// It is: a byte an output.
    Kept,
    /// It is not: a gradient computes the maxima anew.
    Dropped,
}

/// Maximum over each window; where the argmax is kept also the number of the tap where it is, as the gradient wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxPool2d {
    options: WindowOptions,
    argmax: Argmax,
}

/// Gradient of [`MaxPool2d`], of its output's gradient and its argmax.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxPool2dGrad {
    options: WindowOptions,
    /// Shape of the images.
    images: Shape,
    epilogue: Epilogue,
}

impl MaxPool2d {
    fn keeps_argmax(&self) -> bool {
        self.argmax == Argmax::Kept
    }

    fn pooling(&self, input: &TensorType) -> Pooling {
        Pooling::new(&self.options, input).expect("the shape rule accepted the input")
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &str {
        "max_pool2d"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("max_pool2d", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        let pooling = Pooling::new(&self.options, input)?;
        let mut types = vec![TensorType { dtype: input.dtype, shape: pooling.output() }];
        if self.keeps_argmax() {
            if pooling.taps() > 256 {
                return Err(ShapeError::new(format!(
                    "a window of {} x {} has more than the 256 elements that the gradient can tell apart: use a \
                     smaller window, or global max pooling",
                    pooling.height.kernel, pooling.width.kernel
                )));
            }
            types.push(TensorType::u8(pooling.output()));
        }
        Ok(types)
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let argmax = match backward.outputs {
            [_, argmax] => *argmax,
            _ => backward.graph.apply(Self { argmax: Argmax::Kept, ..self.clone() }, backward.inputs)?[1],
        };
        let (dy, images) = (backward.grad(), backward.input_shape(0));
        let op = MaxPool2dGrad { options: self.options, images, epilogue: Epilogue::default() };
        Ok(vec![Some(backward.graph.apply1(op, &[dy, argmax])?)])
    }

    fn subsumes(&self) -> Vec<Subsumed> {
        let maxima = Self { argmax: Argmax::Dropped, ..self.clone() };
        let maxima = Subsumed { output: 0, op: Arc::new(maxima), inputs: 1 };
        if self.keeps_argmax() { vec![maxima] } else { Vec::new() }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        (signature.outputs[0].elements() * self.pooling(&signature.inputs[0]).taps()) as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let pooling = self.pooling(args.inputs.ty(0));
        let input = args.inputs.float(0);
        let row = pooling.width.output * pooling.channels;
        let outputs = args.outputs.float(0).par_chunks_mut(row).enumerate();
        if self.keeps_argmax() {
            let argmax = args.outputs.byte(1).par_chunks_mut(row);
            outputs.zip(argmax).for_each(|((at, output), argmax)| {
                cpu::vectorised(
                    #[inline(always)]
                    || row_with_argmax(&pooling, at, input, output, argmax),
                );
            });
        } else {
            outputs.for_each(|(at, output)| {
                cpu::vectorised(
                    #[inline(always)]
                    || row_of_maxima(&pooling, at, input, output),
                );
            });
        }
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let pooling = self.pooling(&signature.inputs[0]);
        let elements = signature.outputs[0].elements();
        let vector = pooling.vector_width();
        let (mut bindings, mut owned) = (vec![gpu::Binding::Input(0), gpu::Binding::Output(0)], vector);
        if self.keeps_argmax() {
            bindings.push(gpu::Binding::Output(1));
            owned = 4;
        }
        let pass = gpu::Pass {
            shader: pooling.shader("pool/max", signature, vector).feature("ARGMAX", self.keeps_argmax()),
            bindings,
            workgroups: gpu::linear_workgroups(elements.div_ceil(owned)),
        };
        vec![gpu::Candidate::single(format!("max_pool x{vector}"), pass)]
    }
}

impl MaxPool2dGrad {
    fn windows(&self) -> Result<Pooling, ShapeError> {
        Pooling::new(&self.options, &TensorType::f32(&self.images))
    }

    fn pooling(&self) -> Pooling {
        self.windows().expect("the shape rule accepted the images")
    }
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &str {
        "max_pool2d_grad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("max_pool2d_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let pooling = self.windows()?;
        self.epilogue.check(inputs, 2, &pooling.input())?;
        check_gradient(inputs[0], &pooling.output())?;
        let argmax = TensorType::u8(pooling.output());
        if *inputs[1] != argmax {
            return Err(ShapeError::new(format!("expects {argmax} after the gradient, not {}", inputs[1])));
        }
        Ok(vec![TensorType { dtype: inputs[0].dtype, shape: pooling.input() }])
    }

    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        let Reader::Pointwise(epilogue) = reader else { return None };
        Some(Arc::new(Self { epilogue: self.epilogue.with(epilogue)?, ..self.clone() }))
    }

    fn flop(&self, signature: &Signature) -> u64 {
        (1 + self.epilogue.operations()) * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let pooling = &self.pooling();
        let (dy, argmax) = (args.inputs.float(0), args.inputs.byte(1));
        let row = pooling.width.input * pooling.channels;
        self.epilogue.for_rows(&mut args, 2, row, |at, dx| {
            cpu::vectorised(
                #[inline(always)]
                || row_of_gradient(pooling, at, dy, argmax, dx),
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shader = |shader| shader;
        self.epilogue.candidates("max_pool_gradient", "pool/max_gradient", &self.pooling(), 2, signature, shader)
    }
}

#[inline(always)]
fn is_nan<T: Real>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

#[inline(always)]
fn row_of_maxima<T: Real>(pooling: &Pooling, row: usize, input: &[T], output: &mut [T]) {
    for (column, best) in output.chunks_exact_mut(pooling.channels).enumerate() {
        best.fill(T::NEG_INFINITY);
        pooling.for_taps(row, column, input, |_, values| {
            for (best, &value) in best.iter_mut().zip(values) {
                *best = if value > *best || is_nan(value) { value } else { *best };
            }
        });
    }
}

#[inline(always)]
fn row_with_argmax<T: Real>(pooling: &Pooling, row: usize, input: &[T], output: &mut [T], argmax: &mut [u8]) {
    let Pooling { channels, height, width, .. } = pooling;
    let first_row = height.taps_of(row % height.output).start;
    let pixels = output.chunks_exact_mut(*channels).zip(argmax.chunks_exact_mut(*channels));
    for (column, (best, argmax)) in pixels.enumerate() {
        best.fill(T::NEG_INFINITY);
        // A window that sees only negative infinity has its maximum at its first tap in the image.
        argmax.fill((first_row * width.kernel + width.taps_of(column).start) as u8);
        pooling.for_taps(row, column, input, |tap, values| {
            for ((best, argmax), &value) in best.iter_mut().zip(argmax.iter_mut()).zip(values) {
                let larger = value > *best || is_nan(value);
                *best = if larger { value } else { *best };
                *argmax = if larger { tap as u8 } else { *argmax };
            }
        });
    }
}

#[inline(always)]
fn row_of_gradient<T: Real>(pooling: &Pooling, row: usize, dy: &[T], argmax: &[u8], dx: &mut [T]) {
    let Pooling { channels, height, width, .. } = pooling;
    let (n, h) = (row / height.input, row % height.input);
    dx.fill(T::ZERO);
    for (oh, kh) in height.windows_at(h) {
        for (w, dx) in dx.chunks_exact_mut(*channels).enumerate() {
            for (ow, kw) in width.windows_at(w) {
                let at = ((n * height.output + oh) * width.output + ow) * channels;
                let tap = (kh * width.kernel + kw) as u8;
                let window = dy[at..at + channels].iter().zip(&argmax[at..at + channels]);
                for (dx, (&dy, &argmax)) in dx.iter_mut().zip(window) {
                    *dx += if argmax == tap { dy } else { T::ZERO };
                }
            }
        }
    }
}

impl Graph {
    /// Maximum over each window of images `[batch, height, width, channels]`. Padding does not count, NaN is the
    /// largest value. The gradient goes to the first maximum of a window, and `argmax` says whether to remember where
    /// that is, as a graph for training should.
    ///
    /// # Errors
    /// If the input is not a batch of f32 or f16 images, the window does not fit, or it has more than 256 elements and
    /// the argmax is kept.
    pub fn max_pool2d(&mut self, images: Value, options: &WindowOptions, argmax: Argmax) -> Result<Value, GraphError> {
        Ok(self.apply(MaxPool2d { options: *options, argmax }, &[images])?[0])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (shape, options) in super::pool::examples() {
        for argmax in [Argmax::Dropped, Argmax::Kept] {
            let pool = move |graph: &mut Graph, x: &[Value]| graph.max_pool2d(x[0], &options, argmax);
            let example = Example::new([random(shape, 2)], pool);
            examples.extend([example.in_f16(), example]);
        }
        // What follows is fused.
        let fused = Example::new([random(shape, 1), random([shape[3]], 3)], move |graph, x| {
            let y = graph.tanh(x[0])?;
            let y = graph.max_pool2d(y, &options, Argmax::Kept)?;
            graph.multiply(y, x[1])
        });
        examples.extend([fused.in_f16(), fused]);
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        ops::{
            Padding,
            pool::{
                options,
                tests::{matches_pytorch, on_gpu, window_of},
            },
        },
        tensor::Tensor,
    };

    #[test]
    fn values_are_those_of_pytorch() {
        for case in check::reference("max_pool") {
            matches_pytorch(&case, |graph, x| graph.max_pool2d(x[0], &window_of(&case), Argmax::Kept));
        }
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn the_gradient_of_equal_values_goes_to_the_first() {
        let images = Tensor::f32([1, 2, 4, 1], vec![0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 2.0, 2.0]);
        let dy = Tensor::f32([1, 1, 2, 1], vec![5.0, 7.0]);
        let pool =
            |graph: &mut Graph, x: &[Value]| graph.max_pool2d(x[0], &options(2, 2, Padding::Valid), Argmax::Kept);
        let dx = check::gradients_for(&[images], &dy, &[0], pool);
        assert_eq!(dx[0].as_f32().unwrap(), [5.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn nan_is_the_largest_and_padding_the_smallest_value() {
        let (nan, least) = (f32::NAN, f32::NEG_INFINITY);
        // Two channels of 1 x 3 images; windows of 2 x 2 with 3 at each edge, so that the first and the last see nothing.
        for channels in [1, 4] {
            let pixels = [[nan, 1.0], [2.0, least], [3.0, -nan]];
            let data = pixels.iter().flatten().flat_map(|v| vec![*v; channels]).collect();
            let images = Tensor::f32([1, 3, 2, channels], data);
            let pool =
                |graph: &mut Graph, x: &[Value]| graph.max_pool2d(x[0], &options(2, 2, Padding::all(3)), Argmax::Kept);
            let expected = [[least; 4], [least, nan, 1.0, least], [least, 3.0, nan, least], [least; 4]];
            let check = |y: &Tensor| {
                let maxima = y.as_f32().unwrap().chunks(channels);
                for (got, want) in maxima.flatten().zip(expected.iter().flatten().flat_map(|v| vec![v; channels])) {
                    assert!(got == want || (got.is_nan() && want.is_nan()), "{got} {want}");
                }
            };
            check(&check::evaluate(std::slice::from_ref(&images), pool));
            on_gpu(&[images], pool).iter().for_each(|outputs| check(&outputs[0]));
        }
    }

    #[test]
    fn a_window_that_is_too_large_for_its_argmax_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([1, 20, 20, 1]));
        let error = graph.max_pool2d(x, &options(17, 1, Padding::Valid), Argmax::Kept).unwrap_err().to_string();
        assert!(error.contains("256"), "{error}");
        assert!(graph.max_pool2d(x, &options(17, 1, Padding::Valid), Argmax::Dropped).is_ok());
    }
}
