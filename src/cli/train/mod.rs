//! `gabor train`, and the range test of its learning rate.

mod args;
mod doctor;
mod folds;
mod given;
mod judged;
mod lr_range;
mod run;
mod summary;
#[cfg(test)]
mod tests;
mod tui;

pub use args::TrainArgs;
pub use given::{complete, complete_range, explained};
pub use lr_range::LrRangeArgs;
pub use run::{Job, sized_as};
