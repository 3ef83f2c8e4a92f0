//! An open device, and what has gone wrong with it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    GpuError,
    adapter::{self, AdapterInfo, DeviceChoice},
    pipeline::Pipelines,
    units::units,
    wait::block_on,
};
use crate::kernel::gpu::Limits;

/// Features that kernels use where the adapter has them.
const WANTED: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS)
    .union(wgpu::Features::PIPELINE_CACHE);

/// An open GPU: device, queue and the pipelines made on it. Shared through [`Arc`] by all that run on it.
///
/// Errors that wgpu reports out of turn and the loss of the device are remembered, and end the next call.
#[derive(Debug)]
pub struct Gpu {
    info: AdapterInfo,
    limits: Limits,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Pipelines,
    cache: Option<PathBuf>,
    pub(super) failures: Arc<Failures>,
}

/// What has gone wrong with a device out of turn.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<GpuError>>,
}

impl Failures {
    /// Notes that the device is lost.
    pub fn lose(&self, reason: String) {
        lock(&self.lost).get_or_insert(reason);
    }

    /// Keeps an error for the next check.
    pub fn remember(&self, error: GpuError) {
        lock(&self.uncaptured).get_or_insert(error);
    }

    /// Fails where the device is lost, or with an error that was remembered since the last check.
    pub fn check(&self) -> Result<(), GpuError> {
        if let Some(reason) = &*lock(&self.lost) {
            return Err(GpuError::Lost { reason: reason.clone() });
        }
        lock(&self.uncaptured).take().map_or(Ok(()), Err)
    }
}

impl Gpu {
    /// Opens the adapter that was asked for; `None` where `auto` finds no GPU.
    ///
    /// # Errors
    /// Where the adapter does not exist or gives no device.
    pub fn open(choice: &DeviceChoice) -> Result<Option<Arc<Self>>, GpuError> {
        block_on(Self::open_async(choice))
    }

    /// As [`Gpu::open`], for a caller that may not block.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_async(choice: &DeviceChoice) -> Result<Option<Arc<Self>>, GpuError> {
        let cache = dirs::cache_dir().map(|dir| dir.join("gabor"));
        Self::open_with_async(choice, cache).await
    }

    /// As [`Gpu::open`], with compiled pipelines and the choice of kernels kept in the folder `cache`, or nowhere.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(choice: &DeviceChoice, cache: Option<PathBuf>) -> Result<Option<Arc<Self>>, GpuError> {
        block_on(Self::open_with_async(choice, cache))
    }

    /// As [`Gpu::open_with`], for a caller that may not block.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_with_async(choice: &DeviceChoice, cache: Option<PathBuf>) -> Result<Option<Arc<Self>>, GpuError> {
        let mut adapters = adapter::enumerate().await;
        let infos: Vec<AdapterInfo> = adapters.iter().map(|a| AdapterInfo::new(&a.get_info())).collect();
        match choice.among(&infos)? {
            Some(at) => Ok(Some(Arc::new(Self::request(&adapters.swap_remove(at), cache).await?))),
            None => Ok(None),
        }
    }

    /// Several devices of the adapter that was asked for, for work that needs no common one: on a software GPU, which
    /// compiles on one thread a device, one for each core. None where `auto` finds no GPU.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_parallel(choice: &DeviceChoice, cache: Option<PathBuf>) -> Result<Vec<Arc<Self>>, GpuError> {
        let Some(first) = Self::open_with(choice, cache.clone())? else { return Ok(Vec::new()) };
        let count = if first.info.software() { rayon::current_num_threads() } else { 1 };
        let mut devices = vec![first];
        while devices.len() < count {
            devices.extend(Self::open_with(choice, cache.clone())?);
        }
        Ok(devices)
    }

    async fn request(adapter: &wgpu::Adapter, cache: Option<PathBuf>) -> Result<Self, GpuError> {
        let adapter_info = adapter.get_info();
        let info = AdapterInfo::new(&adapter_info);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gabor"),
            required_features: adapter.features() & WANTED,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| GpuError::Unusable { adapter: info.name.clone(), message: error.to_string() })?;

        let failures = Arc::new(Failures::default());
        let on_loss = failures.clone();
        device.set_device_lost_callback(move |_, message| {
            on_loss.lose(message);
        });
        let on_error = failures.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            on_error.remember(translate("GPU", error));
        }));

        let limits = limits(&device, &adapter_info, &info);
        let pipelines = Pipelines::new(&device, &adapter_info, cache.clone());
        let mut gpu = Self { info, limits, device, queue, pipelines, cache, failures };
        if !gpu.info.software() {
            gpu.limits.units = units(&gpu).await.unwrap_or(gpu.limits.units);
        }
        Ok(gpu)
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// What the choice of kernels depends on.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where what is learnt about the device outlives the process, if anywhere.
    pub(super) fn cache_folder(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Whether dispatches can be timed on the device itself.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Whether copies can be as well.
    pub(super) fn times_copies(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS)
    }

    /// Fails where the device is lost, or with an error that was reported since the last check.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self) -> Result<(), GpuError> {
        self.failures.check()
    }

    /// Runs `body`, which calls wgpu on this thread only, and returns the first error that wgpu reports meanwhile.
    pub(super) fn catch<R>(&self, what: &str, body: impl FnOnce() -> R) -> Result<R, GpuError> {
        self.check()?;
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| self.device.push_error_scope(filter));
        let result = body();
        // Scopes are a stack: the last one pushed is popped first. Native ones know their error at once.
        let errors = scopes.into_iter().rev().map(|scope| block_on(scope.pop())).collect::<Vec<_>>();
        self.check()?;
        match errors.into_iter().flatten().next() {
            Some(error) => Err(translate(what, error)),
            None => Ok(result),
        }
    }

    /// A buffer of at least `bytes`, rounded up to what bindings and copies can span.
    pub(super) fn buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let size = bytes.next_multiple_of(16).max(16);
        if size > self.limits.max_buffer {
            return Err(GpuError::TooLarge { what: what.into(), bytes, limit: self.limits.max_buffer });
        }
        self.catch(what, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage,
                mapped_at_creation: false,
            })
        })
    }
}

fn translate(what: &str, error: wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what: what.into() },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            GpuError::invalid(what, description)
        }
    }
}

fn limits(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, info: &AdapterInfo) -> Limits {
    let limits = device.limits();
    let subgroups = device.features().contains(wgpu::Features::SUBGROUP);
    Limits {
        max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        offset_alignment: limits.min_storage_buffer_offset_alignment,
        subgroup: subgroups.then_some((adapter.subgroup_min_size, adapter.subgroup_max_size)),
        units: info.kind.usual_units(),
        software: info.software(),
        f16: device.features().contains(wgpu::Features::SHADER_F16),
        adapter: info.name.clone(),
    }
}

/// A poisoned lock only means that another thread panicked: what it guards here stays whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The devices that all tests of a process share, on a software adapter or on the one that the environment variable
/// `GABOR_TEST_DEVICE` names: as many as [`Gpu::open_parallel`] opens. None where there is no such adapter.
pub fn for_tests() -> &'static [Arc<Gpu>] {
    static SHARED: OnceLock<Vec<Arc<Gpu>>> = OnceLock::new();
    SHARED.get_or_init(|| {
        let infos = adapter::adapters();
        let named = std::env::var("GABOR_TEST_DEVICE").ok();
        let software = || infos.iter().find(|info| info.software()).map(|info| info.name.clone());
        let Some(name) = named.or_else(software) else { return Vec::new() };
        Gpu::open_parallel(&DeviceChoice::Named(name), None).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::software_gpu;

    #[test]
    fn a_lost_device_is_an_error_at_every_later_call() {
        let Some(gpu) = software_gpu() else { return };
        let name = gpu.info().name.clone();
        let gpu = Gpu::open_with(&DeviceChoice::Named(name), None).unwrap().unwrap();
        assert_eq!(gpu.check(), Ok(()));
        gpu.device.destroy();
        assert!(matches!(block_on(gpu.wait(None)), Err(GpuError::Lost { .. })));
        assert!(matches!(gpu.buffer("buffer", 4, wgpu::BufferUsages::STORAGE), Err(GpuError::Lost { .. })));
    }

    #[test]
    fn an_invalid_call_is_an_error_and_the_device_goes_on() {
        let Some(gpu) = software_gpu() else { return };
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::STORAGE;
        assert!(matches!(gpu.buffer("buffer", 4, usage), Err(GpuError::Invalid { .. })));
        assert!(matches!(gpu.buffer("buffer", u64::MAX / 2, usage), Err(GpuError::TooLarge { .. })));
        assert!(gpu.buffer("buffer", 4, wgpu::BufferUsages::STORAGE).is_ok());
    }
}
