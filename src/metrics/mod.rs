//! Figures that judge predictions: of decisions, of rankings, of probabilities, and how sure one can be of them.
//!
//! Names and values are those of scikit-learn where it has them. What is undefined, such as the recall of a class without
//! images, is not a number.

mod calibration;
mod confusion;
mod interval;
mod ranking;

pub use calibration::{Bin, Reliability, temperature};
pub use confusion::{Average, ClassScores, Confusion, Pair};
pub use interval::{Interval, McNemar, bootstrap, mcnemar};
pub use ranking::{Point, Ranking};

/// `part / whole`, and not a number where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { f64::NAN } else { part / whole }
}

/// The mean of the values that are defined.
pub(crate) fn mean_of_defined(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) =
        values.filter(|value| !value.is_nan()).fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    ratio(sum, count)
}
