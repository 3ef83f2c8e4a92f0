//! Average pooling.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    pool::{Epilogue, Pooling, check_gradient},
    window::WindowOptions,
};
use crate::{
    graph::{Attributes, Backward, DynOp, Example, Graph, GraphError, Op, Reader, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Shape, TensorType, random},
};

/// What of a window that reaches over the edge an average is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The elements that lie in the image.
    Image,
    /// Those and the padding, which is 0.
    Padded,
}

/// Mean over each window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AvgPool2d {
    options: WindowOptions,
    average: Average,
    epilogue: Epilogue,
}

/// Gradient of [`AvgPool2d`], of its output's gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AvgPool2dGrad {
    options: WindowOptions,
    /// Shape of the images.
    images: Shape,
    average: Average,
    epilogue: Epilogue,
}

impl AvgPool2d {
    fn pooling(&self, input: &TensorType) -> Pooling {
        Pooling::new(&self.options, input).expect("the shape rule accepted the input")
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &str {
        "avg_pool2d"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("avg_pool2d", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input, ..] = inputs else { return Err(ShapeError::new("expects one input")) };
        let output = Pooling::new(&self.options, input)?.output();
        self.epilogue.check(inputs, 1, &output)?;
        Ok(vec![TensorType { dtype: input.dtype, shape: output }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.epilogue != Epilogue::default() {
            return Err(backward.not_differentiable(self.name()));
        }
        let (dy, images) = (backward.grad(), backward.input_shape(0));
        let Self { options, average, .. } = *self;
        let op = AvgPool2dGrad { options, images, average, epilogue: Epilogue::default() };
        Ok(vec![Some(backward.graph.apply1(op, &[dy])?)])
    }

    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        let Reader::Pointwise(epilogue) = reader else { return None };
        Some(Arc::new(Self { epilogue: self.epilogue.with(epilogue)?, ..self.clone() }))
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let taps = self.pooling(&signature.inputs[0]).taps() as u64;
        (taps + self.epilogue.operations()) * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let pooling = self.pooling(args.inputs.ty(0));
        let input = args.inputs.float(0);
        let row = pooling.width.output * pooling.channels;
        self.epilogue.for_rows(&mut args, 1, row, |at, output| {
            cpu::vectorised(
                #[inline(always)]
                || row_of_means(&pooling, self.average, at, input, output),
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let pooling = self.pooling(&signature.inputs[0]);
        candidates("pool/average", &pooling, self.average, &self.epilogue, signature)
    }
}

impl AvgPool2dGrad {
    fn windows(&self) -> Result<Pooling, ShapeError> {
        Pooling::new(&self.options, &TensorType::f32(&self.images))
    }

    fn pooling(&self) -> Pooling {
        self.windows().expect("the shape rule accepted the images")
    }
}

impl Op for AvgPool2dGrad {
    fn name(&self) -> &str {
        "avg_pool2d_grad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("avg_pool2d_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let pooling = self.windows()?;
        self.epilogue.check(inputs, 1, &pooling.input())?;
        check_gradient(inputs[0], &pooling.output())?;
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
        let dy = args.inputs.float(0);
        let row = pooling.width.input * pooling.channels;
        self.epilogue.for_rows(&mut args, 1, row, |at, dx| {
            cpu::vectorised(
                #[inline(always)]
                || row_of_gradient(pooling, self.average, at, dy, dx),
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        candidates("pool/average_gradient", &self.pooling(), self.average, &self.epilogue, signature)
    }
}

fn candidates(
    path: &'static str,
    pooling: &Pooling,
    average: Average,
    epilogue: &Epilogue,
    signature: &Signature,
) -> Vec<gpu::Candidate> {
    epilogue.candidates("avg_pool", path, pooling, 1, signature, |shader| {
        shader
            .constant("PADDED_H", pooling.height.padded)
            .constant("PADDED_W", pooling.width.padded)
            .feature("INCLUDE_PADDING", average == Average::Padded)
    })
}

/// The number of elements that the sum of window `(oh, ow)` is divided by.
#[inline(always)]
fn divisor<T: Real>(pooling: &Pooling, average: Average, oh: usize, ow: usize) -> T {
    let Pooling { height, width, .. } = pooling;
    let taps = if average == Average::Padded {
        height.padded_taps_of(oh) * width.padded_taps_of(ow)
    } else {
        height.taps_of(oh).len() * width.taps_of(ow).len()
    };
    T::from_usize(taps.max(1))
}

#[inline(always)]
fn row_of_means<T: Real>(pooling: &Pooling, average: Average, row: usize, input: &[T], output: &mut [T]) {
    let oh = row % pooling.height.output;
    for (ow, sum) in output.chunks_exact_mut(pooling.channels).enumerate() {
        sum.fill(T::ZERO);
        pooling.for_taps(row, ow, input, |_, values| {
            for (sum, &value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        });
        let divisor = divisor::<T>(pooling, average, oh, ow);
        sum.iter_mut().for_each(|sum| *sum /= divisor);
    }
}

#[inline(always)]
fn row_of_gradient<T: Real>(pooling: &Pooling, average: Average, row: usize, dy: &[T], dx: &mut [T]) {
    let Pooling { channels, height, width, .. } = pooling;
    let (n, h) = (row / height.input, row % height.input);
    dx.fill(T::ZERO);
    for (oh, _) in height.windows_at(h) {
        for (w, dx) in dx.chunks_exact_mut(*channels).enumerate() {
            for (ow, _) in width.windows_at(w) {
                let at = ((n * height.output + oh) * width.output + ow) * channels;
                let divisor = divisor::<T>(pooling, average, oh, ow);
                for (dx, &dy) in dx.iter_mut().zip(&dy[at..at + channels]) {
                    *dx += dy / divisor;
                }
            }
        }
    }
}

impl Graph {
    /// Mean over each window of images `[batch, height, width, channels]`. Padding counts as zeros or not at all, as
    /// `average` says; what a window of ceil mode reaches beyond the padding never counts.
    ///
    /// # Errors
    /// If the input is not a batch of f32 or f16 images or the window does not fit.
    pub fn avg_pool2d(
        &mut self,
        images: Value,
        options: &WindowOptions,
        average: Average,
    ) -> Result<Value, GraphError> {
        let op = AvgPool2d { options: *options, average, epilogue: Epilogue::default() };
        self.apply1(op, &[images])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (shape, options) in super::pool::examples() {
        for average in [Average::Image, Average::Padded] {
            examples.push(Example::new([random(shape, 2)], move |graph, x| graph.avg_pool2d(x[0], &options, average)));
        }
        // What follows is fused.
        let fused = Example::new([random(shape, 1), random([shape[3]], 3)], move |graph, x| {
            let y = graph.tanh(x[0])?;
            let y = graph.avg_pool2d(y, &options, Average::Padded)?;
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
                tests::{matches_pytorch, window_of},
            },
        },
        tensor::Tensor,
    };

    #[test]
    fn values_are_those_of_pytorch() {
        for case in check::reference("avg_pool") {
            let average = match case.parameters["count_include_pad"].as_bool().unwrap() {
                true => Average::Padded,
                false => Average::Image,
            };
            matches_pytorch(&case, |graph, x| graph.avg_pool2d(x[0], &window_of(&case), average));
        }
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn padding_counts_where_it_is_included_and_the_overhang_of_ceil_never_does() {
        // Padded to 4 along each axis, windows of 3 at 0 and, by ceil, at 2: the second sees 2 of the padded image.
        let options =
            WindowOptions { ceil: true, ..options(3, 2, Padding::Explicit { top: 1, bottom: 0, left: 1, right: 0 }) };
        let ones = Tensor::f32([1, 3, 3, 1], vec![1.0; 9]);
        let mean = |average| {
            let y = check::evaluate(std::slice::from_ref(&ones), |graph, x| graph.avg_pool2d(x[0], &options, average));
            y.as_f32().unwrap().to_vec()
        };
        assert_eq!(mean(Average::Image), [1.0; 4]);
        assert_eq!(mean(Average::Padded), [4.0 / 9.0, 6.0 / 9.0, 6.0 / 9.0, 1.0]);
    }
}
