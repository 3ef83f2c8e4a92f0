//! Compiled shaders.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Gpu, GpuError, cache,
    device::lock,
    shader::{assemble, name},
};
use crate::kernel::gpu::{Binding, Pass, Shader, Source};

/// Whether shaders are compiled with naga's bounds checks and loop bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checks {
    /// With them: for tests.
    On,
    /// Without, except in shaders from outside this crate: its own guard their own edges.
    Off,
}

/// A compiled shader and the layout of its bindings.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub compute: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What makes two passes share a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    shader: Shader,
    /// For each binding, whether it is only read.
    read_only: Vec<bool>,
    checks: Checks,
}

/// The pipelines of a device, made once each, and the driver's cache of compiled code.
#[derive(Debug)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Arc<Pipeline>>>,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
}

impl Pipelines {
    /// With the driver's cache in a file of `folder`, where the driver has one.
    pub fn new(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, folder: Option<PathBuf>) -> Self {
        let supported = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let path = folder.filter(|_| supported).and_then(|folder| Some(folder.join(cache_name(adapter)?)));
        let cache = path.map(|path| {
            let data = read_cache(&path);
            let descriptor =
                wgpu::PipelineCacheDescriptor { label: Some("gabor"), data: data.as_deref(), fallback: true };
            // SAFETY: the file's checksum says that this is what get_data returned, and its name and the header that
            // wgpu checks say that it was this driver.
            (unsafe { device.create_pipeline_cache(&descriptor) }, path)
        });
        Self { made: Mutex::default(), cache }
    }
}

impl Gpu {
    /// The pipelines of `passes`. Those not made yet are compiled in parallel.
    pub(super) fn pipelines(&self, passes: &[&Pass], checks: Checks) -> Result<Vec<Arc<Pipeline>>, GpuError> {
        let keys: Vec<Key> = passes.iter().map(|pass| Key::new(pass, checks)).collect();
        let mut missing: Vec<&Key> = Vec::new();
        {
            let made = lock(&self.pipelines.made);
            for key in &keys {
                if !made.contains_key(key) && !missing.contains(&key) {
                    missing.push(key);
                }
            }
        }
        let compiled = missing.par_iter().map(|key| Ok(Arc::new(self.compile(key)?))).collect::<Result<Vec<_>, _>>()?;
        let any = !missing.is_empty();
        let mut made = lock(&self.pipelines.made);
        made.extend(missing.into_iter().cloned().zip(compiled));
        let found = keys.iter().map(|key| made[key].clone()).collect();
        drop(made);
        if any {
            self.save_pipelines();
        }
        Ok(found)
    }

    fn compile(&self, key: &Key) -> Result<Pipeline, GpuError> {
        let shader = key.shader.clone().feature("SOFTWARE", self.limits().software);
        let text = assemble(&shader)?;
        let name = name(&key.shader);
        let entries: Vec<wgpu::BindGroupLayoutEntry> = key
            .read_only
            .iter()
            .enumerate()
            .map(|(binding, &read_only)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let compiled = self.catch(&name, || {
            let module = wgpu::ShaderModuleDescriptor {
                label: Some(&name),
                source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
            };
            let module = if key.unchecked() {
                // SAFETY: the shaders of this crate guard their own edges, end their loops and never divide by 0; the
                // tests run each of them with the checks too and compare.
                unsafe { self.device.create_shader_module_trusted(module, wgpu::ShaderRuntimeChecks::unchecked()) }
            } else {
                self.device.create_shader_module(module)
            };
            let layout = self
                .device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&name), entries: &entries });
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let compute = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: self.pipelines.cache.as_ref().map(|(cache, _)| cache),
            });
            Pipeline { compute, layout }
        });
        compiled.map_err(|error| match error {
            GpuError::Invalid { message, .. } => GpuError::Shader { name, message },
            other => other,
        })
    }

    /// Writes the driver's cache to its file. Failing to costs only time at the next start, so it is only logged.
    fn save_pipelines(&self) {
        if let Some((cache, path)) = &self.pipelines.cache
            && let Some(data) = cache.get_data()
            && let Err(error) = write_cache(path, &data)
        {
            tracing::warn!("the pipeline cache {} was not written: {error}", path.display());
        }
    }
}

impl Key {
    fn new(pass: &Pass, checks: Checks) -> Self {
        let read_only =
            |binding: &Binding| matches!(binding, Binding::Input(_) | Binding::OutputRead(_) | Binding::ScratchRead(_));
        Self { shader: pass.shader.clone(), read_only: pass.bindings.iter().map(read_only).collect(), checks }
    }

    fn unchecked(&self) -> bool {
        self.checks == Checks::Off && matches!(self.shader.source, Source::File(_))
    }
}

/// File name of the cache of this adapter and driver version; `None` where the API has no such cache.
fn cache_name(adapter: &wgpu::AdapterInfo) -> Option<String> {
    let key = wgpu::util::pipeline_cache_key(adapter)?;
    let driver = Sha256::digest(format!("{}\n{}\n{}", adapter.name, adapter.driver, adapter.driver_info));
    let driver: String = driver.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{key}_{driver}"))
}

/// Contents of a cache file, which begins with their checksum; `None` where it is missing or damaged.
fn read_cache(path: &Path) -> Option<Vec<u8>> {
    let file = fs::read(path).ok()?;
    let (checksum, data) = file.split_at_checked(32)?;
    (Sha256::digest(data).as_slice() == checksum).then(|| data.to_vec())
}

fn write_cache(path: &Path, data: &[u8]) -> io::Result<()> {
    cache::write(path, &[&Sha256::digest(data), data])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cache_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/cache");
        assert_eq!(read_cache(&path), None);
        write_cache(&path, b"compiled").unwrap();
        assert_eq!(read_cache(&path).as_deref(), Some(&b"compiled"[..]));
        let mut file = fs::read(&path).unwrap();
        *file.last_mut().unwrap() ^= 1;
        fs::write(&path, &file).unwrap();
        assert_eq!(read_cache(&path), None);
        fs::write(&path, &file[..20]).unwrap();
        assert_eq!(read_cache(&path), None);
    }
}
