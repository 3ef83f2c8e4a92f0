use super::*;
use crate::{check, tensor::Tensor};

#[test]
fn gradients() {
    check::gradients_of_examples(&examples());
}

#[test]
fn values_of_pytorch() {
    for case in check::reference("attention") {
        let heads = case.parameters["heads"].as_u64().unwrap() as usize;
        let inputs = [case.tensor("qkv")];
        let build = |g: &mut Graph, v: &[Value]| g.attention(v[0], heads);
        let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0], build);
        for (name, got) in [("y", &check::evaluate(&inputs, build)), ("dqkv", &grads[0])] {
            let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
            // Scores of some hundreds are rounded by as many times what those of about one are.
            let bound = if case.name == "large_scores" { 1e-5 } else { 1e-6 };
            assert!(error < bound, "{name} of {}: off by {error:.2e}", case.name);
        }
    }
}

#[test]
fn what_is_not_finite_shows() {
    let mut values = vec![0.5; 4 * 12];
    values[13] = f32::NAN;
    let y = check::evaluate(&[Tensor::f32([1, 4, 12], values)], |g, v| g.attention(v[0], 2));
    assert!(y.as_f32().unwrap().iter().any(|y| y.is_nan()));
}

#[test]
fn other_shapes_are_refused() {
    for (ty, heads) in [
        (TensorType::f32([2, 5, 12]), 3),
        (TensorType::f32([2, 5, 12]), 0),
        (TensorType::f32([5, 12]), 2),
        (TensorType::f16([2, 5, 12]), 2),
    ] {
        let mut graph = Graph::new();
        let qkv = graph.feed("qkv", ty.clone());
        let error = graph.attention(qkv, heads).unwrap_err().to_string();
        assert!(error.contains("3 * width") && error.contains(&ty.to_string()), "{error}");
    }
}
