//! How long each dispatch of a plan takes.

use std::time::{Duration, Instant};

use super::{Gpu, GpuError, buffer, program::Command, program::Program};
use crate::plan::Timing;

/// Commands timed by one query set: two timestamps each.
const BATCH: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Runs the commands of the steps of `program` that `wanted` names, timing each.
pub(super) async fn profile(
    gpu: &Gpu,
    program: &Program,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Timing>, GpuError> {
    let commands: Vec<&(usize, Command)> = program.commands.iter().filter(|(step, _)| wanted(*step)).collect();
    let mut timings: Vec<Timing> = Vec::with_capacity(commands.len());
    let on_device = |command: &Command| gpu.has_timestamps() && (command.is_dispatch() || gpu.times_copies());
    for run in commands.chunk_by(|(_, a), (_, b)| on_device(a) && on_device(b)) {
        for batch in run.chunks(BATCH) {
            let times =
                if on_device(&batch[0].1) { device_times(gpu, batch).await? } else { host_times(gpu, batch).await? };
            // The clocks of two batches do not compare: one is taken to begin where the one before ended.
            let end = timings.last().map_or(Duration::ZERO, |last| last.start + last.time);
            timings.extend(batch.iter().zip(times).map(|((step, command), (start, time))| {
                let name = match command {
                    Command::Dispatch { name, .. } => name.clone(),
                    Command::Copy { .. } => "copy".to_string(),
                };
                Timing { step: *step, name, start: end + start, time }
            }));
        }
    }
    Ok(timings)
}

/// Each command between two timestamps, a dispatch in a pass of its own: beginning, from that of the first, and length.
pub(super) async fn device_times(
    gpu: &Gpu,
    commands: &[&(usize, Command)],
) -> Result<Vec<(Duration, Duration)>, GpuError> {
    let count = 2 * commands.len() as u32;
    let bytes = u64::from(count) * 8;
    let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
    let resolved = gpu.buffer("timestamps", bytes, usage)?;
    gpu.catch("timing", || {
        let query_set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for (first, (_, command)) in (0..count).step_by(2).zip(commands) {
            if !command.is_dispatch() {
                encoder.write_timestamp(&query_set, first);
                command.copy(&mut encoder);
                encoder.write_timestamp(&query_set, first + 1);
                continue;
            }
            let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                query_set: &query_set,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            command.dispatch(&mut encoder.begin_compute_pass(&descriptor));
        }
        encoder.resolve_query_set(&query_set, 0..count, &resolved, 0);
        gpu.queue.submit([encoder.finish()]);
    })?;
    let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&buffer::read(gpu, &resolved, 0, bytes).await?);
    let period = f64::from(gpu.queue.get_timestamp_period());
    let between = |from: u64, to: u64| Duration::from_nanos((to.saturating_sub(from) as f64 * period) as u64);
    Ok(ticks.chunks_exact(2).map(|pair| (between(ticks[0], pair[0]), between(pair[0], pair[1]))).collect())
}

/// Each command submitted alone and waited for: beginning and length.
async fn host_times(gpu: &Gpu, commands: &[&(usize, Command)]) -> Result<Vec<(Duration, Duration)>, GpuError> {
    let mut times = Vec::with_capacity(commands.len());
    let begun = Instant::now();
    for (_, command) in commands {
        gpu.wait(None).await?;
        let start = Instant::now();
        let submission = gpu.catch("timing", || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            if command.is_dispatch() {
                command.dispatch(&mut encoder.begin_compute_pass(&Default::default()));
            } else {
                command.copy(&mut encoder);
            }
            gpu.queue.submit([encoder.finish()])
        })?;
        gpu.wait(Some(submission)).await?;
        times.push((start - begun, start.elapsed()));
    }
    Ok(times)
}
