//! Mesa's compiler for AMD GPUs, through Vulkan.

use std::{collections::BTreeMap, ffi::CStr, fs, path::PathBuf};

use anyhow::{Context, anyhow};
use ash::{khr::pipeline_executable_properties, vk};
use naga::{
    AddressSpace, Module, ShaderStage,
    back::spv,
    valid::{Capabilities, ValidationFlags, Validator},
};

/// A device of RADV. Lives as long as the process.
pub struct Radv {
    _vulkan: ash::Entry,
    device: ash::Device,
    executables: pipeline_executable_properties::Device,
    name: String,
}

/// What the compiler says of a shader.
pub struct Compiled {
    /// Numbers by the compiler's names for them.
    pub statistics: BTreeMap<String, u64>,
    /// Its machine code as text.
    pub machine_code: String,
}

impl Compiled {
    /// A number by the compiler's name for it; 0 where this driver does not give it.
    pub fn statistic(&self, name: &str) -> u64 {
        self.statistics.get(name).copied().unwrap_or(0)
    }

    /// Registers that were moved to memory.
    pub fn spilled(&self) -> u64 {
        self.statistic("Spilled VGPRs") + self.statistic("Spilled SGPRs")
    }

    /// Bytes of memory for what did not fit into registers.
    pub fn scratch(&self) -> u64 {
        self.statistic("Scratch size")
    }
}

/// The file that names RADV to the Vulkan loader. Its name holds the architecture in some versions of Mesa.
pub fn driver() -> Option<PathBuf> {
    let folders = ["/usr/share", "/usr/local/share", "/etc"].map(|folder| format!("{folder}/vulkan/icd.d"));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    files.map(|file| file.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("radeon_icd") && name.ends_with(".json")
    })
}

impl Radv {
    /// Opens the first device of the driver.
    ///
    /// # Errors
    /// Where there is no Vulkan, no device, or the device cannot say what it compiled.
    pub fn open() -> anyhow::Result<Self> {
        // SAFETY: the calls follow Vulkan's rules of valid usage: structures are complete and outlive the calls, and
        // the instance and the device are never destroyed.
        unsafe {
            let vulkan = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance =
                vulkan.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
            let gpu = *instance.enumerate_physical_devices()?.first().context("no Vulkan device")?;
            let name = text(instance.get_physical_device_properties(gpu).device_name_as_c_str()?);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let extensions = [pipeline_executable_properties::NAME.as_ptr()];
            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut varying_subgroups = vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(true);
            let mut memory_model = vk::PhysicalDeviceVulkan12Features::default().vulkan_memory_model(true);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut executables)
                .push_next(&mut varying_subgroups)
                .push_next(&mut memory_model);
            let device = instance.create_device(gpu, &info, None)?;
            let executables = pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { _vulkan: vulkan, device, executables, name })
        }
    }

    /// The device as the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compiles the first entry point of plain WGSL as gabor does: without bounds checks, limits of loops or zeroed
    /// workgroup memory.
    ///
    /// # Errors
    /// Where it is not valid or the driver does not take it.
    pub fn compile(&self, wgsl: &str) -> anyhow::Result<Compiled> {
        let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| anyhow!(error.emit_to_string(wgsl)))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .map_err(|error| anyhow!(error.emit_to_string(wgsl)))?;
        let entry = module.entry_points.first().context("no entry point")?.name.clone();
        let options = spv::Options {
            lang_version: (1, 3),
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            ..Default::default()
        };
        let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.clone() };
        let code = spv::write_vec(&module, &info, &options, Some(&pipeline))?;
        let entry = std::ffi::CString::new(entry)?;
        // SAFETY: naga has validated the module that the code was written from.
        unsafe { self.compile_spirv(&code, &entry, &bindings(&module)) }
    }

    /// # Safety
    /// `code` must be valid SPIR-V with a compute entry point `entry` and no other bindings than these of group 0.
    unsafe fn compile_spirv(
        &self,
        code: &[u32],
        entry: &CStr,
        bindings: &[vk::DescriptorSetLayoutBinding<'_>],
    ) -> anyhow::Result<Compiled> {
        // SAFETY: as for `open`; what is made here is destroyed once nothing refers to it any more.
        unsafe {
            let device = &self.device;
            let set = device
                .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(bindings), None)?;
            let sets = [set];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            let shader = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(code), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                // As wgpu compiles for a device with subgroup operations.
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(shader)
                .name(entry);
            let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(capture);
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let compiled = pipelines.map_err(|(_, error)| error.into()).and_then(|pipelines| {
                let compiled = self.inspect(pipelines[0]);
                device.destroy_pipeline(pipelines[0], None);
                compiled
            });
            device.destroy_shader_module(shader, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set, None);
            compiled
        }
    }

    /// # Safety
    /// `pipeline` must be a pipeline of this device that was made to be inspected.
    unsafe fn inspect(&self, pipeline: vk::Pipeline) -> anyhow::Result<Compiled> {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: as for `open`; the buffers that texts are written to have the sizes that the driver asked for.
        unsafe {
            let statistics = self.executables.get_pipeline_executable_statistics(&executable)?;
            let statistics = statistics
                .iter()
                .filter(|statistic| statistic.format == vk::PipelineExecutableStatisticFormatKHR::UINT64)
                .map(|statistic| Ok((text(statistic.name_as_c_str()?), statistic.value.u64)))
                .collect::<anyhow::Result<_>>()?;
            // Asked twice: the first answer holds the sizes, the second fills the texts.
            let mut forms = self.executables.get_pipeline_executable_internal_representations(&executable)?;
            let mut texts: Vec<Vec<u8>> = forms.iter().map(|form| vec![0; form.data_size]).collect();
            for (form, text) in forms.iter_mut().zip(&mut texts) {
                form.p_data = text.as_mut_ptr().cast();
            }
            let mut count = forms.len() as u32;
            (self.executables.fp().get_pipeline_executable_internal_representations_khr)(
                self.device.handle(),
                &executable,
                &mut count,
                forms.as_mut_ptr(),
            )
            .result()?;
            // From the source to the machine code.
            let last = texts.pop().context("the driver gives no machine code")?;
            let machine_code = String::from_utf8_lossy(&last).trim_end_matches('\0').to_string();
            Ok(Compiled { statistics, machine_code })
        }
    }
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// The bindings of group 0.
fn bindings(module: &Module) -> Vec<vk::DescriptorSetLayoutBinding<'static>> {
    let binding = |variable: &naga::GlobalVariable| {
        let descriptor = match variable.space {
            AddressSpace::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
            AddressSpace::Storage { .. } => vk::DescriptorType::STORAGE_BUFFER,
            _ => return None,
        };
        let binding = vk::DescriptorSetLayoutBinding::default()
            .binding(variable.binding.as_ref()?.binding)
            .descriptor_count(1)
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .descriptor_type(descriptor);
        Some(binding)
    };
    module.global_variables.iter().filter_map(|(_, variable)| binding(variable)).collect()
}
