//! Which GPUs there are, and choosing one.

use std::{convert::Infallible, fmt, str::FromStr, sync::OnceLock};

use super::{GpuError, wait::block_on};

/// What is known of an adapter before it is opened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AdapterInfo {
    /// Name, such as `NVIDIA GeForce RTX 3060`.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// The API it is driven through: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// What kind of device it is.
    pub kind: AdapterKind,
    /// Name and version of the driver.
    pub driver: String,
}

/// Kinds of adapters, most wanted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card with its own memory.
    Discrete,
    /// Part of the processor's package, with shared memory.
    Integrated,
    /// A GPU that a virtual machine was given.
    Virtual,
    /// The driver does not say.
    Other,
    /// No GPU: the processor runs the shaders (lavapipe, WARP, SwiftShader).
    Software,
}

/// The device that a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best GPU, if there is one.
    Auto,
    /// The best GPU; an error if there is none.
    Gpu,
    /// The adapter of this number, or the best of those whose name contains this text in any case.
    Named(String),
}

impl FromStr for DeviceChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.to_lowercase().as_str() {
            "auto" => DeviceChoice::Auto,
            "gpu" => DeviceChoice::Gpu,
            _ => DeviceChoice::Named(text.to_string()),
        })
    }
}

impl DeviceChoice {
    /// Number of the adapter to open; `None` where [`DeviceChoice::Auto`] finds no GPU. A software adapter is chosen
    /// only by name.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] and [`GpuError::UnknownDevice`], which list the adapters that there are.
    pub fn among(&self, adapters: &[AdapterInfo]) -> Result<Option<usize>, GpuError> {
        let available = || adapters.iter().map(|a| a.name.clone()).collect();
        let best = |wanted: &dyn Fn(usize) -> bool| {
            (0..adapters.len()).filter(|at| wanted(*at)).min_by_key(|at| adapters[*at].preference())
        };
        let gpu = |at: usize| !adapters[at].software();
        match self {
            DeviceChoice::Auto => Ok(best(&gpu)),
            DeviceChoice::Gpu => best(&gpu).map(Some).ok_or_else(|| GpuError::NoAdapter { available: available() }),
            DeviceChoice::Named(asked) => {
                let lower = asked.to_lowercase();
                let by_number = asked.parse::<usize>().ok().filter(|at| *at < adapters.len());
                let named = |at: usize| !lower.is_empty() && adapters[at].name.to_lowercase().contains(&lower);
                by_number
                    .or_else(|| best(&named))
                    .map(Some)
                    .ok_or_else(|| GpuError::UnknownDevice { asked: asked.clone(), available: available() })
            }
        }
    }
}

impl AdapterKind {
    /// Compute units that such a device usually has, which WebGPU does not tell. Tests see on a software one what a graphics
    /// card would be given.
    pub(super) fn usual_units(self) -> u32 {
        match self {
            AdapterKind::Discrete | AdapterKind::Software => 96,
            AdapterKind::Integrated => 16,
            AdapterKind::Virtual | AdapterKind::Other => 32,
        }
    }
}

impl AdapterInfo {
    /// Whether the processor runs the shaders.
    pub fn software(&self) -> bool {
        self.kind == AdapterKind::Software
    }

    /// Smaller is better. One GPU may appear under two APIs: naga's Vulkan and Metal output is the most direct.
    fn preference(&self) -> (AdapterKind, bool) {
        (self.kind, self.backend == "dx12")
    }

    pub(super) fn new(info: &wgpu::AdapterInfo) -> Self {
        let name = info.name.to_lowercase();
        let software = ["llvmpipe", "swiftshader", "basic render"].iter().any(|s| name.contains(s));
        let kind = match info.device_type {
            _ if software => AdapterKind::Software,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Other => AdapterKind::Other,
        };
        Self {
            name: info.name.clone(),
            vendor: vendor(info.vendor),
            backend: info.backend.to_str().to_string(),
            kind,
            driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_string(),
        }
    }
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {}, {}, {})", self.name, self.vendor, self.kind, self.backend, self.driver)
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Other => "GPU",
            AdapterKind::Software => "software",
        })
    }
}

fn vendor(id: u32) -> String {
    match id {
        0x1002 | 0x1022 => "AMD".into(),
        0x10de => "NVIDIA".into(),
        0x8086 => "Intel".into(),
        0x106b => "Apple".into(),
        0x13b5 => "Arm".into(),
        0x1414 => "Microsoft".into(),
        0x1010 => "Imagination".into(),
        0x5143 => "Qualcomm".into(),
        0x10005 => "Mesa".into(),
        0x1ae0 => "Google".into(),
        id => format!("vendor {id:#06x}"),
    }
}

/// The adapters of this machine, in the order in which [`DeviceChoice::Named`] numbers them.
pub fn adapters() -> Vec<AdapterInfo> {
    block_on(enumerate()).iter().map(|adapter| AdapterInfo::new(&adapter.get_info())).collect()
}

pub(super) async fn enumerate() -> Vec<wgpu::Adapter> {
    // One for the whole process: drivers list no adapters any more after some dozens of them.
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| {
        // Without OpenGL: it would list each GPU once more, and its compute shaders fall short of what the kernels need.
        let descriptor = wgpu::InstanceDescriptor {
            backends: wgpu::Backends::PRIMARY,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        wgpu::Instance::new(descriptor.with_env())
    });
    instance.enumerate_adapters(wgpu::Backends::PRIMARY).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind, backend: &str) -> AdapterInfo {
        AdapterInfo { name: name.into(), vendor: "AMD".into(), backend: backend.into(), kind, driver: String::new() }
    }

    fn machine() -> Vec<AdapterInfo> {
        vec![
            adapter("llvmpipe (LLVM 15)", AdapterKind::Software, "vulkan"),
            adapter("Radeon 780M", AdapterKind::Integrated, "vulkan"),
            adapter("Radeon RX 7600", AdapterKind::Discrete, "dx12"),
            adapter("Radeon RX 7600", AdapterKind::Discrete, "vulkan"),
        ]
    }

    fn choose(asked: &str, adapters: &[AdapterInfo]) -> Result<Option<usize>, GpuError> {
        let Ok(choice) = asked.parse::<DeviceChoice>();
        choice.among(adapters)
    }

    #[test]
    fn the_best_gpu_is_chosen_and_software_only_by_name() {
        assert_eq!(choose("auto", &machine()), Ok(Some(3)));
        assert_eq!(choose("GPU", &machine()), Ok(Some(3)));
        assert_eq!(choose("radeon", &machine()), Ok(Some(3)));
        assert_eq!(choose("780m", &machine()), Ok(Some(1)));
        assert_eq!(choose("2", &machine()), Ok(Some(2)));
        assert_eq!(choose("LLVMpipe", &machine()), Ok(Some(0)));
        assert_eq!(choose("auto", &machine()[..1]), Ok(None));
    }

    #[test]
    fn errors_list_what_there_is() {
        let error = choose("geforce", &machine()).unwrap_err().to_string();
        assert!(error.contains("geforce") && error.contains("1: Radeon 780M"), "{error}");
        let error = choose("gpu", &machine()[..1]).unwrap_err().to_string();
        assert!(error.contains("0: llvmpipe"), "{error}");
        assert!(choose("gpu", &[]).unwrap_err().to_string().contains("none"));
    }
}
