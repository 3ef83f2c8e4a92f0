use super::Pointwise;
use crate::{
    check,
    cpu::CpuExecutor,
    graph::{Graph, GraphError, Value, Variables},
    kernel::Expr,
    plan::{Executor, Plan, PlanOptions, Target, Work},
    tensor::{DType, Tensor, TensorType},
};

type Build = fn(&mut Graph, &[Value]) -> Result<Value, GraphError>;

const ACTIVATIONS: [(&str, Build); 10] = [
    ("relu", |g, v| g.relu(v[0])),
    ("leaky_relu", |g, v| g.leaky_relu(v[0], 0.2)),
    ("relu6", |g, v| g.relu6(v[0])),
    ("sigmoid", |g, v| g.sigmoid(v[0])),
    ("tanh", |g, v| g.tanh(v[0])),
    ("silu", |g, v| g.silu(v[0])),
    ("gelu", |g, v| g.gelu(v[0])),
    ("gelu_tanh", |g, v| g.gelu_tanh(v[0])),
    ("hard_swish", |g, v| g.hard_swish(v[0])),
    ("scale", |g, v| g.scale(v[0], -1.5)),
];

const ARITHMETIC: [Build; 4] = [
    |g, v| g.add(v[0], v[1]),
    |g, v| g.subtract(v[0], v[1]),
    |g, v| g.multiply(v[0], v[1]),
    |g, v| g.divide(v[0], v[1]),
];

/// Normal numbers over the whole range in which activations bend.
fn spread(n: usize, seed: u64) -> Tensor {
    Tensor::f32([n], check::random([n], seed).as_f32().unwrap().iter().map(|x| 3.0 * x).collect())
}

#[test]
fn activations() {
    for (_, build) in ACTIVATIONS {
        for n in [63, 64] {
            check::gradients(&[spread(n, 1)], build);
            check::gpu_matches_cpu(&[spread(n, 1)], build);
        }
    }
}

#[test]
fn activations_of_pytorch() {
    for case in check::reference("activations") {
        let slope = case.parameters["slope"].as_f64();
        let build = |graph: &mut Graph, v: &[Value]| match slope {
            Some(slope) => graph.leaky_relu(v[0], slope),
            None => {
                let activation = ACTIVATIONS.iter().find(|(name, _)| *name == case.name);
                activation.unwrap_or_else(|| panic!("no activation {}", case.name)).1(graph, v)
            }
        };
        let inputs = [case.tensor("x")];
        let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0], build);
        for (name, got) in [("y", &check::evaluate(&inputs, build)), ("dx", &grads[0])] {
            let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
            assert!(error < 1e-6, "{name} of {}: off by {error:.2e}", case.name);
        }
    }
}

#[test]
fn activations_of_extremes_are_finite() {
    let extremes = vec![-1e30, -1e4, -89.0, -0.0, 0.0, 89.0, 1e4, 1e30];
    for (name, build) in ACTIVATIONS {
        let inputs = [Tensor::f32([8], extremes.clone())];
        let y = check::evaluate(&inputs, build);
        let dx = &check::gradients_for(&inputs, &Tensor::f32([8], vec![1.0; 8]), &[0], build)[0];
        let finite = |x: &Tensor| x.as_f32().unwrap().iter().all(|x| x.is_finite());
        assert!(finite(&y) && finite(dx), "{name}: {y:?} {dx:?}");
    }
}

#[test]
fn arithmetic_broadcasts() {
    // The same shape, channels in vectors and not, rows, both sides stretched, one number.
    let shapes: [[&[usize]; 2]; 6] = [
        [&[3, 5], &[3, 5]],
        [&[2, 3, 8], &[8]],
        [&[5], &[2, 3, 5]],
        [&[4, 6], &[4, 1]],
        [&[3, 1, 4], &[5, 1]],
        [&[2, 6], &[]],
    ];
    for build in ARITHMETIC {
        for [a, b] in shapes {
            let inputs = [check::random(a, 1), check::random(b, 2)];
            check::gradients(&inputs, build);
            check::gpu_matches_cpu(&inputs, build);
        }
    }
}

#[test]
fn a_chain_with_values_that_are_used_twice() {
    let inputs = [check::random([2, 3, 5], 1), check::random([3, 1], 2), check::random([5], 3)];
    let build = |g: &mut Graph, v: &[Value]| {
        let sum = g.add(v[0], v[1])?;
        let product = g.multiply(sum, v[2])?;
        let activated = g.gelu(product)?;
        let gated = g.multiply(activated, sum)?;
        g.subtract(gated, v[0])
    };
    check::gradients(&inputs, build);
    check::gpu_matches_cpu(&inputs, build);
}

#[test]
fn every_function_of_an_expression() {
    let positive = |x: Expr| x.clone() * x + 0.5;
    let (a, b) = (Expr::Input(0), Expr::Input(1));
    let smooth = positive(a.clone()).ln() + positive(b.clone()).sqrt() * (-a.clone()).exp() + b.clone().erf();
    let bent = a.clone().max(b.clone()) - a.clone().min(0.5) + b.clone().abs() * a.clone().tanh();
    let chosen = (a.clone() - b.clone()).select(smooth, bent) * a.is_finite() / positive(b);
    for shape in [[4, 65], [4, 64]] {
        let inputs = [check::random(shape, 1), check::random([shape[1]], 2)];
        let op = Pointwise::new("all", 2, chosen.clone());
        check::gpu_matches_cpu(&inputs, |graph, v| graph.map(op.clone(), v));
    }
}

#[test]
fn more_elements_than_one_dimension_of_workgroups_holds() {
    let n = 65_536 * 256 + 3;
    let x = Tensor::f32([n], (0..n).map(|at| (at % 1000) as f32 - 500.0).collect());
    check::gpu_matches_cpu(&[x], |graph, v| graph.relu(v[0]));
}

#[test]
fn a_masked_gradient_is_zero_where_it_overflowed() {
    let inputs = [Tensor::f32([2], vec![-1.0, 1.0])];
    let grads = check::gradients_for(&inputs, &Tensor::f32([2], vec![f32::INFINITY, 2.0]), &[0], |g, v| g.relu(v[0]));
    assert_eq!(grads[0].as_f32().unwrap(), [0.0, 2.0]);
}

#[test]
fn shapes_that_do_not_broadcast_are_errors() {
    let mut graph = Graph::new();
    let [a, b] = [[2, 3], [2, 4]].map(|shape| graph.feed("x", crate::tensor::TensorType::f32(shape)));
    let error = graph.add(a, b).unwrap_err().to_string();
    assert!(error.contains("add") && error.contains("does not broadcast"), "{error}");
    let bytes = graph.feed("x", crate::tensor::TensorType::u32([2, 3]));
    assert!(graph.relu(bytes).unwrap_err().to_string().contains("must hold f32"));
}

/// Whole vectors and single numbers, with another input of the same shape and a scalar one.
#[test]
fn updates() {
    for n in [9, 12] {
        let inputs = [spread(n, 1), spread(n, 2), Tensor::scalar(0.25)];
        let towards = || Expr::Input(0) + (Expr::Input(1) - Expr::Input(0)) * Expr::Input(2);
        let update = |graph: &mut Graph, v: &[Value]| graph.update(Pointwise::new("towards", 3, towards()), v);
        let map = |graph: &mut Graph, v: &[Value]| graph.map(Pointwise::new("towards", 3, towards()), v);
        assert_eq!(check::evaluate(&inputs, update), check::evaluate(&inputs, map));
        check::gpu_matches_cpu(&inputs, update);
    }
}

/// The result takes the variable's place: nothing is copied.
#[test]
fn a_variable_is_updated_where_it_lies() {
    let (mut graph, mut variables) = (Graph::new(), Variables::new());
    let id = variables.add("counter", DType::F32, 3);
    let old = graph.variable(id, 0, TensorType::f32([3]));
    let step = graph.feed("step", TensorType::f32([]));
    let sum = Expr::Input(0) + Expr::Input(1);
    let new = graph.update(Pointwise::new("count", 2, sum), &[old, step]).unwrap();
    let doubled = graph.scale(new, 2.0).unwrap();
    graph.assign(id, new);
    graph.output("doubled", doubled);
    let mut cpu = CpuExecutor::new();
    cpu.declare(&variables).unwrap();
    let plan = Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap();
    assert!(plan.steps.iter().all(|step| !matches!(step.work, Work::Copy)), "{plan}");
    let program = cpu.load(plan).unwrap();
    for run in 1..4 {
        cpu.run(program, &[("step", &Tensor::scalar(1.5))]).unwrap();
        let outputs = cpu.collect(program, true).unwrap();
        assert_eq!(outputs[0][0].1.as_f32(), Some(&[3.0 * run as f32; 3][..]));
    }
    let wide = graph.feed("wide", TensorType::f32([2, 3]));
    assert!(graph.update(Pointwise::new("count", 2, Expr::Input(0) + Expr::Input(1)), &[old, wide]).is_err());
}
