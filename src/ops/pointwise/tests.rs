//! Tests of pointwise operations.

use super::examples::{ACTIVATIONS, differentiable, towards, updates};
use crate::{
    check,
    cpu::CpuExecutor,
    graph::{Graph, Value, Variables},
    kernel::Expr,
    plan::{Executor, Plan, PlanOptions, Target, Work},
    tensor::{DType, Tensor, TensorType},
};

#[test]
fn gradients() {
    check::gradients_of_examples(&differentiable());
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
fn sigmoid_cross_entropy_of_pytorch() {
    for case in check::reference("sigmoid_cross_entropy") {
        let inputs = [case.tensor("x"), case.tensor("t"), case.tensor("w")];
        let build = |graph: &mut Graph, v: &[Value]| graph.sigmoid_cross_entropy(v[0], v[1], v[2]);
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

#[test]
fn an_update_gives_what_the_operation_gives() {
    for example in updates() {
        let expected = check::evaluate(&example.inputs, |graph, v| graph.pointwise("towards", towards(), v));
        assert_eq!(check::evaluate(&example.inputs, |graph, v| example.build(graph, v)), expected);
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
    let new = graph.update("count", sum, &[old, step]).unwrap();
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
    assert!(graph.update("count", Expr::Input(0) + Expr::Input(1), &[old, wide]).is_err());
}
