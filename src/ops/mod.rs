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

pub use batch_norm::BatchNorm;
pub use conv2d::Conv2dOptions;
pub use optimizer::Optimizer;
pub use pointwise::Pointwise;
pub use reduce::Reduce;
pub use window::{Padding, Window, Window1d, WindowOptions};
