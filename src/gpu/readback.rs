//! Bringing the outputs of runs back to the host without stalling the device.

use std::collections::VecDeque;

use super::{
    Gpu, GpuError,
    buffer::{self, padded},
    program::Program,
    wait::Signal,
};
use crate::{plan::Outputs, tensor::TensorType};

/// Runs that may be under way at once: the host prepares some while the device works on another.
const IN_FLIGHT: usize = 4;

/// A ring of mappable buffers, one for each run under way.
#[derive(Debug)]
pub(super) struct Readback {
    /// Name, type and offset in bytes of each output.
    layout: Vec<(String, TensorType, u64)>,
    free: Vec<wgpu::Buffer>,
    under_way: VecDeque<Run>,
    finished: Vec<Outputs>,
}

#[derive(Debug)]
struct Run {
    buffer: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    /// The device is done and the buffer is mapped.
    done: Signal,
}

impl Readback {
    /// For the outputs of `program`.
    pub fn new(gpu: &Gpu, program: &Program) -> Result<Self, GpuError> {
        let mut bytes = 0;
        let mut layout = Vec::new();
        for (name, _, ty) in &program.plan.outputs {
            layout.push((name.clone(), ty.clone(), bytes));
            bytes += padded(ty.bytes() as u64);
        }
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let free = (0..IN_FLIGHT).map(|_| gpu.buffer("readback", bytes, usage)).collect::<Result<_, _>>()?;
        Ok(Self { layout, free, under_way: VecDeque::new(), finished: Vec::new() })
    }

    /// A buffer for the next run; where all are in use, waits for the oldest run.
    pub async fn acquire(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer, GpuError> {
        self.harvest(gpu)?;
        if self.free.is_empty() {
            self.wait_for_oldest(gpu).await?;
        }
        self.free.pop().ok_or_else(|| GpuError::invalid("reading outputs", "no buffer became free"))
    }

    /// Records the copies of the outputs into `buffer`.
    pub fn encode(&self, program: &Program, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) {
        for ((_, location, _), (_, _, offset)) in program.plan.outputs.iter().zip(&self.layout) {
            let from = program.window(location);
            encoder.copy_buffer_to_buffer(&from.buffer, from.offset, buffer, *offset, padded(from.bytes));
        }
    }

    /// Takes note of a run that was submitted with `buffer`.
    pub fn submitted(&mut self, gpu: &Gpu, buffer: wgpu::Buffer, submission: wgpu::SubmissionIndex) {
        let done = Signal::default();
        let set = done.clone();
        if self.layout.is_empty() {
            gpu.queue.on_submitted_work_done(move || set.set());
        } else {
            // Failure shows when the range is asked for.
            buffer.map_async(wgpu::MapMode::Read, .., move |_| set.set());
        }
        self.under_way.push_back(Run { buffer, submission, done });
    }

    /// The outputs of finished runs that were not taken yet; with `wait`, of all runs.
    pub async fn collect(&mut self, gpu: &Gpu, wait: bool) -> Result<Vec<Outputs>, GpuError> {
        gpu.poll()?;
        self.harvest(gpu)?;
        while wait && !self.under_way.is_empty() {
            self.wait_for_oldest(gpu).await?;
        }
        Ok(std::mem::take(&mut self.finished))
    }

    async fn wait_for_oldest(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        let Some(run) = self.under_way.front() else { return Ok(()) };
        gpu.finished(Some(run.submission.clone()), &run.done).await?;
        self.harvest(gpu)
    }

    /// Reads the runs at the front that are done.
    fn harvest(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        while self.under_way.front().is_some_and(|run| run.done.is_set()) {
            let Some(run) = self.under_way.pop_front() else { break };
            self.finished.push(self.read(gpu, &run.buffer)?);
            self.free.push(run.buffer);
        }
        Ok(())
    }

    fn read(&self, gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Outputs, GpuError> {
        if self.layout.is_empty() {
            return Ok(Outputs::new());
        }
        let mapped = match buffer.get_mapped_range(..) {
            Ok(mapped) => mapped,
            Err(error) => {
                gpu.check()?;
                return Err(GpuError::invalid("reading outputs", error.to_string()));
            }
        };
        let outputs = self
            .layout
            .iter()
            .map(|(name, ty, offset)| (name.clone(), buffer::tensor(ty, &mapped[*offset as usize..])))
            .collect();
        drop(mapped);
        buffer.unmap();
        Ok(outputs)
    }
}
