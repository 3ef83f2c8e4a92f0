//! `gabor train`.

mod args;
mod folds;
mod given;
mod run;
mod summary;
#[cfg(test)]
mod tests;

pub use args::TrainArgs;
pub use given::complete;
