//! Tests of pointwise operations.

use super::examples::{ACTIVATIONS, differentiable, towards, updates};
use crate::{
    check,
    cpu::CpuExecutor,
    graph::{Graph, Value, Variables},
    kernel::Expr,
    plan::{Executor, Plan, PlanOptions, Target, Work},
    tensor::{DType, Tensor, TensorType, f16},
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
    assert!(graph.relu(bytes).unwrap_err().to_string().contains("must hold f32 or f16, not u32"));
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

/// `values` converted to `to`.
fn cast(values: Vec<f32>, to: DType) -> Tensor {
    check::evaluate(&[Tensor::f32([values.len()], values)], |graph, v| graph.cast(v[0], to))
}

#[test]
fn a_conversion_to_f16_rounds_to_the_nearest_and_ties_to_even() {
    // Neighbours of 1 are 1/1024 apart; 2^-24 is the least number, 65504 the largest.
    let (unit, least) = (1.0 / 1024.0, 2f32.powi(-24));
    let values = vec![1.0 + 0.5 * unit, 1.0 + 1.5 * unit, 1.0 + 0.51 * unit, 0.5 * least, 65519.0, 65520.0, -1e9, -0.0];
    let expected = [1.0, 1.0 + 2.0 * unit, 1.0 + unit, 0.0, 65504.0, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    let got = cast(values, DType::F16);
    assert_eq!(got.ty(), TensorType::f16([8]));
    assert_eq!(got, Tensor::f16([8], expected.map(f16::from_f32).to_vec()));
    assert_eq!(got.to_f32().unwrap()[..7], expected[..7]);
    assert!(cast(vec![f32::NAN], DType::F16).to_f32().unwrap()[0].is_nan());
}

#[test]
fn every_f16_comes_back() {
    let bits: Vec<u16> = (0..=u16::MAX).filter(|bits| !f16::from_bits(*bits).is_nan()).collect();
    let halves = Tensor::f16([bits.len()], bits.into_iter().map(f16::from_bits).collect());
    let there_and_back = |graph: &mut Graph, v: &[Value]| {
        let wide = graph.cast(v[0], DType::F32)?;
        graph.cast(wide, DType::F16)
    };
    assert_eq!(check::evaluate(std::slice::from_ref(&halves), there_and_back).bytes(), halves.bytes());
}

#[test]
fn a_conversion_to_i8_rounds_to_the_nearest_and_saturates() {
    let values = vec![0.5, 1.5, -0.5, -1.5, 127.4, 127.6, 1e9, -128.6, f32::NEG_INFINITY, f32::NAN];
    let expected = vec![0, 2, 0, -2, 127, 127, 127, -128, -128, 0];
    assert_eq!(cast(values, DType::I8), Tensor::i8([10], expected));
}

/// Between two conversions a value is what the narrow type holds, whether they are one kernel or not.
#[test]
fn fused_conversions_round() {
    let build = |graph: &mut Graph, v: &[Value]| {
        let byte = graph.cast(v[0], DType::I8)?;
        graph.cast(byte, DType::F32)
    };
    let y = check::evaluate(&[Tensor::f32([3], vec![0.7, -300.0, 2.5])], build);
    assert_eq!(y.as_f32().unwrap(), [1.0, -128.0, 2.0]);
}

#[test]
fn the_gradient_of_a_conversion_is_converted_back() {
    let x = Tensor::f32([2], vec![1.0, 2.0]);
    let dy = Tensor::f32([2], vec![0.1, -3.0]);
    let grads = check::gradients_for(std::slice::from_ref(&x), &dy, &[0], |graph, v| {
        let half = graph.cast(v[0], DType::F16)?;
        graph.scale(half, 2.0)
    });
    // The gradient passes through f16, as the value did.
    assert_eq!(grads[0].as_f32().unwrap(), [2.0 * f16::from_f32(0.1).to_f32(), -6.0]);
    let grads = check::gradients_for(&[x.to_f16()], &dy, &[0], |graph, v| graph.cast(v[0], DType::F32));
    assert_eq!(grads[0], dy.to_f16());
}

#[test]
fn a_conversion_to_bytes_has_no_gradient_and_other_types_no_conversion() {
    let mut graph = Graph::new();
    let x = graph.feed("x", TensorType::f32([4]));
    let byte = graph.cast(x, DType::I8).unwrap();
    let y = graph.cast(byte, DType::F32).unwrap();
    let error = crate::autodiff::gradients(&mut graph, y, &[x]).unwrap_err().to_string();
    assert!(error.contains("cast_f32 has no gradient"), "{error}");
    let labels = graph.feed("labels", TensorType::u32([4]));
    let error = graph.cast(labels, DType::F16).unwrap_err().to_string();
    assert!(error.contains("f32, f16 and i8 to each other, not u32[4] to f16"), "{error}");
    let half = graph.cast(x, DType::F16).unwrap();
    let error = graph.add(x, half).unwrap_err().to_string();
    assert!(error.contains("input 1 holds f16 and input 0 f32"), "{error}");
    assert!(graph.softmax(half).is_err() && graph.pack(&[half], vec![0], 4).is_err());
}
