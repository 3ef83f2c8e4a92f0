use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Cost, Program,
    probe::{Copy, Fma},
};
use crate::{
    plan::{Executor, Target},
    train::TrainError,
};

/// Elements of the copy probe, at most: 128 MiB each way, more than caches hold and what any GPU binds.
const COPIED: usize = 32 << 20;

/// The probe of arithmetic is made longer until its rate rises no more; a run that takes less than this does not tell.
const LONG_ENOUGH: Duration = Duration::from_millis(5);

/// How long a run of the probe may take before it is made no longer in any case.
const TOO_LONG: Duration = Duration::from_millis(250);

/// What a device can do at best, measured by two probes: many independent chains of multiplications and additions, and
/// a copy that is larger than caches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// Floating-point operations a second.
    #[serde(rename = "flop_per_s")]
    pub flop: f64,
    /// Bytes a second, read and written together.
    #[serde(rename = "bytes_per_s")]
    pub bytes: f64,
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peak by probe: {:.1} GFLOP/s, {:.1} GB/s", self.flop / 1e9, self.bytes / 1e9)
    }
}

impl Roofline {
    /// Measures the device that `open` makes executors on, in some seconds.
    ///
    /// # Errors
    /// If the device fails.
    pub fn probe(open: impl Fn() -> Box<dyn Executor>) -> Result<Self, TrainError> {
        let executor = open();
        let elements = match executor.target() {
            Target::Cpu => COPIED,
            Target::Gpu(limits, _) => COPIED.min((limits.max_binding / 4) as usize),
        };
        let time = Duration::from_millis(400);
        let mut copy = Program::kernel(executor, &[[elements].into()], |graph, inputs| {
            Ok(vec![graph.apply1(Copy, &[inputs[0]])?])
        })?;
        let bytes = 8.0 * elements as f64 / copy.time(time)?.shortest().as_secs_f64();

        drop(copy);

        let (mut rounds, mut flop) = (16, 0.0_f64);
        loop {
            let probe = Fma { rounds };
            let mut program = Program::kernel(open(), &[[Fma::ELEMENTS].into()], |graph, inputs| {
                Ok(vec![graph.apply1(probe, &[inputs[0]])?])
            })?;
            let shortest = program.time(time)?.shortest();
            let rate = probe.flop() as f64 / shortest.as_secs_f64();
            let settled = shortest >= LONG_ENOUGH && rate < 1.05 * flop;
            flop = flop.max(rate);
            if settled || shortest >= TOO_LONG {
                return Ok(Self { flop, bytes });
            }
            rounds *= 4;
        }
    }

    /// The least time that so much work takes here: that of the arithmetic or of the memory, whichever is longer.
    pub fn floor(&self, flop: u64, bytes: u64) -> Duration {
        Duration::from_secs_f64((flop as f64 / self.flop).max(bytes as f64 / self.bytes))
    }

    /// The sum of the floors of steps, one after the other.
    pub fn floor_of(&self, steps: &[Cost]) -> Duration {
        steps.iter().map(|step| self.floor(step.flop, step.bytes)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_arithmetic_and_memory_is_the_floor() {
        let roofline = Roofline { flop: 100.0, bytes: 10.0 };
        assert_eq!(roofline.floor(100, 5), Duration::from_secs(1));
        assert_eq!(roofline.floor(100, 20), Duration::from_secs(2));
        let step = |flop, bytes| Cost { layer: String::new(), op: String::new(), kernel: String::new(), flop, bytes };
        assert_eq!(roofline.floor_of(&[step(100, 5), step(100, 20)]), Duration::from_secs(3));
    }
}
