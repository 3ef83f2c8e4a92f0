//! The operations: one file each, with its shape rule, its gradient rule, its CPU kernel and its GPU kernels.
//!
//! Each file also extends [`Graph`](crate::graph::Graph) with the method that applies the operation.

mod accuracy;
mod avg_pool;
mod batch_norm;
mod columns;
mod concat;
mod conv2d;
mod cross_entropy;
mod dropout;
mod gather;
mod global_pool;
mod layer_norm;
mod matmul;
mod max_pool;
mod normalise;
mod optimizer;
mod pad;
mod pointwise;
mod pool;
mod reduce;
mod rows;
mod slice;
mod softmax;
mod subgroup_block;
mod tile;
mod transpose;
mod view;
mod window;

use crate::graph::Example;

/// Lists the operations that have kernels of their own: for each, its examples and a test that runs them on a GPU.
macro_rules! with_kernels {
    ($($op:ident),* $(,)?) => {
        /// For each operation that has kernels of its own, by the name of its file, what a device is checked by.
        pub fn examples() -> Vec<(&'static str, Vec<Example>)> {
            vec![$((stringify!($op), $op::examples())),*]
        }

        #[cfg(test)]
        mod kernels_match_the_cpu {
            $(
                #[test]
                fn $op() {
                    crate::check::gpu_matches_cpu(&super::$op::examples());
                }
            )*
        }
    };
}

with_kernels! {
    accuracy,
    avg_pool,
    batch_norm,
    concat,
    conv2d,
    cross_entropy,
    dropout,
    global_pool,
    layer_norm,
    matmul,
    max_pool,
    normalise,
    optimizer,
    pad,
    pointwise,
    reduce,
    slice,
    softmax,
    transpose,
}

pub use batch_norm::BatchNorm;
pub use conv2d::Conv2dOptions;
pub use optimizer::Optimizer;
pub use pointwise::Pointwise;
pub use reduce::Reduce;
pub use window::{Padding, Window, Window1d, WindowOptions};
