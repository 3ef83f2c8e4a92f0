//! `gabor train`.

mod args;
mod run;
mod summary;

pub use args::TrainArgs;
