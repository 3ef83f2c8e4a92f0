//! What a run shows and logs: observers of training that write CSV files and draw a progress bar.

mod csv_log;
mod progress;

pub use csv_log::{EpochLog, StepLog};
pub use progress::ProgressBar;
