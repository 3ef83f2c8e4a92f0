//! Which vector instructions the CPU kernels use.

use std::{cell::Cell, env, fmt, sync::OnceLock};

use pulp::Arch;
use thiserror::Error;

/// The environment variable that chooses an instruction set.
const VARIABLE: &str = "GABOR_CPU";

/// A processor's vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// None: what every processor of this architecture has.
    Scalar,
    /// 256-bit vectors and fused multiply-add of x86-64-v3: Intel since Haswell, AMD since Zen.
    Avx2,
    /// 512-bit vectors of x86-64-v4: Intel's servers, AMD since Zen 4.
    Avx512,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
}

/// An instruction set that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InstructionSetError {
    /// There is none of this name.
    #[error("{VARIABLE}={name}: there is no such instruction set; this processor has {}", available())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The processor does not have it.
    #[error("{VARIABLE}={set}: this processor does not have it; it has {}", available())]
    Missing {
        /// What was asked for.
        set: InstructionSet,
    },
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Neon];

    /// Those that this processor has, the widest last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.arch().is_some())
    }

    /// What CPU kernels use: what the environment variable `GABOR_CPU` says (`scalar`, `avx2`, `avx512` or `neon`), or the
    /// widest that this processor has. The `gemm` crate, which multiplies matrices, chooses for itself.
    ///
    /// # Errors
    /// If the variable names none that this processor has. Kernels then use the widest.
    pub fn chosen() -> Result<Self, InstructionSetError> {
        match env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => Ok(Self::available().last().unwrap_or(Self::Scalar)),
        }
    }

    fn named(name: &str) -> Result<Self, InstructionSetError> {
        let set = Self::ALL.into_iter().find(|set| set.to_string().eq_ignore_ascii_case(name));
        let set = set.ok_or_else(|| InstructionSetError::Unknown { name: name.escape_debug().to_string() })?;
        set.arch().map(|_| set).ok_or(InstructionSetError::Missing { set })
    }

    fn arch(self) -> Option<Arch> {
        match self {
            Self::Scalar => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => None,
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        })
    }
}

fn available() -> String {
    InstructionSet::available().map(|set| set.to_string()).collect::<Vec<_>>().join(", ")
}

thread_local! {
    static OF_THREAD: Cell<Option<Arch>> = const { Cell::new(None) };
}

/// What kernels that are called on this thread are compiled for.
#[inline]
pub(crate) fn arch() -> Arch {
    static CHOSEN: OnceLock<Arch> = OnceLock::new();
    OF_THREAD.get().unwrap_or_else(|| {
        *CHOSEN.get_or_init(|| InstructionSet::chosen().ok().and_then(InstructionSet::arch).unwrap_or_default())
    })
}

/// Runs `body` on threads of its own whose kernels use `set`, which this processor must have.
#[cfg(test)]
pub(crate) fn with<R: Send>(set: InstructionSet, body: impl FnOnce() -> R + Send) -> R {
    let arch = set.arch().expect("an instruction set of this processor");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).start_handler(move |_| OF_THREAD.set(Some(arch)));
    pool.build().expect("two threads").install(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_has_one_and_errors_list_them() {
        assert_eq!(InstructionSet::available().next(), Some(InstructionSet::Scalar));
        assert_eq!(InstructionSet::named("SCALAR"), Ok(InstructionSet::Scalar));
        let error = InstructionSet::named("mmx").unwrap_err().to_string();
        assert!(error.contains("GABOR_CPU=mmx") && error.contains("scalar"), "{error}");
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        assert!(matches!(InstructionSet::named(foreign), Err(InstructionSetError::Missing { .. })));
    }

    #[test]
    fn threads_of_a_pool_take_its_set() {
        let inside = with(InstructionSet::Scalar, || rayon::join(arch, arch));
        assert!(matches!(inside, (Arch::Scalar, Arch::Scalar)));
    }
}
