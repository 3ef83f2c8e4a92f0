//! What the compiler of Mesa's RADV makes of gabor's kernels, on AMD GPUs that need not be there.
//!
//! Without a file: a table of the kernels that training plans may choose, for each family of GPUs. It fails where a
//! kernel spills registers or uses scratch memory. With a file of plain WGSL: everything that the compiler says of it.
//!
//! Needs Mesa's RADV, which Debian and Ubuntu have in the package mesa-vulkan-drivers, and the Vulkan loader.

mod kernels;
mod machine_code;
mod radv;
mod table;

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use clap::Parser;

use radv::Radv;

/// RADV compiles for the GPU that this variable names instead of looking for one.
const FAMILY: &str = "RADV_FORCE_FAMILY";

/// Variables that name drivers to the Vulkan loader.
const DRIVERS: [&str; 2] = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];

/// What RADV makes of gabor's kernels for AMD GPUs, without one
#[derive(Parser)]
struct Arguments {
    /// Plain WGSL to compile instead of gabor's kernels
    file: Option<PathBuf>,

    /// GPUs to compile for, as RADV names them: NAVI21 is RDNA 2, GFX1100 RDNA 3
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "NAVI21,GFX1100")]
    family: Vec<String>,

    /// Only kernels whose line of the table contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Print the machine code of each kernel too
    #[arg(long)]
    asm: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if env::var_os(FAMILY).is_some() {
        return compile(&arguments);
    }
    // The driver reads the variable once, as it starts: a process for each family.
    let mut clean = true;
    for family in &arguments.family {
        let mut command = Command::new(env::current_exe()?);
        command.args(env::args_os().skip(1)).env(FAMILY, family);
        // The variables may name another driver: lavapipe, where shaders are run too.
        match radv::driver() {
            Some(driver) => {
                command.envs(DRIVERS.map(|name| (name, &driver)));
            }
            None => ensure!(
                DRIVERS.iter().any(|name| env::var_os(name).is_some()),
                "no RADV: install mesa-vulkan-drivers, or name its driver file in {}",
                DRIVERS[0]
            ),
        }
        clean &= command.status()?.success();
    }
    ensure!(clean, "a kernel spills, uses scratch memory or does not compile: see above");
    Ok(())
}

/// Compiles for the one family that the environment names.
fn compile(arguments: &Arguments) -> anyhow::Result<()> {
    let radv = Radv::open()?;
    println!("{}", radv.name());
    let Some(path) = &arguments.file else {
        return table::print(&radv, &arguments.filter, arguments.asm);
    };
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let compiled = radv.compile(&text)?;
    if arguments.asm {
        println!("{}", compiled.machine_code);
    }
    for (name, value) in &compiled.statistics {
        println!("{name}: {value}");
    }
    for inner in machine_code::innermost_loops(&compiled.machine_code) {
        println!("{inner}");
    }
    Ok(())
}
