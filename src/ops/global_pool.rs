//! Pooling over the whole image.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::pool::{check_gradient, check_images};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Shape, Tensor, TensorType, random},
};

/// Maximum of each channel over an image, and the position where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalMaxPool;

/// Gradient of [`GlobalMaxPool`], of its output's gradient and its argmax.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalMaxPoolGrad {
    images: Shape,
}

/// Images as `[batch, positions, channels]`.
fn extents(images: &Shape) -> [usize; 3] {
    [images[0], images[1] * images[2], images[3]]
}

impl Op for GlobalMaxPool {
    fn name(&self) -> &str {
        "global_max_pool"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("global_max_pool", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [images] = inputs else { return Err(ShapeError::new("expects one input")) };
        check_images(images)?;
        let [batch, _, channels] = extents(&images.shape);
        Ok(vec![
            TensorType { dtype: images.dtype, shape: [batch, channels].into() },
            TensorType::u32([batch, channels]),
        ])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let op = GlobalMaxPoolGrad { images: backward.input_shape(0) };
        let inputs = [backward.grad(), backward.outputs[1]];
        Ok(vec![Some(backward.graph.apply1(op, &inputs)?)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let [_, positions, channels] = extents(&args.inputs.ty(0).shape);
        let images = args.inputs.float(0).par_chunks(positions * channels);
        let outputs = args.outputs.float(0).par_chunks_mut(channels).zip(args.outputs.uint(1).par_chunks_mut(channels));
        images.zip(outputs).for_each(|(image, (maxima, argmax))| {
            cpu::vectorised(
                #[inline(always)]
                || {
                    maxima.fill(T::NEG_INFINITY);
                    argmax.fill(0);
                    for (position, values) in image.chunks_exact(channels).enumerate() {
                        for ((best, argmax), &value) in maxima.iter_mut().zip(argmax.iter_mut()).zip(values) {
                            let is_nan = |x: T| x.partial_cmp(&x).is_none();
                            let larger = value > *best || (is_nan(value) && !is_nan(*best));
                            *best = if larger { value } else { *best };
                            *argmax = if larger { position as u32 } else { *argmax };
                        }
                    }
                },
            );
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let [batch, positions, channels] = extents(&signature.inputs[0].shape);
        let columns = channels.next_power_of_two().min(64);
        let pass = gpu::Pass {
            shader: gpu::Shader::file("pool/global_max")
                .feature("F16", signature.inputs[0].dtype == DType::F16)
                .feature("SUBGROUPS", limits.subgroup.is_some())
                .constant("BATCH", batch)
                .constant("POSITIONS", positions)
                .constant("CHANNELS", channels)
                .constant("COLUMNS", columns),
            bindings: vec![Input(0), Output(0), Output(1)],
            workgroups: gpu::spread_workgroups(batch * channels.div_ceil(columns)),
        };
        vec![gpu::Candidate::single("global_max_pool", pass)]
    }
}

impl Op for GlobalMaxPoolGrad {
    fn name(&self) -> &str {
        "global_max_pool_grad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("global_max_pool_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [batch, _, channels] = extents(&self.images);
        let shape = Shape::from([batch, channels]);
        let [dy, argmax] = inputs else { return Err(ShapeError::new("expects two inputs")) };
        check_gradient(dy, &shape)?;
        if **argmax != TensorType::u32(&shape) {
            return Err(ShapeError::new(format!("expects u32{shape} after the gradient, not {argmax}")));
        }
        Ok(vec![TensorType { dtype: dy.dtype, shape: self.images.clone() }])
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let [_, positions, channels] = extents(&self.images);
        let windows = args.inputs.float(0).par_chunks(channels).zip(args.inputs.uint(1).par_chunks(channels));
        let images = args.outputs.float(0).par_chunks_mut(positions * channels);
        images.zip(windows).for_each(|(dx, (dy, argmax))| {
            dx.fill(T::ZERO);
            for (channel, (&dy, &position)) in dy.iter().zip(argmax).enumerate() {
                dx[position as usize * channels + channel] = dy;
            }
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let [_, positions, channels] = extents(&self.images);
        let elements = signature.outputs[0].elements();
        let vector = if channels.is_multiple_of(4) { 4 } else { 1 };
        let pass = gpu::Pass {
            shader: gpu::Shader::file("pool/global_max_gradient")
                .feature("VECTOR", vector == 4)
                .feature("F16", signature.inputs[0].dtype == DType::F16)
                .constant("COUNT", elements / vector)
                .constant("POSITIONS", positions)
                .constant("CHANNELS", channels / vector),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: gpu::linear_workgroups(elements / vector),
        };
        vec![gpu::Candidate::single(format!("global_max_pool_gradient x{vector}"), pass)]
    }
}

impl Graph {
    /// Mean of each channel of images `[batch, height, width, channels]`: `[batch, channels]`.
    ///
    /// # Errors
    /// If the input is not a batch of f32 or f16 images.
    pub fn global_average_pool(&mut self, images: Value) -> Result<Value, GraphError> {
        self.mean(images, &[1, 2])
    }

    /// Maximum of each channel of images `[batch, height, width, channels]`: `[batch, channels]`. The gradient goes to
    /// the first maximum; NaN is the largest value.
    ///
    /// # Errors
    /// If the input is not a batch of f32 or f16 images.
    pub fn global_max_pool(&mut self, images: Value) -> Result<Value, GraphError> {
        Ok(self.apply(GlobalMaxPool, &[images])?[0])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let shapes = [[2, 3, 5, 4], [3, 1, 1, 7], [1, 17, 19, 3], [2, 7, 7, 66]];
    let mut images: Vec<Tensor> = shapes.map(|shape| random(shape, 2)).into();
    let maximum = |images: &Tensor| Example::new([images.clone()], |graph, x| graph.global_max_pool(x[0]));
    let average = |images: &Tensor| Example::new([images.clone()], |graph, x| graph.global_average_pool(x[0]));
    let averages: Vec<Example> = images.iter().map(average).collect();
    images.push(equal_maxima());
    let maxima: Vec<Example> = images.iter().map(maximum).collect();
    let halves: Vec<Example> = maxima.iter().chain(&averages).map(Example::in_f16).collect();
    maxima.into_iter().chain(averages).chain(halves).collect()
}

/// The first of several equal maxima is element 200.
fn equal_maxima() -> Tensor {
    Tensor::f32([1, 300, 1, 1], (0..300).map(|p| if p >= 200 { 1.0 } else { 0.5 }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        ops::pool::tests::{matches_pytorch, on_gpu},
        tensor::Tensor,
    };

    #[test]
    fn values_are_those_of_pytorch() {
        for case in check::reference("global_pool") {
            matches_pytorch(&case, |graph, x| match case.parameters["kind"].as_str() {
                Some("max") => graph.global_max_pool(x[0]),
                _ => graph.global_average_pool(x[0]),
            });
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        // Where maxima are equal there is no gradient to compare with.
        let distinct: Vec<Example> = examples().into_iter().filter(|e| e.inputs != [equal_maxima()]).collect();
        check::gradients_of_examples(&distinct);
    }

    #[test]
    fn the_gradient_of_equal_values_goes_to_the_first() {
        let dy = Tensor::f32([1, 1], vec![3.0]);
        let dx = check::gradients_for(&[equal_maxima()], &dy, &[0], |graph, x| graph.global_max_pool(x[0]));
        let expected: Vec<f32> = (0..300).map(|p| if p == 200 { 3.0 } else { 0.0 }).collect();
        assert_eq!(dx[0].as_f32().unwrap(), expected);
    }

    #[test]
    fn nan_is_the_largest_value() {
        let mut data = vec![1.0; 300];
        data[100] = f32::NAN;
        data[40] = f32::INFINITY;
        let images = Tensor::f32([1, 300, 1, 1], data);
        let pool = |graph: &mut Graph, x: &[Value]| graph.global_max_pool(x[0]);
        assert!(check::evaluate(std::slice::from_ref(&images), pool).as_f32().unwrap()[0].is_nan());
        for outputs in on_gpu(&[images], pool) {
            assert!(outputs[0].as_f32().unwrap()[0].is_nan());
            assert_eq!(outputs[1].as_u32().unwrap(), [100]);
        }
    }
}
