//! A convolution with its weight packed once computes what one does that packs it in each run.

use gabor::{
    device,
    graph::{Graph, Value},
    ops::{Conv2dOptions, Padding},
    plan::{Executor, Plan, PlanOptions, Target},
    tensor::Tensor,
};

/// Numbers between -1 and 1 that are the same each time.
fn numbers(shape: &[usize], seed: u32) -> Tensor {
    let number = |at: usize| {
        let mut bits = (at as u32).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(0x9e37_79b9);
        bits ^= bits >> 15;
        bits = bits.wrapping_mul(0x2c1b_3c6d);
        bits ^= bits >> 12;
        (bits % 2001) as f32 / 1000.0 - 1.0
    };
    Tensor::f32(shape.to_vec(), (0..shape.iter().product()).map(number).collect())
}

/// A convolution of `x` with a bias, a residual and a ReLU after it, and how many steps are prepared.
fn convolved(x: &Tensor, weight: &Tensor, options: &Conv2dOptions, plan: PlanOptions) -> (usize, Vec<f32>) {
    let mut graph = Graph::new();
    let input = graph.feed("x", x.ty());
    let [weight, bias]: [Value; 2] =
        [weight.clone(), numbers(&[weight.shape().last()], 3)].map(|tensor| graph.constant(tensor));
    let y = graph.conv2d(input, weight, options).unwrap();
    let residual = numbers(graph.shape(y), 4);
    let other = graph.feed("residual", residual.ty());
    let y = graph.add(y, bias).unwrap();
    let y = graph.add(y, other).unwrap();
    let y = graph.relu(y).unwrap();
    graph.output("y", y);
    let plan = Plan::new(&graph, &Target::Cpu, plan).unwrap();
    let prepared = plan.prepared;
    let mut cpu = device::reference();
    let program = cpu.load(plan).unwrap();
    let run = |cpu: &mut dyn Executor| {
        cpu.run(program, &[("x", x), ("residual", &residual)]).unwrap();
        cpu.collect(program, true).unwrap().pop().unwrap()[0].1.as_f32().unwrap().to_vec()
    };
    let first = run(&mut cpu);
    assert_eq!(first, run(&mut cpu), "two runs differ");
    (prepared, first)
}

#[test]
fn a_packed_weight_gives_the_same() {
    let same = Conv2dOptions::default().padding(Padding::Same);
    let plain = Conv2dOptions::default();
    type Case = (&'static str, [usize; 4], [usize; 4], Conv2dOptions, usize);
    let cases: [Case; 9] = [
        ("Winograd, channels divided", [1, 14, 14, 64], [3, 3, 64, 144], same, 1),
        ("Winograd of two images", [2, 13, 9, 64], [3, 3, 64, 128], same, 1),
        ("Winograd, tiles divided", [1, 28, 28, 64], [3, 3, 64, 64], same, 1),
        ("channels divided", [2, 7, 7, 64], [1, 1, 64, 200], plain, 1),
        ("channels divided, blocks of positions", [1, 15, 15, 1024], [1, 1, 1024, 128], plain, 1),
        ("positions divided, strided", [1, 19, 21, 16], [3, 3, 16, 24], same.stride(2), 1),
        ("groups", [1, 10, 11, 24], [5, 3, 12, 30], plain.groups(2), 1),
        ("dilation", [1, 12, 12, 8], [3, 3, 8, 8], same.dilation(2), 1),
        ("a filter a channel, which is not packed", [1, 6, 6, 16], [3, 3, 1, 16], same.groups(16), 0),
    ];
    for (what, x, weight, options, prepared) in cases {
        let (x, weight) = (numbers(&x, 1), numbers(&weight, 2));
        let (count, packed) = convolved(&x, &weight, &options, PlanOptions::inference());
        assert_eq!(count, prepared, "{what}");
        let (_, each) = convolved(&x, &weight, &options, PlanOptions::default());
        let size = each.iter().map(|value| value.abs()).fold(0.0, f32::max);
        let worst = packed.iter().zip(&each).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5 * size, "{what}: {worst} of {size}");
    }
}
