//! What a run shows and logs: observers of training that write CSV files and draw a progress bar, and tables.

mod csv_log;
#[cfg(feature = "cli")]
mod progress;
mod table;

pub use csv_log::{EpochLog, StepLog};
#[cfg(feature = "cli")]
pub use progress::ProgressBar;
pub use table::Table;
