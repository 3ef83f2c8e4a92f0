//! Tests of the matrix product.

use super::examples::{factors, fused, layer, product};
use crate::{
    check,
    graph::{Graph, GraphError, Value},
    tensor::Tensor,
};

const TRANSPOSES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[test]
fn equals_the_definition() {
    for (lead, extents) in [(vec![], [70, 33, 41]), (vec![3], [2, 300, 5]), (vec![], [3, 5, 5000])] {
        for transposes in TRANSPOSES {
            let [a, b] = factors(&lead, extents, transposes);
            let y = check::evaluate(&[a.clone(), b.clone()], product(transposes));
            let [m, n, k] = extents;
            let mut expected = Vec::new();
            for l in 0..lead.iter().product() {
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let term = |t| {
                        let at_a = if transposes.0 { t * m + i } else { i * k + t };
                        let at_b = if transposes.1 { j * k + t } else { t * n + j };
                        let value = |x: &Tensor, at: usize| f64::from(x.as_f32().unwrap()[at]);
                        value(&a, l * m * k + at_a) * value(&b, l * k * n + at_b)
                    };
                    expected.push((0..k).map(term).sum::<f64>() as f32);
                }
            }
            let error = check::relative_error(y.as_f32().unwrap(), &expected);
            assert!(error < 1e-6, "{lead:?} {extents:?} {transposes:?}: off by {error:.2e}");
        }
    }
}

#[test]
fn gradients() {
    for lead in [vec![], vec![2, 3]] {
        for transposes in TRANSPOSES {
            check::gradients(&factors(&lead, [5, 7, 6], transposes), product(transposes));
        }
    }
}

#[test]
fn a_second_factor_that_the_batch_shares() {
    for transpose_b in [false, true] {
        let [_, b] = factors(&[], [4, 6, 5], (false, transpose_b));
        let inputs = [check::random([2, 3, 4, 5], 3), b];
        check::gradients(&inputs, product((false, transpose_b)));
    }
}

#[test]
fn gradients_with_an_epilogue() {
    check::gradients_of_examples(&fused());
    // Few rows and many columns: the CPU cuts the columns.
    check::gradients_of_examples(&[layer([3, 1030, 4])]);
}

fn compare_with_pytorch(
    case: &check::Case,
    inputs: &[Tensor],
    names: &[&str],
    build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) {
    let wrt: Vec<usize> = (0..inputs.len()).collect();
    let mut results = check::gradients_for(inputs, &case.tensor("dy"), &wrt, &build);
    results.push(check::evaluate(inputs, &build));
    for (name, got) in names.iter().zip(&results) {
        let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
        assert!(error < 1e-6, "{name} of {}: off by {error:.2e}", case.name);
    }
}

#[test]
fn values_of_pytorch() {
    for case in check::reference("matmul") {
        let transposes = ["transpose_a", "transpose_b"].map(|name| case.parameters[name].as_bool().unwrap());
        let inputs = ["a", "b"].map(|name| case.tensor(name));
        compare_with_pytorch(&case, &inputs, &["da", "db", "y"], product(transposes.into()));
    }
    for case in check::reference("dense") {
        let inputs = ["x", "w", "b"].map(|name| case.tensor(name));
        compare_with_pytorch(&case, &inputs, &["dx", "dw", "db", "y"], |graph, v| {
            let y = graph.dense(v[0], v[1])?;
            graph.add(y, v[2])
        });
    }
}

#[test]
fn extents_that_do_not_match_are_errors() {
    let error = |a: &[usize], b: &[usize], transpose_a| {
        let mut graph = Graph::new();
        let [a, b] = [a, b].map(|shape| graph.feed("factor", crate::tensor::TensorType::f32(shape)));
        graph.matmul(a.t_if(transpose_a), b).unwrap_err().to_string()
    };
    assert!(error(&[2, 3], &[4, 5], false).contains("3 columns, but the second 4 rows"));
    assert!(error(&[2, 4, 3], &[4, 5], true).contains("batches"));
    assert!(error(&[3], &[3, 2], false).contains("must be a matrix"));
}
