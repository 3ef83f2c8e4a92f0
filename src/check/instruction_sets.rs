//! Every CPU kernel with every instruction set that this processor has, in both precisions, over all widths from one
//! element to more than two vectors: each against plain code in double precision.

use super::{Problem, random};
use crate::{
    cpu::Precision,
    graph::{Example, Graph, Value},
    kernel::{InstructionSet, instructions},
    ops::{Argmax, Average, Conv2dOptions, Optimizer, Padding, WindowOptions},
    plan::{Executor, PlanOptions},
    tensor::{DType, Tensor},
};

/// Elements of the widest vector there is: 512 bits of single precision.
const LANES: usize = 16;

/// Roundings that a value may differ by: sums of some hundred terms, each rounded once.
const ROUNDINGS: f64 = 64.0;

/// What is made of inputs whose innermost axis has `width` elements.
fn examples(width: usize) -> Vec<Example> {
    let images = |seed| random([3, 4, 5, width], seed);
    let channels = |seed| random([width], seed);
    let matrix = |seed| random([7, width], seed);
    let same = Conv2dOptions::default().padding(Padding::Same);
    let filter = |input: usize, output: usize, seed| random([3, 3, input, output], seed);
    let pool = WindowOptions { kernel: [3, 2], stride: [2, 1], dilation: [1; 2], padding: Padding::Same, ceil: false };
    let labels = Tensor::u32([7], (0..7).map(|at| at * 5 % width as u32).collect());
    let bytes = Tensor::u8([2, 3, 3, width], (0..18 * width).map(|at| (at * 97 % 256) as u8).collect());
    let deviations = Tensor::f32([width], (0..width).map(|c| 0.2 + 0.03 * c as f32).collect());
    let mut examples = vec![
        Example::new([images(1), filter(width, 5, 2)], move |g, v| g.conv2d(v[0], v[1], &same)),
        Example::new([random([3, 4, 5, 2], 1), filter(2, width, 2), channels(3)], move |g, v| {
            let y = g.conv2d(v[0], v[1], &same.stride(2))?;
            let y = g.add(y, v[2])?;
            g.silu(y)
        }),
        Example::new([images(1), random([1, 1, width, 1], 2)], |g, v| g.conv2d(v[0], v[1], &Conv2dOptions::default())),
        Example::new([random([3, 4, 5, 1], 1), random([1, 1, 1, width], 2)], |g, v| {
            g.conv2d(v[0], v[1], &Conv2dOptions::default())
        }),
        Example::new([images(1), filter(1, width, 2)], move |g, v| g.conv2d(v[0], v[1], &same.groups(width))),
        Example::new([matrix(1), random([width, 6], 2)], |g, v| g.dense(v[0], v[1])),
        Example::new([random([7, 6], 1), random([6, width], 2), channels(3)], |g, v| {
            let y = g.dense(v[0], v[1])?;
            let y = g.add(y, v[2])?;
            g.tanh(y)
        }),
        Example::new([images(1), channels(2), channels(3)], |g, v| {
            let y = g.batch_norm_train(v[0], v[1], v[2], 1e-3)?.y;
            g.gelu(y)
        }),
        Example::new([matrix(1), channels(2), channels(3)], |g, v| g.layer_norm(v[0], v[1], v[2], 0.1)),
        Example::new([matrix(1)], |g, v| g.softmax(v[0])),
        Example::new([random([2, 50, 6 * width], 1)], |g, v| g.attention(v[0], 2)),
        Example::new([matrix(1)], |g, v| g.log_softmax(v[0])),
        Example::new([matrix(1), labels], |g, v| g.softmax_cross_entropy(v[0], v[1], 0.1)),
        Example::new([images(1)], move |g, v| g.max_pool2d(v[0], &pool, Argmax::Kept)),
        Example::new([images(1)], move |g, v| g.avg_pool2d(v[0], &pool, Average::Image)),
        Example::new([images(1)], |g, v| g.global_max_pool(v[0])),
        Example::new([images(1)], |g, v| g.global_average_pool(v[0])),
        Example::new([images(1)], |g, v| g.mean(v[0], &[0, 1, 2])),
        Example::new([images(1)], |g, v| g.mean(v[0], &[3])),
        Example::new([matrix(1)], |g, v| g.transpose(v[0], &[1, 0])),
        Example::new([bytes, channels(1), deviations], |g, v| g.normalise_images(v[0], v[1], v[2])),
    ];
    for optimizer in [Optimizer::default(), Optimizer::Sgd { momentum: 0.9, nesterov: true }] {
        let positive = |seed| Tensor::f32([width], channels(seed).as_f32().unwrap().iter().map(|x| x.abs()).collect());
        let hyper = Tensor::f32([8], optimizer.hyper(0.1, 0.01, 3, None).to_vec());
        let mut inputs = vec![channels(1), channels(2), hyper, Tensor::scalar(0.7), Tensor::scalar(0.0)];
        inputs.extend((0..optimizer.moments()).map(|at| positive(3 + at as u64)));
        examples.push(Example::new(inputs, move |g, v| {
            let new = g.optimizer_step(&optimizer, v[0], &v[5..], v[1], v[2], v[3], v[4], &[])?;
            g.concat(&new, 0)
        }));
    }
    examples
}

/// Convolutions that Winograd's algorithm computes.
fn of_many_channels(width: usize) -> Example {
    let same = Conv2dOptions::default().padding(Padding::Same);
    let channels = 2 * LANES;
    Example::new([random([8, 7, 8, channels], 1), random([3, 3, channels, channels + width], 2)], move |g, v| {
        g.conv2d(v[0], v[1], &same)
    })
}

/// The value of the example and the gradients of all of its float inputs that have one.
fn results<T: Precision>(example: &Example) -> Vec<Vec<f64>> {
    let mut problem = Problem::new(&example.inputs, |graph: &mut Graph, values: &[Value]| example.build(graph, values));
    problem.graph.output("y", problem.y);
    let wrt = problem.differentiable_inputs();
    if !wrt.is_empty() {
        let dy = random(problem.graph.shape(problem.y).clone(), 977);
        for (at, grad) in problem.differentiate(dy, &wrt).into_iter().enumerate() {
            problem.graph.output(format!("grad{at}"), grad);
        }
    }
    let (mut cpu, program) = problem.load::<T>(PlanOptions { share: false, ..PlanOptions::default() });
    cpu.run(program, &[]).expect("a run without feeds");
    let outputs = cpu.plan(program).outputs.clone();
    let floats = outputs.iter().filter(|(_, _, ty)| ty.dtype == DType::F32);
    floats.map(|(_, place, _)| cpu.peek_float(program, *place).into_iter().map(T::to_f64).collect()).collect()
}

fn assert_same(got: &[Vec<f64>], want: &[Vec<f64>], epsilon: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let error = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
        let bound = ROUNDINGS * epsilon * norm(&mut want.iter().copied()).max(1.0);
        assert!(error <= bound, "{what}, result {at}: off by {error:.1e}, more than {bound:.1e}");
    }
}

fn compare(width: usize, examples: &[Example]) {
    for (number, example) in examples.iter().enumerate() {
        let expected = instructions::with(InstructionSet::Scalar, || results::<f64>(example));
        for set in InstructionSet::available() {
            let (double, single) = instructions::with(set, || (results::<f64>(example), results::<f32>(example)));
            let what = format!("{set}, width {width}, example {number} {example:?}");
            assert_same(&double, &expected, f64::EPSILON, &format!("{what} in f64"));
            assert_same(&single, &expected, f32::EPSILON.into(), &format!("{what} in f32"));
        }
    }
}

#[test]
fn every_kernel_computes_the_same_with_every_instruction_set() {
    for width in 1..=2 * LANES + 1 {
        compare(width, &examples(width));
    }
}

#[test]
fn winograd_computes_the_same_with_every_instruction_set() {
    for width in [0, 1, 7, LANES + 1] {
        compare(width, &[of_many_channels(width)]);
    }
}
