//! A plan as a table.

use std::fmt;

use super::{Plan, Step, Work};
use crate::tensor::TensorType;

/// The plan as a table: a row a step with its layer, operation, kernel, output, the bytes that it must move at least, those
/// that it moves, and its flop; the sums below.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 8]> = self
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| {
                let (kernel, output) = match &step.work {
                    Work::Copy => ("copy".to_string(), format!("[{}]", step.outputs[0].elements)),
                    Work::Run { signature, kernel, .. } => (
                        kernel.as_ref().map_or("native".to_string(), |k| k.name.clone()),
                        signature.outputs.chunk_by(|a, b| a == b).map(repeated).collect::<Vec<_>>().join(" "),
                    ),
                };
                let name = step.description();
                [
                    at.to_string(),
                    step.layer.clone(),
                    name,
                    kernel,
                    output,
                    quantity(step.bytes()),
                    quantity(step.moved()),
                    quantity(step.flop()),
                ]
            })
            .collect();
        let head = ["#", "layer", "op", "kernel", "output", "floor bytes", "moved", "flop"].map(String::from);
        let mut widths = head.clone().map(|h| h.len());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&head).chain(&rows) {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let right = column == 0 || column >= 5;
                if right {
                    write!(f, "{cell:>width$}  ")?;
                } else {
                    write!(f, "{cell:<width$}  ")?;
                }
            }
            writeln!(f)?;
        }
        let sum = |of: fn(&Step) -> u64| self.steps.iter().map(of).sum::<u64>();
        writeln!(
            f,
            "{} steps in {} dispatches, {} flop, {} moved, of which {} at least",
            self.steps.len(),
            self.steps.iter().map(Step::dispatches).sum::<usize>(),
            quantity(sum(Step::flop)),
            bytes_text(sum(Step::moved)),
            bytes_text(sum(Step::bytes)),
        )?;
        if self.prepared > 0 {
            writeln!(f, "the first {} steps run once, and again when variables changed", self.prepared)?;
        }
        writeln!(
            f,
            "memory: {} for values that share buffers, {:.0}% of the {} they sum up to; {} for variables, inputs and constants",
            bytes_text(self.memory.planned),
            100.0 * self.memory.planned as f64 / self.memory.values.max(1) as f64,
            bytes_text(self.memory.values),
            bytes_text(self.memory.resident),
        )
    }
}

/// A type, and how often it follows itself.
fn repeated(types: &[TensorType]) -> String {
    match types.len() {
        1 => types[0].to_string(),
        count => format!("{count} x {}", types[0]),
    }
}

/// A count with a decimal prefix, such as `1.23 G`.
fn quantity(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.2} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

fn bytes_text(n: u64) -> String {
    if n < 1 << 20 {
        format!("{:.1} KiB", n as f64 / 1024.0)
    } else {
        format!("{:.1} MiB", n as f64 / (1 << 20) as f64)
    }
}
