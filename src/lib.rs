//! Train, evaluate and deploy convolutional image classifiers on any GPU, or on the CPU where there is none.

#![warn(missing_docs)]

pub mod autodiff;
pub mod bench;
pub mod check;
pub mod cpu;
pub mod data;
pub mod device;
pub mod gpu;
pub mod graph;
pub mod kernel;
pub mod models;
pub mod nn;
pub mod ops;
pub mod plan;
pub mod report;
pub mod settings;
pub mod tasks;
pub mod tensor;
pub mod train;
