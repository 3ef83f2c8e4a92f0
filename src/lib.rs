//! Train, evaluate and deploy convolutional image classifiers on any GPU, or on the CPU where there is none.
//!
//! Features, all of them on by default:
//! - `gpu`: training on GPUs through wgpu, in `gpu`. Without it the CPU computes, and `device::open` says so to who asks
//!   for a GPU.
//! - `images`: folders of image files, and their decoder `data::ImageDecoder`. Without it images come from IDX and CIFAR
//!   files, from memory or from a [`data::ImageSource`].
//! - `download`: public data sets from the net, in `data::download`.
//! - `cli`: what the program `gabor` needs, all of the above included.

#![warn(missing_docs)]

pub mod audit;
pub mod augment;
pub mod autodiff;
pub mod bench;
pub mod check;
pub mod cpu;
pub mod data;
pub mod device;
pub mod explain;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
pub mod kernel;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod plan;
pub mod report;
pub mod settings;
pub mod tasks;
pub mod tensor;
pub mod train;
pub mod weights;
