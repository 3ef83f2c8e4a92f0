//! Measuring: the named workloads as programs on a device, how long they take, what the device could do at best, and
//! where the time of a step goes.

mod cases;
mod probe;
mod profile;
mod program;
mod report;
mod roofline;

pub use cases::{Case, Scale, WORKLOADS, kernels, workload};
pub use probe::examples;
pub use profile::{Profile, Row};
pub use program::{Cost, Program, Timed, synthetic_normalisation};
pub use report::{Figure, Report};
pub use roofline::Roofline;
