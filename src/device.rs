//! Which executor a user's choice of device means.

use std::sync::Arc;

use crate::{
    cpu::CpuExecutor,
    gpu::{self, DeviceChoice, Gpu, GpuError, GpuExecutor, Tuning},
    plan::{Choices, Executor},
};

/// A device that is open. Executors made on one GPU share its compiled shaders.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A GPU.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// Opens the device that a user names: `cpu`; `auto`, the best GPU or, where there is none, the CPU; `gpu`, the best
    /// GPU; or the number or a part of the name of one. A software GPU is opened only by its name.
    ///
    /// # Errors
    /// If there is no such device, with the list of those there are, or it cannot be opened.
    pub fn open(choice: &str) -> Result<Self, GpuError> {
        if choice.eq_ignore_ascii_case("cpu") {
            return Ok(Self::Cpu);
        }
        let Ok(choice) = choice.parse::<DeviceChoice>();
        Ok(Gpu::open(&choice)?.map_or(Self::Cpu, Self::Gpu))
    }

    /// A new executor. On a GPU, plans take the kernels that `known` says, and the others are chosen by timing them as far
    /// as `tuning` allows.
    pub fn executor(&self, tuning: Tuning, known: Choices) -> Box<dyn Executor> {
        match self {
            Self::Cpu => Box::new(CpuExecutor::new()),
            Self::Gpu(gpu) => Box::new(GpuExecutor::new(gpu.clone()).tuned(tuning, known)),
        }
    }
}

/// The executor that others are held to, in which each value of a run can be looked at.
pub fn reference() -> CpuExecutor {
    CpuExecutor::new()
}

/// An executor on the device that a user names, see [`Device::open`].
///
/// # Errors
/// As [`Device::open`].
pub fn open(choice: &str) -> Result<Box<dyn Executor>, GpuError> {
    open_tuned(choice, Tuning::Off, Choices::default())
}

/// As [`open`], with kernels chosen as [`Device::executor`] does.
///
/// # Errors
/// As [`Device::open`].
pub fn open_tuned(choice: &str, tuning: Tuning, known: Choices) -> Result<Box<dyn Executor>, GpuError> {
    Ok(Device::open(choice)?.executor(tuning, known))
}

/// The GPUs that there are, software ones included.
pub fn gpus() -> Vec<gpu::AdapterInfo> {
    gpu::adapters()
}
