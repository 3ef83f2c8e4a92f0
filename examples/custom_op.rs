//! An operation from outside the crate: WGSL, CPU twin and gradient, checked and used in a network.
//!
//!     cargo run --release --example custom_op
//!
//! It scales the channels of each pixel to length 1: `y = x / sqrt(sum over channels of x^2 + EPSILON)`.

use gabor::{
    check,
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    models::Model,
    nn::{Builder, Conv2d, Dense, GlobalAveragePool, Sequential},
    plan::{Plan, PlanOptions, Target},
    tensor::{DType, Real, TensorType},
    train::{Recipe, training_graph},
};
use serde::Serialize;

const EPSILON: f32 = 1e-6;

/// Forward: input x, output y. One invocation owns one pixel.
const FORWARD: &str = "
import package::constants::{PIXELS, CHANNELS, EPSILON};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pixel = linear(id, local, count);
    if pixel >= PIXELS { return; }
    var sum = EPSILON;
    for (var c = 0u; c < CHANNELS; c++) { sum += x[pixel * CHANNELS + c] * x[pixel * CHANNELS + c]; }
    for (var c = 0u; c < CHANNELS; c++) { y[pixel * CHANNELS + c] = x[pixel * CHANNELS + c] / sqrt(sum); }
}
";

/// Gradient: inputs dy and x, output dx = (dy - y * sum over channels of dy * y) / length.
const GRADIENT: &str = "
import package::constants::{PIXELS, CHANNELS, EPSILON};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pixel = linear(id, local, count);
    if pixel >= PIXELS { return; }
    var square = EPSILON;
    var dot = 0.0;
    for (var c = 0u; c < CHANNELS; c++) {
        let i = pixel * CHANNELS + c;
        square += x[i] * x[i];
        dot += dy[i] * x[i];
    }
    for (var c = 0u; c < CHANNELS; c++) {
        let i = pixel * CHANNELS + c;
        dx[i] = (dy[i] - x[i] * dot / square) / sqrt(square);
    }
}
";

/// The operation and its gradient differ in their inputs and in their kernels only.
#[derive(Debug, Serialize)]
struct UnitChannels {
    gradient: bool,
}

impl Op for UnitChannels {
    fn name(&self) -> &str {
        if self.gradient { "unit_channels_grad" } else { "unit_channels" }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("unit_channels", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        match inputs.last() {
            Some(x) if x.dtype == DType::F32 && x.shape.rank() > 0 => Ok(vec![(*x).clone()]),
            _ => Err(ShapeError::new("expects f32 of at least one dimension")),
        }
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.gradient {
            return Err(backward.not_differentiable(self.name()));
        }
        let inputs = [backward.grad(), backward.inputs[0]];
        Ok(vec![Some(backward.graph.apply1(UnitChannels { gradient: true }, &inputs)?)])
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let channels = args.outputs.ty(0).shape.last();
        let out = args.outputs.float(0).chunks_mut(channels);
        let x = args.inputs.float(args.inputs.len() - 1).chunks(channels);
        let dy = args.inputs.float(0).chunks(channels);
        for ((out, x), dy) in out.zip(x).zip(dy) {
            let square = T::from_f32(EPSILON) + x.iter().map(|x| *x * *x).sum();
            let dot: T = if self.gradient { x.iter().zip(dy).map(|(x, dy)| *x * *dy).sum() } else { T::ZERO };
            for ((out, x), dy) in out.iter_mut().zip(x).zip(dy) {
                *out = if self.gradient { (*dy - *x * dot / square) / square.sqrt() } else { *x / square.sqrt() };
            }
        }
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shape = &signature.outputs[0].shape;
        let pixels = shape.elements() / shape.last();
        let shader = gpu::Shader::text(if self.gradient { GRADIENT } else { FORWARD })
            .constant("PIXELS", pixels)
            .constant("CHANNELS", shape.last())
            .constant("EPSILON", EPSILON);
        let inputs = (0..signature.inputs.len()).map(gpu::Binding::Input);
        let bindings = inputs.chain([gpu::Binding::Output(0)]).collect();
        vec![gpu::Candidate::single(
            self.name(),
            gpu::Pass { shader, bindings, workgroups: gpu::linear_workgroups(pixels) },
        )]
    }
}

fn unit_channels(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
    graph.apply1(UnitChannels { gradient: false }, &[x])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let x = check::random([2, 3, 3, 7], 1);
    check::gradients(std::slice::from_ref(&x), |graph, v| unit_channels(graph, v[0]));
    println!("the gradient agrees with finite differences");
    check::gpu_matches_cpu(&[Example::new([x], |graph, v| unit_channels(graph, v[0]))]);
    println!("the GPU kernels agree with the CPU's (where there is a software GPU)");

    // Any function of a builder and a value is a layer.
    let network = Sequential::new()
        .add(Conv2d::new(16, 3).relu())
        .named("unit", |builder: &mut Builder<'_>, x: Value| unit_channels(builder.graph, x))
        .add(GlobalAveragePool)
        .add(Dense::new(10));
    let model = Model::new("unit-cnn", [28, 28, 1], 10, network);
    let normalisation = gabor::data::Normalisation { mean: vec![0.13], std: vec![0.31] };
    let mut parameters = gabor::nn::Parameters::new(1 << 24);
    let (graph, _) = training_graph(&model, &mut parameters, &Recipe::default(), &normalisation)?;
    println!("its training step:\n{}", Plan::new(&graph, &Target::Cpu, PlanOptions::default())?);
    Ok(())
}
