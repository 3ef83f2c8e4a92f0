//! Schedules of the learning rate.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::settings::{self, above};

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
    /// One of each; `step` drops tenfold after each third of the run.
    pub const ALL: [Self; 4] =
        [Self::Constant, Self::Cosine, Self::Linear, Self::Step { factor: 0.1, every: 1.0 / 3.0 }];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Step { .. } => "step",
        }
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// With a message that names the number, its value and the range.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Step { factor, every } => {
                settings::check("factor", factor, &(0.0..))?;
                settings::check("every", every, &above(0.0))
            }
            _ => Ok(()),
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

#[cfg(feature = "cli")]
impl clap::ValueEnum for Schedule {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
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
        let schedule = Schedule::ALL[3];
        let factor = |step| schedule.factor(step, 300, 0);
        assert_eq!(factor(99), 1.0);
        assert!((factor(100) - 0.1).abs() < 1e-12);
        assert!((factor(299) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_schedule_is_read_by_its_name_and_checked() {
        for schedule in Schedule::ALL {
            assert!(toml::to_string(&schedule).unwrap().contains(&format!("name = \"{}\"", schedule.name())));
            assert_eq!(schedule.check(), Ok(()));
        }
        let error = |factor, every| Schedule::Step { factor, every }.check().unwrap_err();
        assert!(error(0.5, 0.0).contains("`every` is 0 and must be above 0"));
        assert!(error(f64::NAN, 0.5).contains("`factor` is NaN"));
    }
}
