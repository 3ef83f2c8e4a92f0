//! The table of gabor's kernels.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use gabor::gpu::assemble;
use rayon::prelude::*;

use crate::{
    kernels::{self, Kernel},
    machine_code::innermost_loops,
    radv::{Compiled, Radv},
};

/// Prints a line for each kernel whose file and candidate contain `filter`.
///
/// # Errors
/// Where a kernel does not compile, spills registers or uses scratch memory.
pub fn print(radv: &Radv, filter: &str, machine_code: bool) -> anyhow::Result<()> {
    let mut kernels = kernels::all()?;
    kernels.retain(|kernel| format!("{} {}", kernel.file, kernel.candidate).contains(filter));
    let compile = |kernel: &Kernel| -> anyhow::Result<Compiled> {
        let text = assemble(&kernel.shader)?;
        radv.compile(&text).with_context(|| format!("{} ({})", kernel.file, kernel.candidate))
    };
    let compiled: Vec<Compiled> = kernels.par_iter().map(compile).collect::<Result<_, _>>()?;

    println!(
        "{:<28} {:<26} {:>5} {:>5} {:>7} {:>7} {:>6} {:>5}  hot loop",
        "shader", "candidate", "VGPRs", "SGPRs", "spilled", "scratch", "LDS", "waves"
    );
    let mut printed = HashSet::new();
    for (kernel, compiled) in kernels.iter().zip(&compiled) {
        let line = line(kernel, compiled);
        // Kernels of which the compiler makes the same are shown once.
        if printed.insert(line.clone()) {
            println!("{line}");
            if machine_code {
                println!("{}", compiled.machine_code);
            }
        }
    }
    let bad = compiled.iter().filter(|compiled| compiled.spilled() + compiled.scratch() > 0).count();
    println!("{} kernels, {bad} with spills or scratch memory", compiled.len());
    ensure!(bad == 0, "{bad} kernels spill registers or use scratch memory");
    Ok(())
}

fn line(kernel: &Kernel, compiled: &Compiled) -> String {
    let hot = innermost_loops(&compiled.machine_code).into_iter().max_by_key(|inner| inner.fma());
    let hot = hot.filter(|inner| inner.fma() > 0);
    format!(
        "{:<28} {:<26} {:>5} {:>5} {:>7} {:>7} {:>6} {:>5}  {}",
        kernel.file,
        kernel.candidate,
        compiled.statistic("VGPRs"),
        compiled.statistic("SGPRs"),
        compiled.spilled(),
        compiled.scratch(),
        compiled.statistic("LDS size"),
        compiled.statistic("Subgroups per SIMD"),
        hot.map(|inner| format!("{:.0}% fma of {}", inner.share(), inner.instructions())).unwrap_or_default(),
    )
    .trim_end()
    .to_string()
}
