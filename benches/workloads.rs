//! The speed workloads: whole training steps, the matrix product and the convolution, on the CPU and on a GPU.
//!
//!     cargo bench --bench workloads                       # on the CPU, and on the best GPU where there is one
//!     GABOR_BENCH_DEVICE=llvmpipe cargo bench --bench workloads -- W6
//!
//! Throughput is elements a second: images for training steps, floating-point operations for the kernels.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gabor::{
    autodiff, check,
    data::{Batch, Normalisation},
    device,
    graph::{Graph, Value, Variables},
    models,
    ops::{Conv2dOptions, Optimizer, Padding},
    plan::{Executor, Plan, PlanOptions, ProgramId},
    tensor::{DType, Tensor, TensorType},
    train::{Recipe, Session},
};

/// The devices to measure: the CPU, and the one that `GABOR_BENCH_DEVICE` names or the best GPU.
fn devices() -> Vec<String> {
    let other = std::env::var("GABOR_BENCH_DEVICE").unwrap_or("gpu".into());
    let usable = |name: &String| name == "cpu" || device::open(name).is_ok();
    ["cpu".to_string(), other].into_iter().filter(usable).collect()
}

fn open(name: &str) -> Box<dyn Executor> {
    device::open(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A training step on a batch that stays the same.
fn training(criterion: &mut Criterion, id: &str, model: &str, input: [usize; 3], recipe: Recipe) {
    for device in devices() {
        let size = recipe.batch_size;
        let network = models::build(model, input, 10).expect("a model of the zoo");
        let normalisation = Normalisation { mean: vec![0.5; input[2]], std: vec![0.25; input[2]] };
        let mut session =
            Session::new(open(&device), network, recipe.clone(), normalisation).unwrap_or_else(|e| panic!("{e}"));
        let mut batch = Batch {
            images: (0..size * input.iter().product::<usize>()).map(|at| (at * 97 % 251) as u8).collect(),
            labels: (0..size as u32).map(|at| at % 10).collect(),
            weights: vec![1.0; size],
            real: size,
            ..Batch::default()
        };
        let mut group = criterion.benchmark_group(id);
        group.throughput(Throughput::Elements(size as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
        group.bench_function(&device, |bencher| {
            bencher.iter(|| {
                session.train_step(&mut batch, 1e-3).expect("a step");
                session.finish_steps().expect("its figures")
            });
        });
    }
}

fn w1(criterion: &mut Criterion) {
    training(criterion, "W1 lenet28", "seed-cnn", [28, 28, 1], Recipe::default());
}

fn w3(criterion: &mut Criterion) {
    let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let recipe = Recipe { batch_size: 32, optimizer, ..Recipe::default() };
    training(criterion, "W3 resnet18c", "resnet18", [32, 32, 3], recipe);
}

/// A program over resident inputs whose result stays on the device but for one element.
fn kernel(
    device: &str,
    inputs: &[Tensor],
    build: impl Fn(&mut Graph, &[Value]) -> Value,
) -> (Box<dyn Executor>, ProgramId) {
    let mut executor = open(device);
    let (mut graph, mut variables) = (Graph::new(), Variables::new());
    let ids: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(n, t)| variables.add(format!("input{n}"), DType::F32, t.shape().elements()))
        .collect();
    let values: Vec<Value> = ids.iter().zip(inputs).map(|(id, t)| graph.variable(*id, 0, t.ty())).collect();
    let result = build(&mut graph, &values);
    let kept = variables.add("result", DType::F32, graph.shape(result).elements());
    graph.assign(kept, result);
    let done = graph.variable(ids[0], 0, TensorType::f32([1]));
    graph.output("done", done);
    executor.declare(&variables).expect("memory for the inputs");
    for (id, tensor) in ids.iter().zip(inputs) {
        executor.write(*id, 0, tensor).expect("the inputs");
    }
    let plan = Plan::new(&graph, &executor.target(), PlanOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let program = executor.load(plan).unwrap_or_else(|e| panic!("{e}"));
    (executor, program)
}

fn bench_kernel(
    criterion: &mut Criterion,
    id: &str,
    flop: usize,
    inputs: &[Tensor],
    build: impl Fn(&mut Graph, &[Value]) -> Value,
) {
    for device in devices() {
        let (mut executor, program) = kernel(&device, inputs, &build);
        let mut group = criterion.benchmark_group(id);
        group.throughput(Throughput::Elements(flop as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
        group.bench_function(&device, |bencher| {
            bencher.iter(|| {
                executor.run(program, &[]).expect("a run");
                executor.collect(program, true).expect("its end")
            });
        });
    }
}

fn w5(criterion: &mut Criterion) {
    for n in [512, 1024, 2048] {
        let inputs = [check::random([n, n], 1), check::random([n, n], 2)];
        let flop = 2 * n * n * n;
        bench_kernel(criterion, &format!("W5 gemm {n}"), flop, &inputs, |g, v| g.dense(v[0], v[1]).expect("a product"));
    }
}

fn w6(criterion: &mut Criterion) {
    let (x, dy) = (check::random([8, 56, 56, 64], 1), check::random([8, 56, 56, 64], 2));
    let weight = check::random([3, 3, 64, 64], 3);
    let flop = 2 * 8 * 56 * 56 * 64 * 64 * 9;
    let options = Conv2dOptions { padding: Padding::all(1), ..Conv2dOptions::default() };
    let forward = |g: &mut Graph, v: &[Value]| g.conv2d(v[0], v[1], &options).expect("a convolution");
    bench_kernel(criterion, "W6 conv forward", flop, &[x.clone(), weight.clone()], forward);
    // The gradients alone: the forward pass and the projection on dy fall away, as nothing reads them.
    for (name, wrt) in [("W6 conv grad-input", 0), ("W6 conv grad-weight", 1)] {
        bench_kernel(criterion, name, flop, &[x.clone(), weight.clone(), dy.clone()], |g, v| {
            let y = forward(g, v);
            let product = g.multiply(y, v[2]).expect("equal shapes");
            let sum = g.sum(product, &[0, 1, 2, 3]).expect("four axes");
            autodiff::gradients(g, sum, &[v[wrt]]).expect("a gradient")[0]
        });
    }
}

criterion_group!(benches, w1, w3, w5, w6);
criterion_main!(benches);
