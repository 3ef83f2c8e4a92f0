//! Where the time of a step goes.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value, json};

use super::{Cost, Program, Roofline};
use crate::{plan::Timing, report::Table, train::TrainError};

/// The time of each dispatch of a step, the median over some runs, with what it had to do.
#[derive(Clone, Debug)]
pub struct Profile {
    device: String,
    roofline: Roofline,
    rows: Vec<Row>,
    host: Option<Duration>,
}

/// A step of a plan as it ran, or all steps of one operation together.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number of the step in the plan.
    pub step: usize,
    /// What it had to do.
    pub cost: Cost,
    /// Its dispatches.
    pub dispatches: Vec<Timing>,
    /// The least time that it could take.
    pub floor: Duration,
}

impl Row {
    /// How long its dispatches ran.
    pub fn time(&self) -> Duration {
        self.dispatches.iter().map(|timing| timing.time).sum()
    }
}

/// Sums of some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: usize,
    time: Duration,
    floor: Duration,
    flop: u64,
    bytes: u64,
}

impl Sum {
    fn add(mut self, row: &Row) -> Self {
        self.count += 1;
        self.time += row.time();
        self.floor += row.floor;
        self.flop += row.cost.flop;
        self.bytes += row.cost.bytes;
        self
    }

    fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        rows.into_iter().fold(Self::default(), Self::add)
    }

    /// Time, its share of `total`, GFLOP/s, GB/s and share of the floor.
    fn cells(&self, total: Duration) -> [String; 5] {
        [
            format!("{:.3} ms", 1e3 * self.time.as_secs_f64()),
            percent(ratio(self.time, total)),
            rate(self.flop, self.time),
            rate(self.bytes, self.time),
            percent(ratio(self.floor, self.time)),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "time_us": micros(self.time), "floor_us": micros(self.floor), "floor_share": ratio(self.floor, self.time),
            "gflop_per_s": per_second(self.flop, self.time), "gb_per_s": per_second(self.bytes, self.time),
        })
    }
}

impl Profile {
    /// Runs the program `runs` times after a warm-up and takes the median of each dispatch.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take(program: &mut Program, roofline: Roofline, runs: usize) -> Result<Self, TrainError> {
        program.run(2)?;
        let runs = (0..runs.max(1)).map(|_| program.profile()).collect::<Result<Vec<_>, _>>()?;
        let mut rows: Vec<Row> = program
            .costs()
            .iter()
            .enumerate()
            .map(|(step, cost)| {
                let floor = roofline.floor(cost.flop, cost.bytes);
                Row { step, cost: cost.clone(), dispatches: Vec::new(), floor }
            })
            .collect();
        for timing in median(&runs) {
            rows[timing.step].dispatches.push(timing);
        }
        // What the warm-up prepared is over.
        rows.retain(|row| !row.dispatches.is_empty());
        Ok(Self { device: program.device(), roofline, rows, host: program.host_time()? })
    }

    /// The steps in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What handing the step to a GPU takes of this processor's time, in all and for each dispatch.
    pub fn host(&self) -> Option<[Duration; 2]> {
        let dispatches: usize = self.rows.iter().map(|row| row.dispatches.len()).sum();
        self.host.map(|time| [time, time / dispatches.max(1) as u32])
    }

    /// Operations with the sums of their steps, longest first.
    fn operations(&self) -> Vec<(&str, Sum)> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for row in &self.rows {
            let sum = sums.entry(&row.cost.op).or_default();
            *sum = sum.add(row);
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.time));
        sums
    }

    /// All figures as one object.
    pub fn json(&self) -> Value {
        let object = |mut fields: Value, sum: &Sum| {
            if let (Some(fields), Value::Object(figures)) = (fields.as_object_mut(), sum.json()) {
                fields.extend(figures);
            }
            fields
        };
        let dispatch = |timing: &Timing| json!({"shader": timing.name, "time_us": micros(timing.time)});
        let step = |row: &Row| {
            let Cost { layer, op, kernel, flop, bytes } = &row.cost;
            let dispatches: Vec<Value> = row.dispatches.iter().map(dispatch).collect();
            let fields = json!({
                "step": row.step, "layer": layer, "op": op, "kernel": kernel, "flop": flop, "bytes": bytes,
                "dispatches": dispatches,
            });
            object(fields, &Sum::of([row]))
        };
        let operation = |(op, sum): &(&str, Sum)| object(json!({"op": op, "steps": sum.count}), sum);
        json!({
            "device": self.device,
            "peak": self.roofline,
            "total": Sum::of(&self.rows).json(),
            "host": self.host().map(|[time, each]| json!({"time_us": micros(time), "dispatch_us": micros(each)})),
            "ops": self.operations().iter().map(operation).collect::<Vec<_>>(),
            "steps": self.rows.iter().map(step).collect::<Vec<_>>(),
        })
    }

    /// The run as an object of the Trace Event format, which Perfetto and chrome://tracing open: a slice a dispatch, in
    /// microseconds.
    pub fn trace(&self) -> Value {
        let named =
            |kind: &str, name: &str| json!({"ph": "M", "pid": 1, "tid": 1, "name": kind, "args": {"name": name}});
        let mut events = vec![named("process_name", &self.device), named("thread_name", "dispatches")];
        for row in &self.rows {
            let Cost { layer, op, kernel, flop, bytes } = &row.cost;
            let time = row.time();
            events.extend(row.dispatches.iter().map(|timing| {
                json!({
                    "ph": "X", "pid": 1, "tid": 1, "cat": op, "name": format!("{op} {layer}"),
                    "ts": micros(timing.start), "dur": micros(timing.time),
                    "args": {
                        "step": row.step, "kernel": kernel, "shader": timing.name, "flop": flop, "bytes": bytes,
                        "gflop_per_s": per_second(*flop, time), "gb_per_s": per_second(*bytes, time),
                        "floor_share": ratio(row.floor, time),
                    },
                })
            }));
        }
        json!({"displayTimeUnit": "ns", "traceEvents": events})
    }
}

/// Each dispatch with its median time over runs of the same dispatches, one after the other as in the last.
fn median(runs: &[Vec<Timing>]) -> Vec<Timing> {
    let Some(last) = runs.last() else { return Vec::new() };
    let mut end = Duration::ZERO;
    let dispatch = |(at, timing): (usize, &Timing)| {
        let mut times: Vec<Duration> = runs.iter().map(|run| run[at].time).collect();
        times.sort();
        let time = times[times.len() / 2];
        let start = end;
        end += time;
        Timing { start, time, ..timing.clone() }
    };
    last.iter().enumerate().map(dispatch).collect()
}

/// The table by step, the table by operation, and the sum.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = Sum::of(&self.rows);
        let mut steps = Table::new(["#", "<layer", "<op", "<kernel", "time", "share", "GFLOP/s", "GB/s", "of floor"]);
        for row in &self.rows {
            let Cost { layer, op, kernel, .. } = &row.cost;
            let [time, share, flop, bytes, floor] = Sum::of([row]).cells(sum.time);
            let kernel = match row.dispatches.len() {
                0 | 1 => kernel.clone(),
                many => format!("{kernel} ({many} dispatches)"),
            };
            steps.row([row.step.to_string(), layer.clone(), op.clone(), kernel, time, share, flop, bytes, floor]);
        }
        let mut operations = Table::new(["<op", "steps", "time", "share", "GFLOP/s", "GB/s", "of floor"]);
        for (op, one) in self.operations() {
            let [time, share, flop, bytes, floor] = one.cells(sum.time);
            operations.row([op.to_string(), one.count.to_string(), time, share, flop, bytes, floor]);
        }
        let [time, _, flop, bytes, floor] = sum.cells(sum.time);
        writeln!(f, "{steps}\n{operations}\n{time} in all: {flop} GFLOP/s, {bytes} GB/s, {floor} of the floor")?;
        if let Some([time, each]) = self.host().map(|times| times.map(micros)) {
            writeln!(f, "host    {time:.0} us to encode and submit the step, {each:.2} us a dispatch")?;
        }
        writeln!(f, "device  {} ({})", self.device, self.roofline)
    }
}

fn micros(time: Duration) -> f64 {
    1e6 * time.as_secs_f64()
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64().max(1e-12)
}

/// In units of 1e9 a second.
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / 1e9 / time.as_secs_f64().max(1e-12)
}

fn rate(count: u64, time: Duration) -> String {
    if count == 0 { "-".to_string() } else { format!("{:.1}", per_second(count, time)) }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::CpuExecutor, models, train::Recipe};

    fn profile() -> Profile {
        let model = models::build("lenet5", [28, 28, 1], 10).unwrap();
        let recipe = Recipe { batch_size: Some(2), ..Recipe::default() };
        let mut program = Program::training(Box::new(CpuExecutor::new()), &model, &recipe).unwrap();
        Profile::take(&mut program, Roofline { flop: 1e11, bytes: 1e10 }, 3).unwrap()
    }

    #[test]
    fn operations_sum_up_to_the_whole() {
        let profile = profile();
        let whole = Sum::of(profile.rows());
        let operations = profile.operations();
        assert_eq!(operations.iter().map(|(_, sum)| sum.count).sum::<usize>(), profile.rows().len());
        assert_eq!(operations.iter().map(|(_, sum)| sum.time).sum::<Duration>(), whole.time);
        assert_eq!(operations.iter().map(|(_, sum)| sum.flop).sum::<u64>(), whole.flop);
        assert!(operations.is_sorted_by_key(|(_, sum)| std::cmp::Reverse(sum.time)));
        let text = profile.to_string();
        assert!(text.contains("conv2d") && text.contains("of the floor"), "{text}");
    }

    #[test]
    fn slices_of_a_trace_do_not_overlap() {
        let trace = profile().trace();
        let mut end = 0.0;
        let mut slices = 0;
        for event in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
            let number = |key: &str| event[key].as_f64().unwrap();
            assert!(number("ts") >= end - 1e-6);
            end = number("ts") + number("dur");
            slices += 1;
        }
        assert_eq!(slices, profile().rows().len());
    }

    #[test]
    fn dispatches_have_the_median_of_their_runs() {
        let timing =
            |time| Timing { step: 0, name: String::new(), start: Duration::ZERO, time: Duration::from_secs(time) };
        let runs = [[1, 9], [3, 7], [2, 8]].map(|times| times.map(timing).to_vec());
        let median = median(&runs);
        assert_eq!((median[0].time, median[1].time, median[1].start), {
            let second = Duration::from_secs;
            (second(2), second(8), second(2))
        });
    }
}
