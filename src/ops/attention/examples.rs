//! Examples of attention: a token and many, tiles with edges and without, heads in whole vectors and not, of few and of many
//! columns.

use crate::{graph::Example, tensor::random};

/// Batch, tokens, heads and columns of a head.
const EXAMPLES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [2, 17, 3, 8],
    [1, 64, 2, 32],
    [1, 97, 1, 64],
    [2, 33, 2, 24],
    [1, 40, 1, 80],
    [2, 35, 2, 7],
    [1, 20, 1, 130],
];

pub fn examples() -> Vec<Example> {
    let example = |[batch, tokens, heads, head]: [usize; 4]| {
        Example::new([random([batch, tokens, 3 * heads * head], 1)], move |g, v| g.attention(v[0], heads))
    };
    // Scores far apart, whose exponentials would overflow.
    let large = Example::new([random([1, 40, 3 * 16], 2)], |g, v| {
        let qkv = g.scale(v[0], 20.0)?;
        g.attention(qkv, 1)
    });
    EXAMPLES.into_iter().map(example).chain([large]).collect()
}
