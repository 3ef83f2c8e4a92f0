//! Which executor a user's choice of device means.

use crate::{
    cpu::CpuExecutor,
    gpu::{self, DeviceChoice, Gpu, GpuError, GpuExecutor},
    plan::Executor,
};

/// Opens the device that a user names: `cpu`; `auto`, the best GPU or, where there is none, the CPU; `gpu`, the best
/// GPU; or the number or a part of the name of one. A software GPU is opened only by its name.
///
/// # Errors
/// If there is no such device, with the list of those there are, or it cannot be opened.
pub fn open(choice: &str) -> Result<Box<dyn Executor>, GpuError> {
    if choice.eq_ignore_ascii_case("cpu") {
        return Ok(Box::new(CpuExecutor::new()));
    }
    let Ok(choice) = choice.parse::<DeviceChoice>();
    match Gpu::open(&choice)? {
        Some(gpu) => Ok(Box::new(GpuExecutor::new(gpu))),
        None => Ok(Box::new(CpuExecutor::new())),
    }
}

/// The GPUs that there are, software ones included.
pub fn gpus() -> Vec<gpu::AdapterInfo> {
    gpu::adapters()
}
