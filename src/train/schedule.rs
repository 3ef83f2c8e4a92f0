//! Schedules of the learning rate.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate varies over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// The same throughout.
    #[default]
    Constant,
    /// Half a cosine from the full rate to 0 (Loshchilov and Hutter 2016).
    Cosine,
    /// A straight line from the full rate to 0.
    Linear,
    /// Times `factor` after every `every` share of the run.
    Step {
        /// Factor of each drop.
        factor: f64,
        /// Share of the run between drops, such as 0.3.
        every: f64,
    },
}

impl Schedule {
    /// The names that [`Schedule::from_name`] knows.
    pub const NAMES: [&str; 4] = ["constant", "cosine", "linear", "step"];

    /// The schedule of that name; `step` drops tenfold after each third of the run.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "constant" => Some(Schedule::Constant),
            "cosine" => Some(Schedule::Cosine),
            "linear" => Some(Schedule::Linear),
            "step" => Some(Schedule::Step { factor: 0.1, every: 1.0 / 3.0 }),
            _ => None,
        }
    }

    /// Factor of the learning rate at `step` (counted from 0) of a run of `total` steps, the first `warmup` of which
    /// rise linearly to 1.
    pub fn factor(&self, step: u64, total: u64, warmup: u64) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let done = done.min(1.0);
        match *self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => 0.5 * (1.0 + (PI * done).cos()),
            Schedule::Linear => 1.0 - done,
            // Rounded so that a drop due at a step is not a rounding error late.
            Schedule::Step { factor, every } => factor.powf((done / every + 1e-9).floor()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine_to_zero() {
        let factor = |step| Schedule::Cosine.factor(step, 110, 10);
        assert_eq!(factor(0), 0.1);
        assert_eq!(factor(9), 1.0);
        assert_eq!(factor(10), 1.0);
        assert!((factor(60) - 0.5).abs() < 1e-12);
        assert!(factor(109) < 0.001);
    }

    #[test]
    fn step_drops_at_each_share() {
        let schedule = Schedule::from_name("step").unwrap();
        let factor = |step| schedule.factor(step, 300, 0);
        assert_eq!(factor(99), 1.0);
        assert!((factor(100) - 0.1).abs() < 1e-12);
        assert!((factor(299) - 0.01).abs() < 1e-12);
    }
}
