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
    /// Half a cosine from the full rate to 0, so many times, each `growth` times as long as the one before (SGDR: Loshchilov and
    /// Hutter 2016).
    #[serde(rename = "cosine-restarts")]
    CosineRestarts {
        /// How many times.
        cycles: u32,
        /// Length of each by that of the one before.
        growth: f64,
    },
    /// A straight line from the full rate to 0.
    Linear,
    /// `end + (1 - end) (1 - t)^power` at the share t of the run.
    Polynomial {
        /// The power.
        power: f64,
        /// Share of the rate that it ends at.
        end: f64,
    },
    /// The same factor from step to step, down to `end` of the full rate.
    Exponential {
        /// Share of the rate that it ends at.
        end: f64,
    },
    /// Half a cosine up from `start` of the full rate to all of it, and half a cosine down to `end` of it (Smith and Topin 2017, as
    /// PyTorch's `OneCycleLR` has it).
    #[serde(rename = "one-cycle")]
    OneCycle {
        /// Share of the run in which it rises.
        rise: f64,
        /// Share of the rate that it starts from.
        start: f64,
        /// Share of the rate that it ends at.
        end: f64,
    },
    /// A straight line up from `start` of the full rate to all of it, and one down to `end` of it.
    Triangle {
        /// Share of the run in which it rises.
        rise: f64,
        /// Share of the rate that it starts from.
        start: f64,
        /// Share of the rate that it ends at.
        end: f64,
    },
    /// Times `factor` after every `every` share of the run.
    Step {
        /// Factor of each drop.
        factor: f64,
        /// Share of the run between drops, such as 0.3.
        every: f64,
    },
}

impl Schedule {
    /// One of each, with the numbers that it has where only its name is given.
    pub const ALL: [Self; 9] = [
        Self::Constant,
        Self::Cosine,
        Self::CosineRestarts { cycles: 3, growth: 2.0 },
        Self::Linear,
        Self::Polynomial { power: 2.0, end: 0.0 },
        Self::Exponential { end: 0.01 },
        Self::OneCycle { rise: 0.3, start: 0.04, end: 4e-6 },
        Self::Triangle { rise: 0.25, start: 0.2, end: 0.0 },
        Self::Step { factor: 0.1, every: 1.0 / 3.0 },
    ];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::CosineRestarts { .. } => "cosine-restarts",
            Self::Linear => "linear",
            Self::Polynomial { .. } => "polynomial",
            Self::Exponential { .. } => "exponential",
            Self::OneCycle { .. } => "one-cycle",
            Self::Triangle { .. } => "triangle",
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
            Self::CosineRestarts { cycles, growth } => {
                settings::check("cycles", &u64::from(*cycles), &(1..=1000))?;
                settings::check("growth", growth, &(0.1..=10.0))
            }
            Self::Polynomial { power, end } => {
                settings::check("power", power, &above(0.0))?;
                settings::check("end", end, &(0.0..=1.0))
            }
            Self::Exponential { end } => {
                settings::check("end", end, &above(0.0))?;
                settings::check("end", end, &(..=1.0))
            }
            Self::OneCycle { rise, start, end } | Self::Triangle { rise, start, end } => {
                for (name, share) in [("rise", rise), ("start", start), ("end", end)] {
                    settings::check(name, share, &(0.0..=1.0))?;
                }
                Ok(())
            }
            Self::Constant | Self::Cosine | Self::Linear => Ok(()),
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
            Schedule::Cosine => falling(done),
            Schedule::CosineRestarts { cycles, growth } => falling(within_cycle(done, cycles, growth)),
            Schedule::Polynomial { power, end } => end + (1.0 - end) * (1.0 - done).powf(power),
            Schedule::Exponential { end } => end.powf(done),
            Schedule::OneCycle { rise, start, .. } if done < rise => start + (1.0 - start) * falling(1.0 - done / rise),
            Schedule::OneCycle { rise, end, .. } => {
                let fallen = (done - rise) / (1.0 - rise).max(f64::MIN_POSITIVE);
                end + (1.0 - end) * falling(fallen.min(1.0))
            }
            Schedule::Triangle { rise, start, .. } if done < rise => start + (1.0 - start) * done / rise,
            Schedule::Triangle { rise, end, .. } => {
                let left = (1.0 - done) / (1.0 - rise).max(f64::MIN_POSITIVE);
                end + (1.0 - end) * left.min(1.0)
            }
            Schedule::Linear => 1.0 - done,
            // Rounded so that a drop due at a step is not a rounding error late.
            Schedule::Step { factor, every } => factor.powf((done / every + 1e-9).floor()),
        }
    }
}

/// Half a cosine from 1 to 0.
fn falling(share: f64) -> f64 {
    0.5 * (1.0 + (PI * share).cos())
}

/// How much of its cycle is done at the share `done` of all of them.
fn within_cycle(done: f64, cycles: u32, growth: f64) -> f64 {
    let mut length = 1.0;
    let all: f64 = (0..cycles).map(|cycle| growth.powi(cycle as i32)).sum();
    let mut place = done * all;
    for _ in 1..cycles {
        // A little early rather than a rounding error late.
        if place < length * (1.0 - 1e-9) {
            break;
        }
        place -= length;
        length *= growth;
    }
    (place / length).clamp(0.0, 1.0)
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

    /// PyTorch's `OneCycleLR(max_lr=1, total_steps=1001)`, whose peak is a step earlier.
    #[test]
    fn one_cycle_is_that_of_pytorch() {
        let schedule = Schedule::OneCycle { rise: 0.3, start: 0.04, end: 4e-6 };
        let of_pytorch = [(0, 0.04), (100, 0.281_019), (299, 0.999_998), (600, 0.610_388), (1000, 4e-6)];
        for (step, want) in of_pytorch {
            let got = schedule.factor(step, 1000, 0);
            assert!((got - want).abs() < 2e-3, "step {step}: {got}, and PyTorch has {want}");
        }
    }

    #[test]
    fn a_triangle_rises_and_falls_in_straight_lines() {
        let schedule = Schedule::Triangle { rise: 0.25, start: 0.2, end: 0.1 };
        let rates = [0, 50, 100, 250, 400].map(|step| schedule.factor(step, 400, 0));
        for (rate, want) in rates.into_iter().zip([0.2, 0.6, 1.0, 0.55, 0.1]) {
            assert!((rate - want).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn restarts_begin_at_the_full_rate() {
        let schedule = Schedule::CosineRestarts { cycles: 3, growth: 2.0 };
        let factor = |step| schedule.factor(step, 700, 0);
        assert_eq!([0, 100, 300].map(factor), [1.0; 3]);
        assert!([99, 299, 699].iter().all(|step| factor(*step) < 0.001));
        assert!((factor(50) - 0.5).abs() < 1e-9 && (factor(200) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn polynomials_and_exponentials_end_where_they_should() {
        let polynomial = Schedule::Polynomial { power: 2.0, end: 0.1 };
        assert_eq!([0, 50, 100].map(|step| polynomial.factor(step, 100, 0)), [1.0, 0.325, 0.1]);
        let exponential = Schedule::Exponential { end: 0.01 };
        assert!((exponential.factor(50, 100, 0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn step_drops_at_each_share() {
        let schedule = Schedule::Step { factor: 0.1, every: 1.0 / 3.0 };
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
