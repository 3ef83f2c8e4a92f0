//! What a run shows and logs: observers of training that write CSV files and draw a progress bar, tables, plots, figures and pages,
//! and models layer by layer.

mod csv_log;
#[cfg(feature = "cli")]
mod dashboard;
mod diagnosis;
mod events;
#[cfg(feature = "cli")]
pub mod figure;
mod history;
#[cfg(feature = "cli")]
pub mod page;
mod plot;
#[cfg(feature = "cli")]
mod progress;
mod summary;
mod table;
#[cfg(feature = "cli")]
mod tensorboard;
mod vitals_log;

pub use csv_log::{EpochLog, StepLog};
#[cfg(feature = "cli")]
pub use dashboard::{About, Dashboard};
pub use diagnosis::{Diagnosis, ImageLosses, Symptom};
pub use events::EventLog;
pub use history::History;
pub use plot::{Curve, LogPlot};
#[cfg(feature = "cli")]
pub use progress::ProgressBar;
pub use summary::{LayerRow, Summary};
pub use table::{Table, grouped};
#[cfg(feature = "cli")]
pub use tensorboard::TensorBoardLog;
pub use vitals_log::{VitalsLog, read_vitals};
