//! The binary, run as a person would, on the CPU and on tiny data sets made here.

mod augment;
mod bad_input;
mod bench;
mod browser;
mod clean;
mod compare;
mod damage;
mod devices;
mod distil;
mod evaluate;
mod explain;
mod findings;
mod fit;
mod folds;
mod labels;
mod layers;
mod lr_range;
mod predict;
mod pretrained;
mod report;
mod resume;
mod summary;
mod support;
mod tensorboard;
mod train;
mod tui;
