//! Moving tensors into and out of buffers.

use super::{Gpu, GpuError, pipeline::Pipeline, wait::Signal};
use crate::tensor::{DType, Tensor, TensorType};

/// Bytes rounded up to what copies and bindings can span: bytes are packed four to a word.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT).max(wgpu::COPY_BUFFER_ALIGNMENT)
}

/// Writes `bytes` at `offset`, before what is submitted next. What a last partial word held behind them becomes 0.
pub(super) fn write(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    let whole = bytes.len() - bytes.len() % 4;
    if whole > 0 {
        gpu.queue.write_buffer(buffer, offset, &bytes[..whole]);
    }
    if whole < bytes.len() {
        let mut last = [0; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.queue.write_buffer(buffer, offset + whole as u64, &last);
    }
}

/// Reads `bytes` at `offset`, after everything submitted before.
pub(super) async fn read(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>, GpuError> {
    let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
    let staging = gpu.buffer("readback", bytes, usage)?;
    let done = Signal::default();
    let submission = gpu.catch("reading a buffer", || {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, padded(bytes));
        let submission = gpu.queue.submit([encoder.finish()]);
        // Failure shows when the range is asked for.
        let set = done.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |_| set.set());
        submission
    })?;
    gpu.finished(Some(submission), &done).await?;
    let mapped =
        staging.get_mapped_range(..).map_err(|error| GpuError::invalid("reading a buffer", error.to_string()))?;
    Ok(mapped[..bytes as usize].to_vec())
}

/// The tensor whose elements are `bytes`, as a buffer held them.
pub(super) fn tensor(ty: &TensorType, bytes: &[u8]) -> Tensor {
    let bytes = &bytes[..ty.bytes()];
    match ty.dtype {
        DType::F32 => Tensor::f32(&ty.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U32 => Tensor::u32(&ty.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U8 => Tensor::u8(&ty.shape, bytes.to_vec()),
        DType::F16 => Tensor::f16(&ty.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::I8 => Tensor::i8(&ty.shape, bytemuck::pod_collect_to_vec(bytes)),
    }
}

impl Gpu {
    /// Fails where one binding cannot span `bytes`.
    pub(super) fn check_binding(&self, what: &str, bytes: u64) -> Result<(), GpuError> {
        let limit = self.limits().max_binding;
        if bytes > limit { Err(GpuError::TooLarge { what: what.into(), bytes, limit }) } else { Ok(()) }
    }
}

impl Pipeline {
    /// A bind group of these (buffer, offset in bytes, bytes), in order of their binding numbers.
    pub fn bind<'a>(&self, gpu: &Gpu, bindings: impl Iterator<Item = (&'a wgpu::Buffer, u64, u64)>) -> wgpu::BindGroup {
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .enumerate()
            .map(|(binding, (buffer, offset, bytes))| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: wgpu::BufferSize::new(bytes),
                }),
            })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        })
    }
}
