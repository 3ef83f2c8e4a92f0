//! How many compute units a GPU has: WebGPU does not tell, so it is measured once and remembered.

use std::{fs, path::PathBuf};

use sha2::{Digest, Sha256};

use super::{Checks, Gpu, GpuError, buffer::padded, cache, profile::device_times, program::Command, shader};
use crate::kernel::gpu::{Binding, LINEAR_WORKGROUP, Pass, Shader};

/// Workgroups that are many on any GPU.
const MANY: u32 = 2048;

/// Rounds of the probe: a workgroup takes a unit about 0.1 ms.
const ROUNDS: usize = 8192;

/// Times that the probe runs, and the first of them, in which the clock of the device rises.
const TIMES: usize = 8;
const RISING: usize = 3;

/// The number of compute units of a GPU, from the user's cache folder or measured; `None` where there is no such folder, so
/// that it would be measured each time anew, or no clock on the device.
pub(super) async fn units(gpu: &Gpu) -> Option<u32> {
    let path = cache_path(gpu).filter(|_| gpu.has_timestamps())?;
    if let Some(known) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return Some(known);
    }
    let measured = measure(gpu, MANY, ROUNDS)
        .await
        .inspect_err(|error| tracing::warn!("compute units were not counted: {error}"))
        .ok()?;
    tracing::debug!("{} has {measured} compute units", gpu.info().name);
    // Failing to write it costs only time at the next start.
    if let Err(error) = cache::write(&path, &[measured.to_string().as_bytes()]) {
        tracing::warn!("{} was not written: {error}", path.display());
    }
    Some(measured)
}

fn cache_path(gpu: &Gpu) -> Option<PathBuf> {
    let info = gpu.info();
    let digest = Sha256::digest(format!("{}\n{}\n{}", info.name, info.backend, info.driver));
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    gpu.cache_folder().map(|folder| folder.join(format!("units_{hash}.txt")))
}

/// How much faster `many` workgroups run together than one after the other: each keeps a unit busy by itself.
async fn measure(gpu: &Gpu, many: u32, rounds: usize) -> Result<u32, GpuError> {
    let elements = (many * LINEAR_WORKGROUP) as usize;
    // The chains of multiplications and additions tend to 2.
    let shader = Shader::file("probe/fma")
        .constant("COUNT", elements)
        .constant("FACTOR", 0.75)
        .constant("OFFSET", 0.5)
        .constant("ROUNDS", rounds);
    let name = shader::name(&shader);
    let pass = Pass { shader, bindings: vec![Binding::Input(0), Binding::Output(0)], workgroups: [many, 1, 1] };
    let pipeline = gpu.pipelines(&[&pass], Checks::Off)?.remove(0);
    let bytes = padded(4 * elements as u64);
    let buffer = |what| gpu.buffer(what, bytes, wgpu::BufferUsages::STORAGE);
    let buffers = [buffer("start of the probe")?, buffer("result of the probe")?];
    let group = gpu.catch(&name, || pipeline.bind(gpu, buffers.iter().map(|buffer| (buffer, 0, bytes))))?;
    let probe = |workgroups: u32| {
        let (name, pipeline, group) = (name.clone(), pipeline.clone(), group.clone());
        (0, Command::Dispatch { name, pipeline, group, workgroups: [workgroups, 1, 1] })
    };
    let probes: Vec<(usize, Command)> = (0..TIMES).flat_map(|_| [probe(many), probe(1)]).collect();
    let times = device_times(gpu, &probes.iter().collect::<Vec<_>>()).await?;
    let count = |pair: &[(_, std::time::Duration)]| {
        f64::from(many) * pair[1].1.as_secs_f64() / pair[0].1.as_secs_f64().max(1e-9)
    };
    let mut counts: Vec<f64> = times.chunks_exact(2).skip(RISING).map(count).collect();
    counts.sort_by(f64::total_cmp);
    Ok((counts[counts.len() / 2].round() as u32).clamp(1, many))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::software_gpu, gpu::wait::block_on};

    #[test]
    fn units_are_counted_and_not_without_a_place_to_remember_them() {
        let Some(gpu) = software_gpu() else { return };
        // As many as cores, which other tests keep busy meanwhile.
        let units = block_on(measure(&gpu, 64, 512)).unwrap();
        assert!((1..64).contains(&units), "{units}");
        assert_eq!(block_on(super::units(&gpu)), None);
    }
}
