use crate::{
    check,
    graph::{Graph, GraphError, Value},
    tensor::Tensor,
};

const TRANSPOSES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// A batch of factors of `[m, k]` and `[k, n]`, stored as the flags say.
fn factors(lead: &[usize], [m, n, k]: [usize; 3], transposes: (bool, bool)) -> [Tensor; 2] {
    let shape = |rows, columns, transposed| match transposed {
        false => [lead, &[rows, columns]].concat(),
        true => [lead, &[columns, rows]].concat(),
    };
    [check::random(shape(m, k, transposes.0), 1), check::random(shape(k, n, transposes.1), 2)]
}

fn product(transposes: (bool, bool)) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
    move |graph, v| graph.matmul(v[0], v[1], transposes.0, transposes.1)
}

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
    let inputs = [check::random([2, 3, 4, 5], 3), check::random([5, 6], 4)];
    check::gpu_matches_cpu(&inputs, product((false, false)));
}

#[test]
fn a_long_sum_is_split_with_an_epilogue() {
    let [a, b] = factors(&[], [6, 5, 2100], (true, false));
    let inputs = [a, b, check::random([5], 3)];
    let build = |graph: &mut Graph, v: &[Value]| {
        let y = graph.matmul(v[0], v[1], true, false)?;
        let y = graph.add(y, v[2])?;
        graph.gelu(y)
    };
    check::gradients(&inputs, build);
    check::gpu_matches_cpu(&inputs, build);
}

/// A dense layer whose bias, gate and activation become the epilogue.
fn layer(graph: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
    let y = graph.dense(v[0], v[1])?;
    let y = graph.add(y, v[2])?;
    let y = graph.multiply(v[3], y)?;
    graph.silu(y)
}

fn layer_inputs([m, n, k]: [usize; 3]) -> [Tensor; 4] {
    let [x, w] = factors(&[], [m, n, k], (false, false));
    [x, w, check::random([n], 3), check::random([m, n], 4)]
}

#[test]
fn bias_and_activation_are_fused() {
    let inputs = layer_inputs([100, 20, 9]);
    check::gradients(&inputs, layer);
    check::gpu_matches_cpu(&inputs, layer);
}

#[test]
fn an_epilogue_of_parts_of_rows() {
    // Few rows and many columns: the CPU cuts the columns.
    check::gradients(&layer_inputs([3, 1030, 4]), layer);
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

/// Compiling a tile takes a software GPU a second: each product has one orientation, its gradients have two others.
fn compare_shaders(lead: &[usize], products: &[([usize; 3], (bool, bool))]) {
    for (extents, transposes) in products {
        check::gpu_matches_cpu(&factors(lead, *extents, *transposes), product(*transposes));
    }
}

#[test]
fn shaders_at_edges_that_no_tile_divides() {
    compare_shaders(&[], &[([1, 1, 1], (false, false)), ([33, 70, 19], (false, false)), ([35, 66, 21], (true, true))]);
}

#[test]
fn shaders_of_flat_and_deep_products() {
    compare_shaders(&[], &[([200, 10, 64], (false, false)), ([4, 4, 1100], (false, true))]);
}

#[test]
fn shaders_of_large_tiles() {
    compare_shaders(&[], &[([520, 260, 36], (false, false)), ([256, 384, 20], (true, true))]);
}

#[test]
fn shaders_of_few_rows() {
    compare_shaders(&[2], &[([5, 36, 70], (false, false)), ([3, 7, 90], (true, true))]);
}

#[test]
fn shaders_of_batches() {
    compare_shaders(&[3], &[([34, 36, 20], (false, false))]);
}

#[test]
fn extents_that_do_not_match_are_errors() {
    let error = |a: &[usize], b: &[usize], transpose_a| {
        let mut graph = Graph::new();
        let [a, b] = [a, b].map(|shape| graph.feed("factor", crate::tensor::TensorType::f32(shape)));
        graph.matmul(a, b, transpose_a, false).unwrap_err().to_string()
    };
    assert!(error(&[2, 3], &[4, 5], false).contains("3 columns, but the second 4 rows"));
    assert!(error(&[2, 4, 3], &[4, 5], true).contains("batches"));
    assert!(error(&[3], &[3, 2], false).contains("must be a matrix"));
}
