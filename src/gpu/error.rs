use thiserror::Error;

/// What can go wrong between this program and a GPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GpuError {
    /// A GPU was asked for and there is none.
    #[error("no GPU was found; adapters: {}", listed(.available))]
    NoAdapter {
        /// Names of the adapters that there are, which are all software.
        available: Vec<String>,
    },
    /// An adapter was asked for that does not exist.
    #[error("there is no device {asked:?}; adapters: {}", listed(.available))]
    UnknownDevice {
        /// What was asked for.
        asked: String,
        /// Names of the adapters that there are.
        available: Vec<String>,
    },
    /// The adapter exists but gives no device.
    #[error("{adapter} cannot be used: {message}")]
    Unusable {
        /// Name of the adapter.
        adapter: String,
        /// The driver's message.
        message: String,
    },
    /// Something is larger than the device allows.
    #[error("{what} needs {bytes} bytes, but the device allows {limit}: use a smaller batch or smaller images")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Bytes it needs.
        bytes: u64,
        /// Bytes that the device allows.
        limit: u64,
    },
    /// The device has no memory left.
    #[error("the GPU is out of memory ({what}): use a smaller batch or smaller images")]
    OutOfMemory {
        /// What was being made.
        what: String,
    },
    /// The device is gone: unplugged, reset by the operating system, or its driver crashed.
    #[error("the GPU was lost: {reason}")]
    Lost {
        /// The driver's message.
        reason: String,
    },
    /// A shader does not compile.
    #[error("shader {name}: {message}")]
    Shader {
        /// Name of the shader.
        name: String,
        /// The compiler's message.
        message: String,
    },
    /// A call that wgpu rejects: a mistake in this program.
    #[error("{what}: {message}")]
    Invalid {
        /// What was being done.
        what: String,
        /// The message.
        message: String,
    },
}

impl GpuError {
    pub(super) fn invalid(what: impl Into<String>, message: impl Into<String>) -> Self {
        GpuError::Invalid { what: what.into(), message: message.into() }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.iter().enumerate().map(|(at, name)| format!("{at}: {name}")).collect::<Vec<_>>().join(", ")
}
