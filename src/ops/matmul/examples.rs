//! Examples of matrix products, alone and with what is fused with them.

use crate::{
    graph::{Example, Graph, GraphError, Value},
    tensor::{DType, Tensor, random},
};

/// The batch, `[m, n, k]`, and whether each factor is transposed.
type Product = (&'static [usize], [usize; 3], (bool, bool));

/// Products of batches `lead` of `[m, k]` and `[k, n]`, given as `[m, n, k]`. Compiling a tile takes a software GPU a
/// second: each product has one orientation, its gradients have two others.
const PRODUCTS: [Product; 10] = [
    // Edges that no tile divides.
    (&[], [1, 1, 1], (false, false)),
    (&[], [33, 70, 19], (false, false)),
    (&[], [35, 66, 21], (true, true)),
    // Flat and deep ones.
    (&[], [200, 10, 64], (false, false)),
    (&[], [4, 4, 1100], (false, true)),
    // Large tiles.
    (&[], [520, 260, 36], (false, false)),
    (&[], [256, 384, 20], (true, true)),
    // Few rows.
    (&[2], [5, 36, 70], (false, false)),
    (&[2], [3, 7, 90], (true, true)),
    // Batches.
    (&[3], [34, 36, 20], (false, false)),
];

pub fn examples() -> Vec<Example> {
    let products = PRODUCTS
        .map(|(lead, extents, transposes)| Example::new(factors(lead, extents, transposes), product(transposes)));
    let shared = Example::new([random([2, 3, 4, 5], 3), random([5, 6], 4)], product((false, false)));
    // Edges, either way of being stored, large tiles, few rows, split sums with an epilogue; and what is converted on its
    // way out.
    let halves = [1, 2, 5, 6, 7, 8].map(|at: usize| products[at].in_f16());
    let [a, b] = factors(&[], [34, 36, 20], (false, false));
    let widened = Example::new([a.to_f16(), b.to_f16()], |graph, v| {
        let y = graph.matmul(v[0], v[1])?;
        graph.cast(y, DType::F32)
    });
    let narrowed = Example::new([a, b], |graph, v| {
        let y = graph.matmul(v[0], v[1])?;
        graph.cast(y, DType::F16)
    });
    let fused_halves = fused().map(|example| example.in_f16());
    let in_f16 = halves.into_iter().chain(fused_halves).chain([widened, narrowed]);
    products.into_iter().chain([shared]).chain(fused()).chain(in_f16).collect()
}

/// A long sum, which is split, and a dense layer, each with an epilogue.
pub fn fused() -> [Example; 2] {
    let [a, b] = factors(&[], [6, 5, 2100], (true, false));
    let long = Example::new([a, b, random([5], 3)], |graph, v| {
        let y = graph.matmul(v[0].t(), v[1])?;
        let y = graph.add(y, v[2])?;
        graph.gelu(y)
    });
    [long, layer([100, 20, 9])]
}

/// A dense layer whose bias, gate and activation become the epilogue.
pub fn layer([m, n, k]: [usize; 3]) -> Example {
    let [x, w] = factors(&[], [m, n, k], (false, false));
    Example::new([x, w, random([n], 3), random([m, n], 4)], |graph, v| {
        let y = graph.dense(v[0], v[1])?;
        let y = graph.add(y, v[2])?;
        let y = graph.multiply(v[3], y)?;
        graph.silu(y)
    })
}

/// A batch of factors of `[m, k]` and `[k, n]`, stored as the flags say.
pub fn factors(lead: &[usize], [m, n, k]: [usize; 3], transposes: (bool, bool)) -> [Tensor; 2] {
    let shape = |rows, columns, transposed| match transposed {
        false => [lead, &[rows, columns]].concat(),
        true => [lead, &[columns, rows]].concat(),
    };
    [random(shape(m, k, transposes.0), 1), random(shape(k, n, transposes.1), 2)]
}

pub fn product(transposes: (bool, bool)) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
    move |graph, v| graph.matmul(v[0].t_if(transposes.0), v[1].t_if(transposes.1))
}
