//! The figures of a benchmark, as they are kept and compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Roofline;
use crate::report::Table;

/// What a run of the benchmark measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The program and its version.
    pub program: String,
    /// Name of the device.
    pub device: String,
    /// Threads that the CPU path computes with.
    pub threads: usize,
    /// The most memory that the process had held once all was measured, in MiB, where the system says so.
    pub peak_rss_mib: Option<f64>,
    /// What the device can do at best.
    pub peak: Roofline,
    /// The figures.
    pub results: Vec<Figure>,
}

/// One figure: a median after a warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The workload, or `kernels`.
    pub workload: String,
    /// What was done.
    pub what: String,
    /// Side of the images or of the matrices.
    pub size: usize,
    /// Images a step, where there are images.
    pub batch: Option<usize>,
    /// The figure in its unit; larger is better.
    pub value: f64,
    /// `images/s`, `GFLOP/s`, or `GB/s` where nothing is to be computed to speak of.
    pub unit: String,
    /// The least time that the device could take, by its roofline, as a share of the time taken. What lies in caches
    /// moves faster than the roofline's memory, and some algorithms do with fewer operations than the usual one, so
    /// that it can pass 1.
    pub floor_share: f64,
    /// Seconds of a step or call.
    pub seconds: f64,
    /// Operations of the usual algorithm a second, in units of 1e9.
    pub gflop_per_s: f64,
    /// Bytes a second, in units of 1e9, where each value is read once and written once by each dispatch.
    pub gb_per_s: f64,
    /// Seconds to plan, compile and run the first step on a device that is open, of models.
    pub first_step_s: Option<f64>,
    /// The figure as a multiple of the one it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Figure {
    fn key(&self) -> (&str, &str, usize, Option<usize>) {
        (&self.workload, &self.what, self.size, self.batch)
    }
}

impl Report {
    /// Sets the ratio of each figure that `earlier` has too, and returns how many those are.
    pub fn compare(&mut self, earlier: &Report) -> usize {
        let mut found = 0;
        for figure in &mut self.results {
            let other = earlier.results.iter().find(|other| other.key() == figure.key() && other.unit == figure.unit);
            figure.ratio = other.map(|other| figure.value / other.value);
            found += usize::from(figure.ratio.is_some());
        }
        found
    }
}

/// The figures as a table, then the device, its peak and the memory.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "<workload",
            "<what",
            "size",
            "batch",
            "figure",
            "<",
            "time",
            "GFLOP/s",
            "GB/s",
            "of floor",
            "first step",
            "ratio",
        ]);
        for figure in &self.results {
            let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
            table.row([
                figure.workload.clone(),
                figure.what.clone(),
                figure.size.to_string(),
                optional(figure.batch.map(|batch| batch.to_string())),
                format!("{:.1}", figure.value),
                figure.unit.clone(),
                format!("{:.3} ms", 1e3 * figure.seconds),
                format!("{:.1}", figure.gflop_per_s),
                format!("{:.1}", figure.gb_per_s),
                format!("{:.0}%", 100.0 * figure.floor_share),
                optional(figure.first_step_s.map(|seconds| format!("{seconds:.2} s"))),
                optional(figure.ratio.map(|ratio| format!("{ratio:.2}"))),
            ]);
        }
        writeln!(f, "{table}\ndevice  {} ({})", self.device, self.peak)?;
        if let Some(peak) = self.peak_rss_mib {
            writeln!(f, "memory  {peak:.0} MiB held at most")?;
        }
        let ratios: Vec<f64> = self.results.iter().filter_map(|figure| figure.ratio).collect();
        if !ratios.is_empty() {
            let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
            writeln!(f, "ratio   {mean:.3} to the baseline, geometric mean of {}", ratios.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(&str, usize, f64)]) -> Report {
        let figure = |&(workload, size, value): &(&str, usize, f64)| Figure {
            workload: workload.to_string(),
            what: "gemm".to_string(),
            size,
            batch: None,
            value,
            unit: "GFLOP/s".to_string(),
            floor_share: 0.5,
            seconds: 1.0,
            gflop_per_s: value,
            gb_per_s: 1.0,
            first_step_s: None,
            ratio: None,
        };
        Report {
            program: "gabor".to_string(),
            device: "CPU".to_string(),
            threads: 2,
            peak_rss_mib: Some(100.0),
            peak: Roofline { flop: 1e11, bytes: 1e10 },
            results: figures.iter().map(figure).collect(),
        }
    }

    #[test]
    fn equal_figures_are_compared() {
        let mut new = report(&[("W5", 512, 300.0), ("W5", 1024, 100.0), ("W5", 2048, 100.0)]);
        let old = report(&[("W5", 512, 100.0), ("W5", 2048, 400.0), ("W6", 1024, 100.0)]);
        assert_eq!(new.compare(&old), 2);
        assert_eq!(new.results.iter().map(|figure| figure.ratio).collect::<Vec<_>>(), [Some(3.0), None, Some(0.25)]);
        assert!(new.to_string().contains("ratio   0.866 to the baseline, geometric mean of 2"), "{new}");
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report(&[("W5", 512, 300.0)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert!(!text.contains("ratio"), "{text}");
    }
}
