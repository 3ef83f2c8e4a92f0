//! Everything that drives wgpu: choosing an adapter, the device, shaders and pipelines, and running them.

mod adapter;
mod buffer;
mod cache;
mod device;
mod error;
mod executor;
mod pipeline;
mod profile;
mod program;
mod readback;
mod shader;
mod single;
mod tune;
mod units;
mod wait;

pub use adapter::{AdapterInfo, AdapterKind, DeviceChoice, adapters};
pub use device::{Gpu, for_tests};
pub use error::GpuError;
pub use executor::GpuExecutor;
pub use pipeline::Checks;
pub use shader::{assemble, shader_files};
pub use single::run_candidate;
