//! What a run shows and logs: observers of training that write CSV files and draw a progress bar, tables, and plots.

mod csv_log;
mod plot;
#[cfg(feature = "cli")]
mod progress;
mod table;

pub use csv_log::{EpochLog, StepLog};
pub use plot::{Curve, LogPlot};
#[cfg(feature = "cli")]
pub use progress::ProgressBar;
pub use table::Table;
