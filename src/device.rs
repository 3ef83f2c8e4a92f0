//! Which executor a user's choice of device means.

#[cfg(feature = "gpu")]
use std::sync::Arc;

#[cfg(feature = "gpu")]
use crate::gpu::{self, DeviceChoice, Gpu, GpuExecutor};
use crate::{
    cpu::CpuExecutor,
    plan::{Choices, Executor, ExecutorError, Tuning},
};

/// A device that is open. Executors made on one GPU share its compiled shaders.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Arc<Gpu>),
}

impl Device {
    /// Opens the device that a user names: `cpu`; `auto`, the best GPU or, where there is none, the CPU; `gpu`, the best
    /// GPU; or the number or a part of the name of one. A software GPU is opened only by its name.
    ///
    /// # Errors
    /// If there is no such device, with the list of those there are, or it cannot be opened.
    pub fn open(choice: &str) -> Result<Self, ExecutorError> {
        if choice.eq_ignore_ascii_case("cpu") {
            return Ok(Self::Cpu);
        }
        Self::open_gpu(choice)
    }

    #[cfg(feature = "gpu")]
    fn open_gpu(choice: &str) -> Result<Self, ExecutorError> {
        let Ok(choice) = choice.parse::<DeviceChoice>();
        let opened = Gpu::open(&choice).map_err(|error| ExecutorError::Device(error.to_string()))?;
        Ok(opened.map_or(Self::Cpu, Self::Gpu))
    }

    #[cfg(not(feature = "gpu"))]
    fn open_gpu(choice: &str) -> Result<Self, ExecutorError> {
        if choice.eq_ignore_ascii_case("auto") {
            return Ok(Self::Cpu);
        }
        Err(ExecutorError::Device(format!(
            "there is no device {choice:?}: gabor was built without the feature gpu, so that there is only cpu"
        )))
    }

    /// A new executor. On a GPU, plans take the kernels that `known` says, and the others are chosen by timing them as far
    /// as `tuning` allows.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "the CPU has nothing to tune"))]
    pub fn executor(&self, tuning: Tuning, known: Choices) -> Box<dyn Executor> {
        match self {
            Self::Cpu => Box::new(CpuExecutor::new()),
            #[cfg(feature = "gpu")]
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
pub fn open(choice: &str) -> Result<Box<dyn Executor>, ExecutorError> {
    open_tuned(choice, Tuning::Off, Choices::default())
}

/// As [`open`], with kernels chosen as [`Device::executor`] does.
///
/// # Errors
/// As [`Device::open`].
pub fn open_tuned(choice: &str, tuning: Tuning, known: Choices) -> Result<Box<dyn Executor>, ExecutorError> {
    Ok(Device::open(choice)?.executor(tuning, known))
}

/// The GPUs that there are, software ones included.
#[cfg(feature = "gpu")]
pub fn gpus() -> Vec<gpu::AdapterInfo> {
    gpu::adapters()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_not_there_are_errors() {
        assert!(matches!(Device::open("CPU"), Ok(Device::Cpu)));
        let error = open("a device of another machine").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("\"a device of another machine\""), "{error}");
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn without_gpus_the_cpu_computes() {
        assert!(matches!(Device::open("auto"), Ok(Device::Cpu)));
        let error = open("gpu").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("built without the feature gpu"), "{error}");
    }
}
