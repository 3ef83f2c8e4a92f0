//! Which executor a user's choice of device means.

use crate::{
    cpu::CpuExecutor,
    gpu::{self, DeviceChoice, Gpu, GpuError, GpuExecutor, Tuning},
    plan::{Choices, Executor},
};

/// Opens the device that a user names: `cpu`; `auto`, the best GPU or, where there is none, the CPU; `gpu`, the best
/// GPU; or the number or a part of the name of one. A software GPU is opened only by its name.
///
/// # Errors
/// If there is no such device, with the list of those there are, or it cannot be opened.
pub fn open(choice: &str) -> Result<Box<dyn Executor>, GpuError> {
    open_tuned(choice, Tuning::Off, Choices::default())
}

/// As [`open`]; on a GPU, plans take the kernels that `known` says, and the others are chosen by timing them as far as
/// `tuning` allows.
///
/// # Errors
/// As [`open`].
pub fn open_tuned(choice: &str, tuning: Tuning, known: Choices) -> Result<Box<dyn Executor>, GpuError> {
    if choice.eq_ignore_ascii_case("cpu") {
        return Ok(Box::new(CpuExecutor::new()));
    }
    let Ok(choice) = choice.parse::<DeviceChoice>();
    match Gpu::open(&choice)? {
        Some(gpu) => Ok(Box::new(GpuExecutor::new(gpu).tuned(tuning, known))),
        None => Ok(Box::new(CpuExecutor::new())),
    }
}

/// The GPUs that there are, software ones included.
pub fn gpus() -> Vec<gpu::AdapterInfo> {
    gpu::adapters()
}
