//! Two-dimensional convolution and its gradients.

mod cpu;
mod examples;
mod geometry;
mod gpu;
mod packed;
#[cfg(test)]
mod tests;

pub(super) use examples::examples;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::geometry::Geometry;
use super::{
    batch_norm::{BatchNormStatistics, Measured, Moments, WithStatistics},
    pointwise::common_float,
    window::Padding,
};
use crate::{
    graph::{Attributes, Backward, DynOp, Graph, GraphError, Op, Prepared, Reader, ShapeError, Value},
    kernel::{self, Expr, Signature},
    tensor::{Real, TensorType},
};

/// What a user chooses of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2dOptions {
    /// Distance of neighbouring windows along height and width.
    pub stride: [usize; 2],
    /// What is added at the edges of the image: zeros.
    pub padding: Padding,
    /// Distance of neighbouring taps of a window along height and width.
    pub dilation: [usize; 2],
    /// Number of groups: each takes its equal share of the input channels to its equal share of the output channels.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self { stride: [1, 1], padding: Padding::Valid, dilation: [1, 1], groups: 1 }
    }
}

impl Conv2dOptions {
    /// With `n` windows skipped over at a time, along both height and width.
    pub fn stride(mut self, n: usize) -> Self {
        self.stride = [n, n];
        self
    }

    /// With this padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// With taps `n` pixels apart along both height and width.
    pub fn dilation(mut self, n: usize) -> Self {
        self.dilation = [n, n];
        self
    }

    /// With so many groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

/// `y[b, i, j, o] = sum over ki, kj, c of x[b, i s + ki d - p, j s + kj d - p, c] w[ki, kj, c, o]`, then the epilogue of
/// each element; x is 0 outside of the image. Inputs: x, w and what the epilogue reads besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv2d {
    options: Conv2dOptions,
    /// Applied to each element before it is stored: `Input(0)` is the element, `Input(n)` is input `n + 1`.
    epilogue: Option<Expr>,
}

/// The gradient of a convolution's input. Inputs: the gradient of its output, the weight and what the epilogue reads
/// besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv2dGradInput {
    options: Conv2dOptions,
    /// Height and width of the image.
    extents: [usize; 2],
    /// As [`Conv2d`]'s.
    epilogue: Option<Expr>,
}

/// The gradient of a convolution's weight. Inputs: its input and the gradient of its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv2dGradWeight {
    options: Conv2dOptions,
    /// Height and width of the window.
    kernel: [usize; 2],
}

/// The extents of a value of four dimensions.
fn rank4(name: &str, axes: &str, ty: &TensorType) -> Result<[usize; 4], ShapeError> {
    if !ty.dtype.is_float() {
        return Err(ShapeError::new(format!("{name} must hold f32 or f16, not {}", ty.dtype)));
    }
    ty.shape[..].try_into().map_err(|_| ShapeError::new(format!("{name} must be {axes}, not {}", ty.shape)))
}

fn image(name: &str, ty: &TensorType) -> Result<[usize; 4], ShapeError> {
    rank4(name, "[batch, height, width, channels]", ty)
}

fn filter(ty: &TensorType) -> Result<[usize; 4], ShapeError> {
    rank4("the weight", "[kernel height, kernel width, in_channels / groups, out_channels]", ty)
}

/// That inputs after the first two can be read by an epilogue.
fn check_extra(extra: &[&TensorType], epilogue: Option<&Expr>, output: &TensorType) -> Result<(), ShapeError> {
    if epilogue.is_none() && !extra.is_empty() {
        return Err(ShapeError::new(format!("expects 2 inputs, got {}", 2 + extra.len())));
    }
    if epilogue.is_some_and(|expr| expr.inputs() > 1 + extra.len()) {
        return Err(ShapeError::new("the epilogue reads more inputs than there are"));
    }
    match extra.iter().find(|e| e.shape.broadcast(&output.shape).as_ref() != Some(&output.shape)) {
        Some(other) => Err(ShapeError::new(format!("{other} does not broadcast to the output {}", output.shape))),
        None => Ok(()),
    }
}

fn two<'a>(inputs: &[&'a TensorType]) -> Result<[&'a TensorType; 2], ShapeError> {
    inputs.try_into().map_err(|_| ShapeError::new(format!("expects 2 inputs, got {}", inputs.len())))
}

impl Conv2d {
    fn geometry(&self, x: &TensorType, w: &TensorType) -> Result<Geometry, ShapeError> {
        let [batch, height, width, channels] = image("the input", x)?;
        Geometry::new(&self.options, batch, [height, width], channels, filter(w)?)
    }

    fn known(&self, signature: &Signature) -> Geometry {
        self.geometry(&signature.inputs[0], &signature.inputs[1]).expect("the shape rule accepted these types")
    }
}

impl Op for Conv2d {
    fn name(&self) -> &str {
        "conv2d"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("conv2d", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, w, extra @ ..] = inputs else {
            return Err(ShapeError::new(format!("expects an input and a weight, got {} values", inputs.len())));
        };
        let output = self.geometry(x, w)?.output_type().of(common_float(&[x, w])?);
        check_extra(extra, self.epilogue.as_ref(), &output)?;
        Ok(vec![output])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.epilogue.is_some() {
            return Err(backward.not_differentiable(self.name()));
        }
        let (dy, x, w) = (backward.grad(), backward.inputs[0], backward.inputs[1]);
        let (image, window) = (backward.input_shape(0), backward.input_shape(1));
        let dx = Conv2dGradInput { options: self.options, extents: [image[1], image[2]], epilogue: None };
        let dw = Conv2dGradWeight { options: self.options, kernel: [window[0], window[1]] };
        Ok(vec![Some(backward.graph.apply1(dx, &[dy, w])?), Some(backward.graph.apply1(dw, &[x, dy])?)])
    }

    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        if self.epilogue.is_some() {
            return None;
        }
        match reader {
            Reader::Pointwise(epilogue) => Some(Arc::new(Self { epilogue: Some(epilogue.clone()), ..self.clone() })),
            Reader::Op(op) => {
                let statistics = BatchNormStatistics::of(op)?;
                Some(Arc::new(WithStatistics::new(self.clone(), statistics.clone())))
            }
        }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let per_element = self.epilogue.as_ref().map_or(0, Expr::operations);
        self.known(signature).flop() + per_element * signature.outputs[0].elements() as u64
    }

    fn cpu_prepared(&self, inputs: &[&TensorType]) -> Option<Prepared> {
        packed::prepared(self, inputs)
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        cpu::forward_scratch(&self.known(signature))
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        let geometry =
            self.geometry(args.inputs.ty(0), args.inputs.ty(1)).expect("the shape rule accepted these types");
        cpu::forward(&geometry, self.epilogue.as_ref(), args);
    }

    fn gpu(&self, signature: &Signature, limits: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        gpu::forward(&self.known(signature), self.epilogue.as_ref(), signature, limits)
    }
}

impl Measured for Conv2d {
    fn gpu_measured(
        &self,
        signature: &Signature,
        limits: &kernel::gpu::Limits,
    ) -> Vec<(kernel::gpu::Candidate, Option<Moments>)> {
        gpu::forward_measured(&self.known(signature), signature, limits)
    }
}

impl Conv2dGradInput {
    fn geometry(&self, dy: &TensorType, w: &TensorType) -> Result<Geometry, ShapeError> {
        let [batch, ..] = image("the gradient", dy)?;
        let filter = filter(w)?;
        let geometry = Geometry::new(&self.options, batch, self.extents, filter[2] * self.options.groups, filter)?;
        geometry.expect_output(dy)?;
        Ok(geometry)
    }

    fn known(&self, signature: &Signature) -> Geometry {
        self.geometry(&signature.inputs[0], &signature.inputs[1]).expect("the shape rule accepted these types")
    }
}

impl Op for Conv2dGradInput {
    fn name(&self) -> &str {
        "conv2d_grad_input"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("conv2d_grad_input", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [dy, w, extra @ ..] = inputs else {
            return Err(ShapeError::new(format!("expects a gradient and a weight, got {} values", inputs.len())));
        };
        let output = self.geometry(dy, w)?.input_type().of(common_float(&[dy, w])?);
        check_extra(extra, self.epilogue.as_ref(), &output)?;
        Ok(vec![output])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.epilogue.is_some() {
            return Err(backward.not_differentiable(self.name()));
        }
        // dx is linear in dy and in w: the gradients are the two other convolutions.
        let (ddx, dy, w) = (backward.grad(), backward.inputs[0], backward.inputs[1]);
        let window = backward.input_shape(1);
        let dw = Conv2dGradWeight { options: self.options, kernel: [window[0], window[1]] };
        Ok(vec![Some(backward.graph.conv2d(ddx, w, &self.options)?), Some(backward.graph.apply1(dw, &[ddx, dy])?)])
    }

    fn absorb(&self, reader: Reader<'_>) -> Option<Arc<dyn DynOp>> {
        let Reader::Pointwise(epilogue) = reader else { return None };
        let epilogue = Some(epilogue.clone());
        self.epilogue.is_none().then(|| -> Arc<dyn DynOp> { Arc::new(Self { epilogue, ..self.clone() }) })
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let per_element = self.epilogue.as_ref().map_or(0, Expr::operations);
        self.known(signature).flop() + per_element * signature.outputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        cpu::grad_input_scratch(&self.known(signature))
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        let geometry =
            self.geometry(args.inputs.ty(0), args.inputs.ty(1)).expect("the shape rule accepted these types");
        cpu::grad_input(&geometry, self.epilogue.as_ref(), args);
    }

    fn gpu(&self, signature: &Signature, limits: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        gpu::grad_input(&self.known(signature), self.epilogue.as_ref(), signature, limits)
    }
}

impl Conv2dGradWeight {
    fn geometry(&self, x: &TensorType, dy: &TensorType) -> Result<Geometry, ShapeError> {
        let [batch, height, width, channels] = image("the input", x)?;
        let [.., out_channels] = image("the gradient", dy)?;
        let [kh, kw] = self.kernel;
        let filter = [kh, kw, channels / self.options.groups.max(1), out_channels];
        let geometry = Geometry::new(&self.options, batch, [height, width], channels, filter)?;
        geometry.expect_output(dy)?;
        Ok(geometry)
    }

    fn known(&self, signature: &Signature) -> Geometry {
        self.geometry(&signature.inputs[0], &signature.inputs[1]).expect("the shape rule accepted these types")
    }
}

impl Op for Conv2dGradWeight {
    fn name(&self) -> &str {
        "conv2d_grad_weight"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("conv2d_grad_weight", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, dy] = two(inputs)?;
        Ok(vec![self.geometry(x, dy)?.weight_type().of(common_float(&[x, dy])?)])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        // dw is linear in x and in dy: the gradients are the two other convolutions.
        let (ddw, x, dy) = (backward.grad(), backward.inputs[0], backward.inputs[1]);
        let image = backward.input_shape(0);
        let dx = Conv2dGradInput { options: self.options, extents: [image[1], image[2]], epilogue: None };
        Ok(vec![Some(backward.graph.apply1(dx, &[dy, ddw])?), Some(backward.graph.conv2d(x, ddw, &self.options)?)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        self.known(signature).flop()
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        cpu::grad_weight_scratch(&self.known(signature))
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        let geometry =
            self.geometry(args.inputs.ty(0), args.inputs.ty(1)).expect("the shape rule accepted these types");
        cpu::grad_weight(&geometry, args);
    }

    fn gpu(&self, signature: &Signature, limits: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        gpu::grad_weight(&self.known(signature), signature.inputs[0].dtype, limits)
    }
}

impl Graph {
    /// Convolution (in the field's sense: the window is not flipped) of `x` `[batch, height, width, in_channels]` with
    /// `weight` `[kernel height, kernel width, in_channels / groups, out_channels]`; the result is `[batch, output
    /// height, output width, out_channels]`. Both are f32 or both f16, and so is the result; sums are in f32. A bias is
    /// added with [`Graph::add`].
    ///
    /// # Errors
    /// If the channels do not match the weight, the groups do not divide them, or the window does not fit.
    pub fn conv2d(&mut self, x: Value, weight: Value, options: &Conv2dOptions) -> Result<Value, GraphError> {
        self.apply1(Conv2d { options: *options, epilogue: None }, &[x, weight])
    }
}
