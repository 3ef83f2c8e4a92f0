//! What max and average pooling share: the geometry of a window that slides over a batch of images, and the epilogue.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::window::{Padding, Window, Window1d, WindowOptions};
use crate::{
    graph::ShapeError,
    kernel::{Evaluator, Expr, Signature, cpu, fused_module, gpu, vector_width},
    tensor::{DType, Real, Shape, TensorType},
};

/// The gradient of the output of a pooling, as its own output's shape and the input's type of floats must be.
pub(super) fn check_gradient(dy: &TensorType, output: &Shape) -> Result<(), ShapeError> {
    if !dy.dtype.is_float() || dy.shape != *output {
        return Err(ShapeError::new(format!("expects a gradient {output} of f32 or f16, not {dy}")));
    }
    Ok(())
}

/// That `images` are what every pooling takes.
pub(super) fn check_images(images: &TensorType) -> Result<(), ShapeError> {
    if !images.dtype.is_float() || images.shape.rank() != 4 || images.elements() == 0 {
        return Err(ShapeError::new(format!(
            "expects images [batch, height, width, channels] of f32 or f16, not {images}"
        )));
    }
    Ok(())
}

/// Windows over images `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pooling {
    pub batch: usize,
    pub channels: usize,
    pub height: Along,
    pub width: Along,
}

/// Windows along one dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Along {
    window: Window1d,
    /// Extent of the image with its padding at both ends.
    pub padded: usize,
}

impl std::ops::Deref for Along {
    type Target = Window1d;
    fn deref(&self) -> &Window1d {
        &self.window
    }
}

impl Along {
    fn new(window: Window1d, after: Option<usize>) -> Self {
        let reach = (window.output - 1) * window.stride + (window.kernel - 1) * window.dilation + 1;
        let padded = match after {
            Some(after) => window.before + window.input + after,
            // "Same" padding ends where the last window does.
            None => reach.max(window.before + window.input),
        };
        Self { window, padded }
    }

    /// Taps of window `at` that lie in the image.
    pub fn taps_of(&self, at: usize) -> Range<usize> {
        let start = at * self.stride;
        let begin = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.before + self.input).saturating_sub(start).div_ceil(self.dilation);
        let end = end.min(self.kernel);
        if begin < end { begin..end } else { 0..0 }
    }

    /// Taps of window `at` that lie in the padded image.
    pub fn padded_taps_of(&self, at: usize) -> usize {
        self.padded.saturating_sub(at * self.stride).div_ceil(self.dilation).min(self.kernel)
    }

    /// Position in the image of `tap` of window `at`; the tap must be one of [`Along::taps_of`].
    pub fn position(&self, at: usize, tap: usize) -> usize {
        at * self.stride + tap * self.dilation - self.before
    }

    /// The windows with a tap at `position` of the image, in order, each with the number of that tap.
    pub fn windows_at(&self, position: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Window1d { kernel, stride, dilation, output, .. } = self.window;
        let padded = position + self.before;
        let span = (kernel - 1) * dilation + 1;
        let begin = (padded + 1).saturating_sub(span).div_ceil(stride);
        let end = (padded / stride + 1).min(output);
        (begin..end).filter_map(move |at| {
            let distance = padded - at * stride;
            distance.is_multiple_of(dilation).then_some((at, distance / dilation))
        })
    }
}

impl Pooling {
    /// The windows of `options` over images of type `input`.
    pub fn new(options: &WindowOptions, input: &TensorType) -> Result<Self, ShapeError> {
        check_images(input)?;
        let [batch, rows, columns, channels] = [0, 1, 2, 3].map(|axis| input.shape[axis]);
        let Window { height, width } = options.over(rows, columns)?;
        let (bottom, right) = match options.padding {
            Padding::Valid => (Some(0), Some(0)),
            Padding::Same => (None, None),
            Padding::Explicit { bottom, right, .. } => (Some(bottom), Some(right)),
        };
        Ok(Self { batch, channels, height: Along::new(height, bottom), width: Along::new(width, right) })
    }

    /// Shape of the images.
    pub fn input(&self) -> Shape {
        [self.batch, self.height.input, self.width.input, self.channels].into()
    }

    /// Shape of one value for each window.
    pub fn output(&self) -> Shape {
        [self.batch, self.height.output, self.width.output, self.channels].into()
    }

    /// Taps of one window.
    pub fn taps(&self) -> usize {
        self.height.kernel * self.width.kernel
    }

    /// Calls `body` with number and channels of each tap of the window `(row, column)` that lies in the image; `row` counts
    /// through the batch.
    #[inline(always)]
    pub fn for_taps<T>(&self, row: usize, column: usize, input: &[T], mut body: impl FnMut(usize, &[T])) {
        let Pooling { channels, height, width, .. } = self;
        let (n, oh) = (row / height.output, row % height.output);
        let columns = width.taps_of(column);
        for kh in height.taps_of(oh) {
            let line = n * height.input + height.position(oh, kh);
            for kw in columns.clone() {
                let at = (line * width.input + width.position(column, kw)) * channels;
                body(kh * width.kernel + kw, &input[at..at + channels]);
            }
        }
    }

    /// Channels that one invocation computes at once.
    pub fn vector_width(&self) -> usize {
        if self.channels.is_multiple_of(4) { 4 } else { 1 }
    }

    /// The shader in `path` with this geometry, channels counted in vectors, for these types.
    pub fn shader(&self, path: &'static str, signature: &Signature, vector: usize) -> gpu::Shader {
        gpu::Shader::file(path)
            .feature("VECTOR", vector == 4)
            .feature("F16", signature.inputs[0].dtype == DType::F16)
            .constant("COUNT", signature.outputs[0].elements() / vector)
            .constant("HEIGHT", self.height.input)
            .constant("WIDTH", self.width.input)
            .constant("CHANNELS", self.channels / vector)
            .constant("OUT_HEIGHT", self.height.output)
            .constant("OUT_WIDTH", self.width.output)
            .constant("KERNEL_H", self.height.kernel)
            .constant("KERNEL_W", self.width.kernel)
            .constant("STRIDE_H", self.height.stride)
            .constant("STRIDE_W", self.width.stride)
            .constant("DILATION_H", self.height.dilation)
            .constant("DILATION_W", self.width.dilation)
            .constant("BEFORE_H", self.height.before)
            .constant("BEFORE_W", self.width.before)
    }
}

/// What is applied to each element of a pooling's only output before it is stored: `Input(0)` is the element, `Input(n)`
/// that of an input `n` after the pooling's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Epilogue(Option<Expr>);

impl Epilogue {
    /// With `expr`, where there is nothing yet: an operation takes one epilogue.
    pub fn with(&self, expr: &Expr) -> Option<Self> {
        self.0.is_none().then(|| Self(Some(expr.clone())))
    }

    /// That the inputs of an operation after its own `own` can be read along `output`.
    pub fn check(&self, inputs: &[&TensorType], own: usize, output: &Shape) -> Result<(), ShapeError> {
        let expected = if self.0.is_some() { "at least" } else { "exactly" };
        if inputs.len() < own || (self.0.is_none() && inputs.len() > own) {
            return Err(ShapeError::new(format!("expects {expected} {own} inputs, got {}", inputs.len())));
        }
        if self.0.as_ref().is_some_and(|expr| expr.inputs() > 1 + inputs.len() - own) {
            return Err(ShapeError::new("the epilogue reads more inputs than there are"));
        }
        match inputs[own..].iter().find(|input| input.shape.broadcast(output).as_ref() != Some(output)) {
            Some(input) => Err(ShapeError::new(format!("{input} does not broadcast to the output {output}"))),
            None => Ok(()),
        }
    }

    /// Operations of each element.
    pub fn operations(&self) -> u64 {
        self.0.as_ref().map_or(0, Expr::operations)
    }

    /// Computes the only output of a CPU kernel, `row` elements a call of `body`, which gets the row's number.
    pub fn for_rows<T: Real>(
        &self,
        args: &mut cpu::Args<'_, T>,
        own: usize,
        row: usize,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let shape = &args.outputs.ty(0).shape;
        let extra = own..args.inputs.len();
        let shapes: Vec<&Shape> =
            std::iter::once(shape).chain(extra.clone().map(|n| &args.inputs.ty(n).shape)).collect();
        let values: Vec<Option<&[T]>> =
            std::iter::once(None).chain(extra.map(|n| Some(args.inputs.float(n)))).collect();
        let evaluator = self.0.as_ref().map(|expr| Evaluator::new(expr, &shapes, shape));
        args.outputs.float(0).par_chunks_mut(row).enumerate().for_each(|(at, output)| {
            body(at, output);
            if let Some(evaluator) = &evaluator {
                evaluator.run(&values, output, at * row);
            }
        });
    }

    /// The GPU kernel `name` with the shader in `path`, which binds the pooling's own inputs, the output, and what the
    /// epilogue reads. `specialise` adds what else the shader wants.
    pub fn candidates(
        &self,
        name: &str,
        path: &'static str,
        pooling: &Pooling,
        own: usize,
        signature: &Signature,
        specialise: impl Fn(gpu::Shader) -> gpu::Shader,
    ) -> Vec<gpu::Candidate> {
        let output = &signature.outputs[0];
        let expr = self.0.clone().unwrap_or(Expr::Input(0));
        let types: Vec<&TensorType> = std::iter::once(output).chain(&signature.inputs[own..]).collect();
        let vector = pooling.vector_width().min(vector_width(&types, output));
        let (module, read) = fused_module(&expr, &types, output, vector, own + 1, true);
        let bindings = (0..own)
            .map(gpu::Binding::Input)
            .chain([gpu::Binding::Output(0)])
            .chain(read.into_iter().map(|n| gpu::Binding::Input(own + n - 1)));
        let pass = gpu::Pass {
            shader: specialise(pooling.shader(path, signature, vector)).fused(module),
            bindings: bindings.collect(),
            workgroups: gpu::linear_workgroups(output.elements() / vector),
        };
        vec![gpu::Candidate::single(format!("{name} x{vector}"), pass)]
    }
}

/// Square windows.
pub(super) fn options(kernel: usize, stride: usize, padding: Padding) -> WindowOptions {
    WindowOptions { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding, ceil: false }
}

/// Images and windows over them that meet the edges: channels that do and do not fill vectors, windows that overlap
/// and that leave gaps, padding, the last partial window, images of one pixel.
pub(super) fn examples() -> Vec<([usize; 4], WindowOptions)> {
    let uneven = Padding::Explicit { top: 0, bottom: 2, left: 1, right: 0 };
    vec![
        ([2, 6, 8, 4], options(2, 2, Padding::Valid)),
        ([2, 7, 5, 3], options(3, 2, Padding::Same)),
        ([1, 6, 6, 5], options(3, 1, Padding::all(1))),
        ([1, 9, 9, 8], WindowOptions { dilation: [2, 3], ..options(3, 2, Padding::all(1)) }),
        ([2, 8, 7, 1], WindowOptions { ceil: true, ..options(3, 2, Padding::Valid) }),
        ([1, 8, 8, 7], WindowOptions { ceil: true, ..options(3, 3, Padding::all(1)) }),
        ([1, 7, 10, 4], options(2, 3, Padding::Valid)),
        ([1, 5, 6, 4], WindowOptions { kernel: [3, 2], stride: [1, 2], ..options(1, 1, uneven) }),
        ([3, 1, 1, 7], options(1, 1, Padding::Valid)),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        check,
        gpu::{self, Checks},
        graph::{Graph, GraphError, Source, Value},
        kernel::Signature,
        tensor::Tensor,
    };

    /// The window of a case of PyTorch's values.
    pub fn window_of(case: &check::Case) -> WindowOptions {
        let numbers = |name: &str| -> Vec<usize> { serde_json::from_value(case.parameters[name].clone()).unwrap() };
        let (kernel, stride, padding) = (numbers("kernel"), numbers("stride"), numbers("padding"));
        WindowOptions {
            kernel: [kernel[0], kernel[1]],
            stride: [stride[0], stride[1]],
            dilation: [1; 2],
            padding: Padding::Explicit { top: padding[0], bottom: padding[1], left: padding[2], right: padding[3] },
            ceil: case.parameters["ceil"].as_bool().unwrap(),
        }
    }

    /// Compares `build` of a case's `x` with PyTorch's `y`, and its gradient with PyTorch's `dx`.
    pub fn matches_pytorch(case: &check::Case, build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) {
        let y = check::evaluate(&[case.tensor("x")], &build);
        let dx = check::gradients_for(&[case.tensor("x")], &case.tensor("dy"), &[0], build).remove(0);
        for (name, got) in [("y", y), ("dx", dx)] {
            let want = case.tensor(name);
            assert_eq!(got.shape(), want.shape(), "{} of {}", name, case.name);
            let error = check::relative_error(got.as_f32().unwrap(), want.as_f32().unwrap());
            assert!(error < 1e-6, "{name} of {}: off by {error:.2e}", case.name);
        }
    }

    /// Outputs of the only operation of `build` by each of its GPU kernels, with and without checks.
    pub fn on_gpu(
        inputs: &[Tensor],
        build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>,
    ) -> Vec<Vec<Tensor>> {
        let Some(gpu) = check::software_gpu() else { return Vec::new() };
        let mut graph = Graph::new();
        let values: Vec<Value> = inputs.iter().map(|tensor| graph.constant(tensor.clone())).collect();
        let result = build(&mut graph, &values).unwrap();
        let node = graph.node(result);
        let Source::Op(op) = &node.source else { panic!("an operation") };
        let signature = Signature { inputs: inputs.iter().map(Tensor::ty).collect(), outputs: node.types.clone() };
        let candidates = op.gpu(&signature, gpu.limits());
        let run = |candidate, checks| gpu::run_candidate(&gpu, candidate, &signature, inputs, op.in_place(), checks);
        candidates.iter().flat_map(|c| [Checks::On, Checks::Off].map(|checks| run(c, checks).unwrap())).collect()
    }

    #[test]
    fn a_window_that_lies_in_the_padding_has_no_taps() {
        let Pooling { height, .. } =
            Pooling::new(&options(2, 2, Padding::all(3)), &TensorType::f32([1, 3, 3, 1])).unwrap();
        assert_eq!((0..height.output).map(|at| height.taps_of(at)).collect::<Vec<_>>(), [0..0, 1..2, 0..2, 0..0]);
        assert_eq!(height.windows_at(0).collect::<Vec<_>>(), [(1, 1)]);
    }
}
